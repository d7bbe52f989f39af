"""Layer normalisation, and the way back by its formula.

Shapes: [..., D], statistics [..., 1].
"""

from typing import Any

import keras
from keras import ops


def reference_layer_norm(x: Any, scale_D: Any, bias_D: Any, epsilon: float) -> Any:
    """What `layer_norm` computes, in plain operations."""
    centred, root = _statistics(x, epsilon)
    return centred * root * scale_D + bias_D


def layer_norm(x: Any, scale_D: Any, bias_D: Any, epsilon: float) -> Any:
    """(x - mean) / sqrt(variance + epsilon) x scale + bias over the last axis.

    What is kept for the way back is the normed x alone; operation by operation it would be the centred x as well.
    """
    if keras.backend.backend() != "tensorflow":
        return reference_layer_norm(x, scale_D, bias_D, epsilon)
    import tensorflow as tf

    @tf.custom_gradient
    def both_ways(x: Any, scale_D: Any, bias_D: Any) -> Any:
        centred, root = _statistics(x, epsilon)
        normed = centred * root

        def gradient(upstream: Any) -> tuple[Any, Any, Any]:
            others = list(range(upstream.shape.rank - 1))
            of_normed = upstream * scale_D
            along = tf.reduce_mean(of_normed * normed, -1, keepdims=True)
            of_x = root * (of_normed - tf.reduce_mean(of_normed, -1, keepdims=True) - normed * along)
            return of_x, tf.reduce_sum(upstream * normed, others), tf.reduce_sum(upstream, others)

        return normed * scale_D + bias_D, gradient

    return both_ways(x, tf.convert_to_tensor(scale_D), tf.convert_to_tensor(bias_D))


def _statistics(x: Any, epsilon: float) -> tuple[Any, Any]:
    """x without its mean, and one over its standard deviation."""
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance: Any = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return centred, ops.rsqrt(variance + epsilon)
