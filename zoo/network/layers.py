"""The smallest parts: a projection, a norm, a table.

Weights are float32. `Linear` multiplies in the layer's compute dtype and returns it; norms and tables return float32,
which is what the residual stream is made of. Every cast is written out: Keras's own casting is switched off.
"""

from typing import Any

import keras
from keras import ops

from zoo.kernels.norm import layer_norm


def sizes(x: Any) -> Any:
    """The shape, with a tensor for each size that is known only at the call."""
    return ops.shape(x)


def float32(x: Any) -> Any:
    """What statistics, sums and scores are kept in."""
    return ops.cast(x, "float32")


def initializer(std: float) -> Any:
    """Normal, cut at two standard deviations; zeros where somebody else will draw."""
    return keras.initializers.TruncatedNormal(stddev=std) if std else "zeros"


class Part(keras.layers.Layer):
    """A layer that casts for itself and whose weights exist as soon as it does."""

    def __init__(self, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.built = True  # or Keras would run the first call twice, once to find out what to build

    def weight(self, shape: tuple[int, ...], init: Any) -> keras.Variable:
        return self.add_weight(shape=shape, initializer=init, dtype="float32", autocast=False)

    def lowered(self, x: Any) -> Any:
        """x in the compute dtype: what a matmul takes."""
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable("zoo")
class Linear(Part):
    """x @ kernel + bias: [..., inputs] -> [..., outputs] in the compute dtype."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, init_std: float = 0.02, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel = self.weight((inputs, outputs), initializer(init_std))
        self.bias = self.weight((outputs,), "zeros") if bias else None

    def call(self, x: Any) -> Any:
        y: Any = ops.matmul(self.lowered(x), self.lowered(self.kernel))
        return y if self.bias is None else y + self.lowered(self.bias)


@keras.saving.register_keras_serializable("zoo")
class Norm(Part):
    """Layer normalisation over the last axis, in float32: [..., width] -> [..., width]."""

    def __init__(self, width: int, *, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.scale = self.weight((width,), "ones")
        self.bias = self.weight((width,), "zeros")

    def call(self, x: Any) -> Any:
        return layer_norm(float32(x), self.scale, self.bias, self.epsilon)


@keras.saving.register_keras_serializable("zoo")
class Embedding(Part):
    """One row of the table for every index: [...] int -> [..., width] float32."""

    def __init__(self, rows: int, width: int, *, init_std: float = 0.02, **kwargs: Any):
        super().__init__(**kwargs)
        self.table = self.weight((rows, width), initializer(init_std))

    def call(self, index: Any) -> Any:
        return ops.take(self.table, index, axis=0)
