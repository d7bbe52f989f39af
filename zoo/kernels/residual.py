"""What a sublayer adds to the residual stream.

Shapes: [B, ...], rows first.
"""

from functools import cache
from typing import Any

import keras
from keras import ops

from zoo.kernels.random import RowNoise, drop, makes_up


def reference_add(x: Any, y: Any, rate: float, noise: RowNoise | None, site: str) -> Any:
    """What `add` computes, in plain operations."""
    return x + drop(ops.cast(y, "float32"), rate, noise, site)


def add(x: Any, y: Any, rate: float, noise: RowNoise | None, site: str) -> Any:
    """x + dropout(y), float32: the stream x float32, and what a sublayer made, in any dtype, with dropout at a site."""
    if keras.backend.backend() != "tensorflow" or noise is None or not rate:
        return reference_add(x, y, rate, noise, site)
    shape: Any = ops.shape(x)
    return _fused(rate)(x, y, noise.keep((shape[0], *x.shape[1:]), rate, site))


@cache
def _fused(rate: float) -> Any:
    """One compiled pass forwards and one backwards, which needs the choices alone."""
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def kept(y: Any, keep: Any) -> Any:
        return tf.where(keep, tf.cast(y, tf.float32) * makes_up(rate), 0.0)

    @tf.function(jit_compile=True, autograph=False)
    def forwards(x: Any, y: Any, keep: Any) -> Any:
        return x + kept(y, keep)

    @tf.function(jit_compile=True, autograph=False)
    def backwards(upstream: Any, keep: Any, dtype: Any) -> Any:
        return tf.cast(kept(upstream, keep), dtype)

    @tf.custom_gradient
    def fused(x: Any, y: Any, keep: Any) -> Any:
        dtype = y.dtype
        return forwards(x, y, keep), lambda upstream: (upstream, backwards(upstream, keep, dtype), None)

    return fused
