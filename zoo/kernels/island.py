"""Small functions that XLA compiles where TensorFlow would run them operation by operation.

An element-wise chain is then one pass over memory. Only such chains belong here: on a CPU, XLA's
matmuls and random numbers are slower than TensorFlow's own.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras


@cache
def island(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of one tensor, compiled forwards and backwards; the way back starts from its input again."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    forwards = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backwards(x: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x, upstream)

    @tf.custom_gradient
    def both(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        return forwards(x), lambda upstream: backwards(x, upstream)

    return both
