"""The first GPT: OpenAIGPTLMHeadModel, and the bare OpenAIGPTModel. GPT-2's names, but for the tables."""

from collections.abc import Collection
from typing import Any, ClassVar

from zoo.exchange.family import Key
from zoo.exchange.gpt2 import GPT2
from zoo.schema import Recipe


class GPT(GPT2):
    """Source: transformers' modeling_openai.py.

    Its head scores the tokens alone, and so does `Network.logits`: whether the positions' rows count is a matter of the
    loss, which config.json does not tell; a folder is read as the release was trained.
    """

    model_type = "openai-gpt"
    like = "gpt"
    vocabulary = Key("vocab_size", 40478)
    keys: ClassVar[dict[str, Key]] = {
        **{field: key for field, key in GPT2.keys.items() if field != "inner"},  # always 4 x width
        "context": Key("n_positions", 512),
        "activation": Key("afn", "gelu"),
    }
    activations: ClassVar[dict[str, str]] = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
    computes: ClassVar[dict[str, Collection[Any]]] = {
        **GPT2.computes,
        "model.norm": ("post",),
        "model.inner": (None,),
        "model.activation": ("gelu_tanh", "relu", "silu"),
    }
    unless: ClassVar[dict[str, Any]] = {}
    tables = ("tokens_embed", "positions_embed")
    tied: ClassVar[dict[str, str]] = {"lm_head.weight": "transformer.tokens_embed.weight"}

    def architecture(self, recipe: Recipe, absent: frozenset[str]) -> str:
        return "OpenAIGPTLMHeadModel"

    def idle(self, names: Collection[str]) -> set[str]:
        """And numbered positions."""
        return super().idle(names) | {"position_ids", "transformer.position_ids"} & set(names)
