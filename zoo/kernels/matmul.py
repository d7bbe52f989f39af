"""A matmul whose second operand lies the other way round."""

from typing import Any

import keras
from keras import ops


def matmul_transposed(x: Any, y: Any) -> Any:
    """x @ y^T over the last two axes, [..., N, D] and [..., M, D] -> [..., N, M]; no transposed copy, either way."""
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(x, ops.swapaxes(y, -1, -2))
    import tensorflow as tf

    if x.shape[0] == 1 and len(y.shape) == 2:  # a fused graph gives one row to one core, and two halves to two
        half = y.shape[0] // 2
        return tf.concat([tf.matmul(x, part, transpose_b=True) for part in (y[:half], y[half:])], axis=1)
    return tf.matmul(x, y, transpose_b=True)
