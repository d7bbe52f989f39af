"""GPT-2: GPT2LMHeadModel, and the bare GPT2Model, which lacks nothing because the head is the embedding."""

import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from zoo.exchange.family import Family, Key, Tensor, linear, norm
from zoo.schema import Recipe


class GPT2(Family):
    """Source: transformers' modeling_gpt2.py; matrices are [inputs, outputs], as in OpenAI's release."""

    model_type = "gpt2"
    like = "gpt2-small"
    vocabulary = Key("vocab_size", 50257)
    keys: ClassVar[dict[str, Key]] = {
        "width": Key("n_embd", 768),
        "layers": Key("n_layer", 12),
        "heads": Key("n_head", 12),
        "context": Key("n_positions", 1024),
        "inner": Key("n_inner", None),
        "activation": Key("activation_function", "gelu_new"),
        "norm_epsilon": Key("layer_norm_epsilon", 1e-5),
        "init_std": Key("initializer_range", 0.02),
        "dropout": Key("resid_pdrop", 0.1),
        "attention_dropout": Key("attn_pdrop", 0.1),
    }
    computes: ClassVar[dict[str, Collection[Any]]] = {
        "objective.name": ("causal",),
        "model.norm": ("pre",),
        "model.positions": ("learned",),
        "model.segments": (0,),
        "model.embedding_scale": (False,),
        "model.embedding_norm": (False,),
        "model.attention_bias": (True,),
        "model.cutoffs": ((),),
        "model.head_transform": (False,),
        "model.head_bias": (False,),
    }
    unless: ClassVar[dict[str, Any]] = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
    tables: ClassVar[tuple[str, str]] = ("wte", "wpe")  # of tokens and of positions
    tied: ClassVar[dict[str, str]] = {"lm_head.weight": "transformer.wte.weight"}
    inputs = ("input_ids", "attention_mask")

    def architecture(self, recipe: Recipe, absent: frozenset[str]) -> str:
        return "GPT2LMHeadModel"

    def config(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        return {**super().config(recipe, ids), "embd_pdrop": recipe.model.dropout}

    def generation(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        return {"_from_model_config": True, **ids}

    def known(self, name: str) -> str:
        parts = tuple(f"{part}." for part in (*self.tables, "h", "ln_f"))
        return f"transformer.{name}" if name.startswith(parts) else name

    def idle(self, names: Collection[str]) -> set[str]:
        """Older folders hold each layer's triangle of who sees whom."""
        return {name for name in names if re.fullmatch(r"transformer\.h\.\d+\.attn\.(masked_)?bias", name)}

    def tensors(self, recipe: Recipe) -> list[Tensor]:
        width, inner = recipe.model.width, recipe.model.inner_width
        token, position = self.tables
        found = [
            Tensor(f"transformer.{token}.weight", (recipe.tokenizer.size, width), ("embed.token.table",)),
            Tensor(f"transformer.{position}.weight", (recipe.model.context, width), ("embed.position.table",)),
        ]

        def projection(theirs: str, *ours: str, inputs: int = width, outputs: int = width) -> list[Tensor]:
            return linear(theirs, ours, inputs, outputs, transposed=False)

        for n in range(recipe.model.layers):
            theirs, ours = f"transformer.h.{n}", f"blocks.{n}"
            lookup = (f"{ours}.attend.{name}" for name in "qkv")
            found += norm(f"{theirs}.ln_1", f"{ours}.attend_norm", width)
            found += projection(f"{theirs}.attn.c_attn", *lookup, outputs=3 * width)
            found += projection(f"{theirs}.attn.c_proj", f"{ours}.attend.out")
            found += norm(f"{theirs}.ln_2", f"{ours}.inner_norm", width)
            found += projection(f"{theirs}.mlp.c_fc", f"{ours}.inner.up", outputs=inner)
            found += projection(f"{theirs}.mlp.c_proj", f"{ours}.inner.down", inputs=inner)
        return found + (norm("transformer.ln_f", "final_norm", width) if recipe.model.norm == "pre" else [])
