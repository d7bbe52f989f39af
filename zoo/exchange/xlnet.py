"""XLNet: XLNetLMHeadModel, whose predictions of a permutation go through `perm_mask` and `target_mapping`."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from zoo.exchange.family import Family, Key, Tensor, linear, norm
from zoo.schema import Recipe


class XLNet(Family):
    """Source: transformers' modeling_xlnet.py; projections are [width, heads, width of a head]."""

    model_type = "xlnet"
    like = "xlnet-base"
    vocabulary = Key("vocab_size", 32000)
    keys: ClassVar[dict[str, Key]] = {
        "width": Key("d_model", 1024),
        "layers": Key("n_layer", 24),
        "heads": Key("n_head", 16),
        "inner": Key("d_inner", 4096),
        "activation": Key("ff_activation", "gelu"),
        "norm_epsilon": Key("layer_norm_eps", 1e-12),
        "init_std": Key("initializer_range", 0.02),
        # One rate for all four places; a recipe's `dropout` is the one that is written.
        **dict.fromkeys(("attention_dropout", "inner_dropout", "final_dropout", "dropout"), Key("dropout", 0.1)),
    }
    computes: ClassVar[dict[str, Collection[Any]]] = {
        "objective.name": ("permutation",),
        "model.norm": ("post",),
        "model.positions": ("relative",),
        "model.embedding_scale": (False,),
        "model.embedding_norm": (False,),
        "model.attention_bias": (False,),
        "model.tied_biases": (False,),
        "model.cutoffs": ((),),
        "model.head_transform": (False,),
        "model.head_bias": (True,),
    }
    unless: ClassVar[dict[str, Any]] = {
        "attn_type": "bi",
        "bi_data": False,
        "clamp_len": -1,
        "same_length": False,
        "untie_r": True,
    }
    tied: ClassVar[dict[str, str]] = {"lm_loss.weight": "transformer.word_embedding.weight"}
    padding_side = "left"
    frame = (("A", 0), ("sep", 0), ("B", 1), ("sep", 1), ("cls", 2))

    def architecture(self, recipe: Recipe, absent: frozenset[str]) -> str:
        return "XLNetLMHeadModel"

    def config(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        return {**super().config(recipe, ids), "attn_type": "bi", "mem_len": None}

    def model(self, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """With `segments` 0 where all that is read of them is zero, as `tensors` writes them for such a recipe."""
        of_segments = [name for name in arrays if name.endswith((".seg_embed", ".r_s_bias"))]
        return {
            **super().model(config, arrays),
            "segments": 2 if any(arrays[name].any() for name in of_segments) else 0,
        }

    def tensors(self, recipe: Recipe) -> list[Tensor]:
        model, width, size = recipe.model, recipe.model.width, recipe.tokenizer.size
        heads = (model.heads, model.head_width)

        def dense(theirs: str, ours: str, inputs: int, outputs: int) -> list[Tensor]:
            return linear(theirs, (ours,), inputs, outputs, transposed=True)

        found = [
            Tensor("transformer.mask_emb", (1, 1, width), ("objective.blank",)),
            Tensor("transformer.word_embedding.weight", (size, width), ("embed.token.table",)),
        ]
        for n in range(model.layers):
            theirs, ours = f"transformer.layer.{n}", f"blocks.{n}"
            attention, attend = f"{theirs}.rel_attn", f"{ours}.attend"
            for name in "qkvr":
                found.append(Tensor(f"{attention}.{name}", (width, *heads), (f"{attend}.{name}.kernel",)))
            found.append(Tensor(f"{attention}.o", (width, *heads), (f"{attend}.out.kernel",), transposed=True))
            found.append(Tensor(f"{attention}.r_w_bias", heads, (f"{attend}.content_bias",)))
            found.append(Tensor(f"{attention}.r_r_bias", heads, (f"{attend}.position_bias",)))
            for name, weight, shape in (("r_s_bias", "segment_bias", heads), ("seg_embed", "segment", (2, *heads))):
                found.append(Tensor(f"{attention}.{name}", shape, (f"{attend}.{weight}",) if model.segments else ()))
            found += norm(f"{attention}.layer_norm", f"{ours}.attend_norm", width)
            found += dense(f"{theirs}.ff.layer_1", f"{ours}.inner.up", width, model.inner_width)
            found += dense(f"{theirs}.ff.layer_2", f"{ours}.inner.down", model.inner_width, width)
            found += norm(f"{theirs}.ff.layer_norm", f"{ours}.inner_norm", width)
        return [*found, Tensor("lm_loss.bias", (size,), ("head.bias",))]
