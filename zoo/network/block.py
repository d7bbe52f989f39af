"""A block of the Transformer, and stacks of them.

Shapes: B rows, T or Q tokens, K keys, S tokens of the source, D width.
"""

from typing import Any, Literal

import keras
from keras import ops

from zoo.kernels.island import island
from zoo.kernels.random import RowNoise, drop
from zoo.network.attention import Attention, Keys
from zoo.network.layers import Linear, Norm, Part, float32

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def activate(x: Any, activation: Activation) -> Any:
    """GELU with the error function or by its tanh formula (what GPT-2 and BERT used), ReLU, or SiLU (most Marians)."""
    known = {"gelu": island(_gelu), "gelu_tanh": island(_gelu_tanh), "relu": ops.relu, "silu": island(_silu)}
    return known[activation](x)


def _gelu(x: Any) -> Any:
    return ops.cast(ops.gelu(float32(x), approximate=False), x.dtype)


def _gelu_tanh(x: Any) -> Any:
    return ops.cast(ops.gelu(float32(x), approximate=True), x.dtype)


def _silu(x: Any) -> Any:
    return ops.cast(ops.silu(float32(x)), x.dtype)


@keras.saving.register_keras_serializable("zoo")
class FeedForward(Part):
    """Two projections with an activation between them: [..., D] -> [..., D]."""

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        activation: Activation = "gelu_tanh",
        dropout: float = 0.0,
        init_std: float = 0.02,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.activation: Activation = activation
        self.dropout = dropout
        self.up = Linear(width, inner, init_std=init_std, dtype=self.dtype_policy)
        self.down = Linear(inner, width, init_std=init_std, dtype=self.dtype_policy)

    def call(self, x: Any, noise: RowNoise | None = None) -> Any:
        return self.down(drop(activate(self.up(x), self.activation), self.dropout, noise, "activation"))


@keras.saving.register_keras_serializable("zoo")
class Block(Part):
    """Attention, cross-attention where there is a source, feed-forward; each added to the residual stream (float32).

    norm: pre = x + f(norm(x)), post = norm(x + f(x)). dropout: on the output of every sublayer.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int | None = None,
        *,
        cross: bool = False,
        norm: Literal["pre", "post"] = "pre",
        norm_epsilon: float = 1e-5,
        activation: Activation = "gelu_tanh",
        attention_bias: bool = True,
        relative: bool = False,
        biases: tuple[keras.Variable, keras.Variable] | None = None,
        segments: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        inner_dropout: float = 0.0,
        init_std: float = 0.02,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.pre, self.dropout = norm == "pre", dropout
        drawn: dict[str, Any] = {"init_std": init_std, "dtype": self.dtype_policy}
        attention: dict[str, Any] = {"bias": attention_bias, "dropout": attention_dropout, **drawn}

        def norm_layer() -> Norm:
            return Norm(width, epsilon=norm_epsilon, dtype=self.dtype_policy)

        self.attend_norm = norm_layer()
        self.attend = Attention(width, heads, relative=relative, biases=biases, segments=segments, **attention)
        self.cross_norm = norm_layer() if cross else None
        self.cross = Attention(width, heads, **attention) if cross else None
        self.inner_norm = norm_layer()
        self.inner = FeedForward(width, inner or 4 * width, activation=activation, dropout=inner_dropout, **drawn)

    def keys(self, x_BKD: Any, table_RD: Any = None, backward_B: Any = None) -> Keys:
        """What queries find in the stream x, before the block has changed it."""
        return self.attend.keys(self._before(self.attend_norm, x_BKD), table_RD, backward_B)

    def source_keys(self, x_BSD: Any) -> Keys:
        """What cross-attention finds in a source."""
        assert self.cross is not None, "a block without cross=True reads no source"
        return self.cross.keys(x_BSD)

    def call(
        self,
        x_BQD: Any,
        see_BQK: Any = None,
        keys: Keys | None = None,
        *,
        source: Keys | None = None,
        see_source_BQS: Any = None,
        table_RD: Any = None,
        other_BQK: Any = None,
        at_BP: Any = None,
        causal: bool = False,
        length_B: Any = None,
        noise: RowNoise | None = None,
    ) -> Any:
        """[B, Q, D] float32; see, keys, table, other, at, causal, length as in Attention; source: `source_keys`."""
        under = noise.under if noise is not None else lambda name: None

        y = self._before(self.attend_norm, x_BQD)
        keys = keys or self.attend.keys(y, table_RD)
        known: dict[str, Any] = {"other_BQK": other_BQK, "at_BP": at_BP, "causal": causal, "length_B": length_B}
        y = self.attend(y, see_BQK, keys, **known, noise=under("attend"))
        x_BQD = self._add(self.attend_norm, x_BQD, drop(float32(y), self.dropout, noise, "attend"))
        if self.cross is not None and self.cross_norm is not None and source is not None:
            y = self._before(self.cross_norm, x_BQD)
            y = self.cross(y, see_source_BQS, source, noise=under("cross"))
            x_BQD = self._add(self.cross_norm, x_BQD, drop(float32(y), self.dropout, noise, "cross"))
        y = self.inner(self._before(self.inner_norm, x_BQD), noise=under("inner"))
        return self._add(self.inner_norm, x_BQD, drop(float32(y), self.dropout, noise, "inner"))

    def _before(self, norm: Norm, x: Any) -> Any:
        return norm(x) if self.pre else x

    def _add(self, norm: Norm, x: Any, y: Any) -> Any:
        total = float32(x) + y
        return total if self.pre else norm(total)


@keras.saving.register_keras_serializable("zoo")
class Encoder(Part):
    """Blocks in a row, and one more norm at the end of a pre-norm stack; settings as in Block."""

    def __init__(self, layers: int, width: int, heads: int, inner: int | None = None, **kwargs: Any):
        super().__init__(**{key: kwargs.pop(key) for key in ("name", "dtype", "trainable") if key in kwargs})
        self.blocks = [Block(width, heads, inner, **kwargs, dtype=self.dtype_policy) for _ in range(layers)]
        self.final_norm = None
        if kwargs.get("norm", "pre") == "pre":
            self.final_norm = Norm(width, epsilon=kwargs.get("norm_epsilon", 1e-5), dtype=self.dtype_policy)

    def call(self, x_BTD: Any, see_BTT: Any = None, *, noise: RowNoise | None = None) -> Any:
        """[B, T, D] float32."""
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, see_BTT, noise=noise and noise.under(f"blocks.{index}"))
        return x_BTD if self.final_norm is None else self.final_norm(x_BTD)


@keras.saving.register_keras_serializable("zoo")
class Decoder(Encoder):
    """An encoder whose blocks also attend to a source."""

    def __init__(self, layers: int, width: int, heads: int, inner: int | None = None, **kwargs: Any):
        super().__init__(layers, width, heads, inner, cross=True, **kwargs)

    def call(
        self,
        x_BTD: Any,
        see_BTT: Any = None,
        source_BSD: Any = None,
        see_source_BTS: Any = None,
        *,
        noise: RowNoise | None = None,
    ) -> Any:
        """[B, T, D] float32."""
        for index, block in enumerate(self.blocks):
            inner_noise = noise and noise.under(f"blocks.{index}")
            source = None if source_BSD is None else block.source_keys(source_BSD)
            x_BTD = block(x_BTD, see_BTT, source=source, see_source_BQS=see_source_BTS, noise=inner_noise)
        return x_BTD if self.final_norm is None else self.final_norm(x_BTD)
