"""Marian: MarianMTModel, the encoder-decoder of Vaswani et al. 2017."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from zoo.errors import UserError
from zoo.exchange.family import Family, Key, Tensor, linear, norm
from zoo.schema import Recipe

SHARED = Key("share_encoder_decoder_embeddings", True)
ALIKE = ("heads", "inner")  # fields of a recipe that config.json has once for each stack
ATTENTION = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out"}


class Marian(Family):
    """Source: transformers' modeling_marian.py; matrices are [outputs, inputs]."""

    model_type = "marian"
    like = "transformer-base"
    vocabulary = Key("vocab_size", 58101)
    keys: ClassVar[dict[str, Key]] = {
        "width": Key("d_model", 1024),
        "layers": Key("decoder_layers", 12),
        "encoder_layers": Key("encoder_layers", 12),
        "heads": Key("decoder_attention_heads", 16),
        "context": Key("max_position_embeddings", 1024),
        "inner": Key("decoder_ffn_dim", 4096),
        "activation": Key("activation_function", "gelu"),
        "embedding_scale": Key("scale_embedding", False),
        "init_std": Key("init_std", 0.02),
        "dropout": Key("dropout", 0.1),
        "attention_dropout": Key("attention_dropout", 0.0),
        "inner_dropout": Key("activation_dropout", 0.0),
    }
    computes: ClassVar[dict[str, Collection[Any]]] = {
        "objective.name": ("translation",),
        "model.norm": ("post",),
        "model.norm_epsilon": (1e-5,),
        "model.positions": ("sinusoidal",),
        "model.segments": (0,),
        "model.embedding_norm": (False,),
        "model.encoder_layers": range(1, 2**31),
        "model.head_transform": (False,),
    }
    unless: ClassVar[dict[str, Any]] = {
        "is_encoder_decoder": True,
        "static_position_embeddings": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
    }
    tied: ClassVar[dict[str, str]] = {
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    }
    inputs = ("input_ids", "attention_mask")
    ends = "eod"
    frame = (("A", 0), ("B", 1), ("eod", 0))

    def architecture(self, recipe: Recipe, absent: frozenset[str]) -> str:
        return "MarianMTModel"

    def repeats(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        return self.tied if SHARED.of(config) else {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def idle(self, names: Collection[str]) -> set[str]:
        """Sinusoids that older folders hold."""
        return {name for name in names if name.endswith(".embed_positions.weight")}

    def check(self, config: Mapping[str, Any]) -> None:
        super().check(config)
        for key in (self.keys[field] for field in ALIKE):
            other = _of_encoder(key)
            if (one := key.of(config)) != (two := other.of(config)):
                raise UserError(f"config.json: {other.name} is {two} and {key.name} {one}; the zoo computes equal ones")

    def config(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        found = super().config(recipe, ids)
        return {
            **found,
            **{_of_encoder(self.keys[field]).name: found[self.keys[field].name] for field in ALIKE},
            "vocab_size": recipe.source_size or recipe.tokenizer.size,
            "decoder_vocab_size": recipe.tokenizer.size,
            SHARED.name: recipe.source_size is None,
            "static_position_embeddings": True,
            "is_encoder_decoder": True,
            "forced_eos_token_id": None,
            **_first(ids),
        }

    def generation(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """As `zoo.use.translate` looks for texts.

        Unlike its length penalty, ((5 + length) / 6) ** 0.6, theirs is length ** 0.6.
        """
        never = [ids["bos_token_id"], ids["pad_token_id"]]
        search = {"num_beams": 4, "length_penalty": 0.6, "max_length": recipe.model.context}
        return {**ids, **_first(ids), **search, "suppress_tokens": None if None in never else never}

    def rows(self, config: Mapping[str, Any]) -> dict[str, tuple[Key, int]]:
        source = (self.vocabulary, self.vocabulary.of(config))
        if SHARED.of(config):
            return {"tokenizer": source}
        key = Key("decoder_vocab_size", source[1])
        return {"tokenizer": (key, key.of(config)), "source_tokenizer": source}

    def model(self, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Without those biases that are zero throughout, as `tensors` writes them for a recipe that has none."""
        attention = [name for name in arrays if name.endswith("_proj.bias")]
        return {
            **super().model(config, arrays),
            "attention_bias": any(arrays[name].any() for name in attention),
            "head_bias": "final_logits_bias" in arrays and bool(arrays["final_logits_bias"].any()),
        }

    def tensors(self, recipe: Recipe) -> list[Tensor]:
        model, width, size = recipe.model, recipe.model.width, recipe.tokenizer.size

        def dense(theirs: str, ours: str, inputs: int = width, outputs: int = width) -> list[Tensor]:
            return linear(theirs, (ours,), inputs, outputs, transposed=True)

        def attention(theirs: str, ours: str) -> list[Tensor]:
            found = []
            for their_name, name in ATTENTION.items():
                weight, bias = dense(f"{theirs}.{their_name}", f"{ours}.{name}")
                found += [weight, bias if model.attention_bias else bias._replace(ours=())]
            return found + norm(f"{theirs}_layer_norm", f"{ours}_norm", width)

        tables = {"model.shared": ("embed", size)}
        if recipe.source_size is not None:
            tables = {"model.encoder.embed_tokens": ("source_embed", recipe.source_size)}
            tables["model.decoder.embed_tokens"] = ("embed", size)
        found = [
            Tensor(f"{theirs}.weight", (rows, width), (f"{ours}.token.table",))
            for theirs, (ours, rows) in tables.items()
        ]
        stacks = (("encoder", "encoder_blocks", model.encoder_layers), ("decoder", "blocks", model.layers))
        for stack, blocks, layers in stacks:
            for n in range(layers):
                theirs, ours = f"model.{stack}.layers.{n}", f"{blocks}.{n}"
                found += attention(f"{theirs}.self_attn", f"{ours}.attend")
                if stack == "decoder":
                    found += attention(f"{theirs}.encoder_attn", f"{ours}.cross")
                found += dense(f"{theirs}.fc1", f"{ours}.inner.up", outputs=model.inner_width)
                found += dense(f"{theirs}.fc2", f"{ours}.inner.down", inputs=model.inner_width)
                found += norm(f"{theirs}.final_layer_norm", f"{ours}.inner_norm", width)
        return [*found, Tensor("final_logits_bias", (1, size), ("head.bias",) if model.head_bias else ())]


def _of_encoder(key: Key) -> Key:
    return key._replace(name=key.name.replace("decoder", "encoder"))


def _first(ids: Mapping[str, int | None]) -> dict[str, int]:
    """The token that a text begins with; nothing where it is unknown, for the class does not take None."""
    return {} if (first := ids["bos_token_id"]) is None else {"decoder_start_token_id": first}
