"""Softmax cross-entropy over a vocabulary.

Shapes: N tokens, V vocabulary.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import keras
from keras import ops

from zoo.kernels.matmul import matmul_transposed

LOGITS = 1 << 27  # bytes of them that exist at once, in the compute dtype
PASS = 1 << 22  # logits that one compiled pass takes: their float32 exponentials stay in the cache


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


def reference_projected(
    x_ND: Any, table_VD: Any, bias_V: Any, target_N: Any, weight_N: Any, smoothing: float = 0.0
) -> Any:
    """What `projected_cross_entropy` computes, with all logits at once."""
    logits_NV = ops.cast(matmul_transposed(x_ND, table_VD), "float32")
    return reference_cross_entropy(logits_NV if bias_V is None else logits_NV + bias_V, target_N, weight_N, smoothing)


def cross_entropy(logits: Any, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
    """The weighted sum of the cross-entropies in nats: [..., V], [...] int, [...] float32 -> float32 scalar.

    smoothing: how much of the target's chance is shared out among all other words. The statistics are float32 whatever
    the logits are; the logits' gradient has the logits' dtype.
    """
    target_N, weight_N = ops.reshape(target, (-1,)), ops.reshape(weight, (-1,))
    if keras.backend.backend() == "jax":
        return _in_one_graph(smoothing)(ops.reshape(logits, (-1, logits.shape[-1])), None, target_N, weight_N)
    if keras.backend.backend() != "tensorflow":
        return reference_cross_entropy(logits, target, weight, smoothing)
    import tensorflow as tf

    both_ways = _both_ways(smoothing)

    @tf.custom_gradient
    def fused(logits_NV: Any) -> Any:
        loss, back_NV, _ = both_ways(logits_NV, None, target_N, weight_N)
        return loss, lambda upstream: back_NV * tf.cast(upstream, back_NV.dtype)

    return fused(ops.reshape(logits, (-1, logits.shape[-1])))


def projected_cross_entropy(
    x_ND: Any, table_VD: Any, bias_V: Any, target_N: Any, weight_N: Any, smoothing: float = 0.0
) -> Any:
    """The same of the logits x @ table^T + bias (or None), which never exist all at once: float32 scalar.

    Their gradient is taken as soon as they are there, so that only those of x, table and bias are kept. Under JAX they
    do exist all at once, in the compute dtype.
    """
    if keras.backend.backend() == "jax":
        return _in_one_graph(smoothing)(matmul_transposed(x_ND, table_VD), bias_V, target_N, weight_N)
    count, words = x_ND.shape[0], table_VD.shape[0]
    if keras.backend.backend() != "tensorflow" or count is None:
        return reference_projected(x_ND, table_VD, bias_V, target_N, weight_N, smoothing)
    import tensorflow as tf

    both_ways = _both_ways(smoothing)

    @tf.custom_gradient
    def fused(x_ND: Any, table_VD: Any, *biases: Any) -> Any:
        bias_V = biases[0] if biases else None
        loss, of_x, of_table, of_bias = tf.zeros(()), [], [], tf.zeros(())
        for x_nD, target_n, weight_n in _cut(LOGITS // (words * x_ND.dtype.size), x_ND, target_N, weight_N):
            with tf.control_dependencies(of_table):  # one after another, or all logits would be there at once
                x_nD = tf.identity(x_nD)
            logits_nV = tf.matmul(x_nD, table_VD, transpose_b=True)
            backs = []
            for logits_pV, target_p, weight_p in _cut(PASS // words, logits_nV, target_n, weight_n):
                found, back_pV, of_bias_V = both_ways(logits_pV, bias_V, target_p, weight_p)
                loss += found
                backs.append(back_pV)
                of_bias += 0.0 if of_bias_V is None else of_bias_V
            back_nV = tf.concat(backs, 0)
            of_x.append(tf.matmul(back_nV, table_VD))
            of_table.append(tf.matmul(back_nV, x_nD, transpose_a=True))
            if len(of_table) > 1:
                of_table = [tf.add_n([tf.cast(each, tf.float32) for each in of_table])]
        found = tf.concat(of_x, 0), *of_table, of_bias

        def gradient(upstream: Any) -> list[Any]:
            wanted = zip(found, (x_ND, table_VD, *biases), strict=False)
            return [_scaled()(each, upstream, of.dtype) for each, of in wanted]

        return loss, gradient

    return fused(x_ND, table_VD, *([] if bias_V is None else [bias_V]))


def _cut(most: int, *tensors: Any) -> Iterator[list[Any]]:
    """Tensors of as many rows each in parts of about one size, at most `most` rows long (or one)."""
    count = tensors[0].shape[0]
    size = -(-count // -(-count // max(most, 1)))
    for begin in range(0, count, size):
        yield [each[begin : begin + size] for each in tensors]


@cache
def _scaled() -> Any:
    """A tensor times a float32 scalar, in another dtype; one pass, whose product is not rounded before."""
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def scaled(x: Any, scalar: Any, dtype: Any) -> Any:
        return tf.cast(tf.cast(x, tf.float32) * scalar, dtype)

    return scaled


@cache
def _both_ways(smoothing: float) -> Any:
    """The loss, and the gradients of the logits and of the bias, in one compiled pass.

    A sum over the vocabulary is a loop of its own, and what it sums lies in memory; so only exp() is summed, from whose
    place the gradient is made, and a target's logit is looked up.
    """
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def both_ways(logits_NV: Any, bias_V: Any, target_N: Any, weight_N: Any) -> tuple[Any, Any, Any]:
        exact_NV = tf.cast(logits_NV, tf.float32) + (0.0 if bias_V is None else bias_V)
        top_N1 = tf.reduce_max(exact_NV, axis=-1, keepdims=True)
        share_NV = tf.exp(exact_NV - top_N1)
        sum_N1 = tf.reduce_sum(share_NV, axis=-1, keepdims=True)
        expected_N1 = tf.gather(exact_NV, target_N[:, None], batch_dims=1)
        each, extra = _shared_out(smoothing, logits_NV.shape[1])
        if smoothing:
            expected_N1 = extra * expected_N1 + each * tf.reduce_sum(exact_NV, axis=-1, keepdims=True)
        weight_N1 = weight_N[:, None]
        loss = tf.reduce_sum(weight_N1 * (top_N1 + tf.math.log(sum_N1) - expected_N1))
        hit_NV = tf.range(tf.shape(logits_NV)[1])[None] == tf.cast(target_N, tf.int32)[:, None]
        # Products of what is one number for a token: a division for every logit would take half as long again.
        wanted_NV = tf.where(hit_NV, weight_N1 * (extra + each), weight_N1 * each)
        back_NV = share_NV * (weight_N1 / sum_N1) - wanted_NV
        return loss, tf.cast(back_NV, logits_NV.dtype), None if bias_V is None else tf.reduce_sum(back_NV, axis=0)

    return both_ways


@cache
def _in_one_graph(smoothing: float) -> Any:
    """The loss by JAX, whose compiler sees the matmuls too; the way back by its formula.

    What is kept for it is the logits in their own dtype and a number for each token; operation by operation it would be
    float32 exponentials of all logits, and zeros for all of them that a token's gradient is written into.
    """
    import jax

    def exact_and_hit(logits_NV: Any, bias_V: Any, target_N: Any) -> tuple[Any, Any]:
        word_V: Any = ops.arange(logits_NV.shape[1])
        hit_NV: Any = word_V[None] == ops.expand_dims(ops.cast(target_N, "int32"), 1)
        exact_NV: Any = ops.cast(logits_NV, "float32")
        return exact_NV if bias_V is None else exact_NV + bias_V, hit_NV

    def forwards(logits_NV: Any, bias_V: Any, target_N: Any, weight_N: Any) -> tuple[Any, Any]:
        exact_NV, hit_NV = exact_and_hit(logits_NV, bias_V, target_N)
        all_N: Any = ops.logsumexp(exact_NV, axis=-1)
        expected_N: Any = ops.sum(ops.where(hit_NV, exact_NV, 0.0), axis=-1)
        if smoothing:
            each, extra = _shared_out(smoothing, logits_NV.shape[1])
            everything_N: Any = ops.sum(exact_NV, axis=-1)
            expected_N = extra * expected_N + each * everything_N
        return ops.sum(weight_N * (all_N - expected_N)), (logits_NV, bias_V, target_N, weight_N, all_N)

    def backwards(kept: Any, upstream: Any) -> tuple[Any, Any, None, None]:
        logits_NV, bias_V, target_N, weight_N, all_N = kept
        exact_NV, hit_NV = exact_and_hit(logits_NV, bias_V, target_N)
        each, extra = _shared_out(smoothing, logits_NV.shape[1])
        share_NV: Any = ops.exp(exact_NV - all_N[:, None])
        back_NV = (share_NV - ops.where(hit_NV, extra + each, each)) * (weight_N * upstream)[:, None]
        of_bias_V = None if bias_V is None else ops.sum(back_NV, axis=0)
        return ops.cast(back_NV, logits_NV.dtype), of_bias_V, None, None

    loss = jax.custom_vjp(lambda *given: forwards(*given)[0])
    loss.defvjp(forwards, backwards)
    return loss
