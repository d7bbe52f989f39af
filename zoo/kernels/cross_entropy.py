"""Softmax cross-entropy over a vocabulary.

Shapes: N tokens, V vocabulary.
"""

from functools import cache
from typing import Any

import keras
from keras import ops


def reference_cross_entropy(logits: Any, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
    """What `cross_entropy` computes, in plain operations."""
    logits = ops.cast(logits, "float32")
    each, extra = _shared_out(smoothing, logits.shape[-1])
    chosen: Any = ops.take_along_axis(logits, target[..., None], axis=-1)
    everything: Any = ops.sum(logits, axis=-1)
    expected = extra * chosen[..., 0] + each * everything
    return ops.sum(weight * (ops.logsumexp(logits, axis=-1) - expected))


def _shared_out(smoothing: float, vocab: int) -> tuple[float, float]:
    """Label smoothing (Szegedy et al. 2016): the chance each word is given, and what the target is given beyond it.

    The target keeps 1 - smoothing and all others share the rest, as in tensor2tensor.
    """
    each = smoothing / (vocab - 1)
    return each, 1.0 - smoothing - each


def cross_entropy(logits: Any, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
    """The weighted sum of the cross-entropies in nats: [..., V], [...] int, [...] float32 -> float32 scalar.

    smoothing: how much of the target's chance is shared out among all other words. The statistics are float32 whatever
    the logits are; the logits' gradient has the logits' dtype.
    """
    if keras.backend.backend() != "tensorflow":
        return reference_cross_entropy(logits, target, weight, smoothing)
    flat = ops.reshape(logits, (-1, logits.shape[-1]))
    return _fused(smoothing)(flat, ops.reshape(target, (-1,)), ops.reshape(weight, (-1,)))


@cache
def _fused(smoothing: float) -> Any:
    """Two compiled passes, loss and gradient; neither holds the logits in a second precision."""
    import tensorflow as tf

    def hits(logits_NV: Any, target_N: Any) -> Any:
        return tf.range(tf.shape(logits_NV)[1])[None] == tf.cast(target_N, tf.int32)[:, None]

    @tf.function(jit_compile=True, autograph=False)
    def forwards(logits_NV: Any, target_N: Any, weight_N: Any) -> tuple[Any, Any]:
        exact_NV = tf.cast(logits_NV, tf.float32)
        top_N = tf.reduce_max(exact_NV, axis=-1)
        norm_N = top_N + tf.math.log(tf.reduce_sum(tf.exp(exact_NV - top_N[:, None]), axis=-1))
        expected_N = tf.reduce_sum(tf.where(hits(logits_NV, target_N), exact_NV, 0.0), axis=-1)
        if smoothing:
            each, extra = _shared_out(smoothing, logits_NV.shape[1])
            expected_N = extra * expected_N + each * tf.reduce_sum(exact_NV, axis=-1)
        return tf.reduce_sum(weight_N * (norm_N - expected_N)), norm_N

    @tf.function(jit_compile=True, autograph=False)
    def backwards(logits_NV: Any, target_N: Any, norm_N: Any, scale_N: Any) -> Any:
        chance_NV = tf.exp(tf.cast(logits_NV, tf.float32) - norm_N[:, None])
        hit_NV = tf.cast(hits(logits_NV, target_N), tf.float32)
        if smoothing:
            each, extra = _shared_out(smoothing, logits_NV.shape[1])
            hit_NV = extra * hit_NV + each
        return tf.cast((chance_NV - hit_NV) * scale_N[:, None], logits_NV.dtype)

    @tf.custom_gradient
    def fused(logits_NV: Any, target_N: Any, weight_N: Any) -> Any:
        loss, norm_N = forwards(logits_NV, target_N, weight_N)

        def gradient(upstream: Any) -> tuple[Any, None, None]:
            return backwards(logits_NV, target_N, norm_N, upstream * weight_N), None, None

        return loss, gradient

    return fused
