"""Small functions that XLA compiles where TensorFlow would run them operation by operation.

An element-wise chain is then one pass over memory. Only such chains belong here: on a CPU, XLA's
matmuls and random numbers are slower than TensorFlow's own.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras


@cache
def island(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of some tensors, compiled forwards and backwards; the way back starts from them again."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    forwards = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backwards(tensors: tuple[Any, ...], upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = function(*tensors)
        return tape.gradient(y, tensors, upstream)

    @tf.custom_gradient
    def both(*tensors: Any) -> tuple[Any, Callable[[Any], Any]]:
        return forwards(*tensors), lambda upstream: backwards(tensors, upstream)

    return both
