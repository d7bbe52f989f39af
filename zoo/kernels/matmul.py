"""A matmul whose second operand lies the other way round."""

from typing import Any

import keras
from keras import ops


def matmul_transposed(x: Any, y: Any) -> Any:
    """x @ y^T over the last two axes, [..., N, D] and [..., M, D] -> [..., N, M]; no transposed copy, either way."""
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(x, ops.swapaxes(y, -1, -2))
    import tensorflow as tf

    return tf.matmul(x, y, transpose_b=True)
