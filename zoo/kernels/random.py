"""Dropout noise: a pure function of (seed, update, site, row).

Philox 4x32-10 (Salmon et al. 2011) turns a counter of 128 bits and a key of 64 into 128 random bits. The seed is the
key; the update and the site fill the upper half of the counter; row `b` owns a fixed stretch of the lower half. So a
micro-batch that starts at row `first` draws the bits that its rows would get in any other split of the update.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.noise import site_code

WORDS = 8  # 16-bit numbers in one block of Philox
STEPS = 1 << 16  # a rate is rounded to one of so many


def philox(counter: np.ndarray, key: int) -> np.ndarray:
    """The reference: counter [N, 4] uint32 (lowest word first) and a key of 64 bits -> [N, 4] uint32."""
    word = counter.astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    key0, key1 = np.uint64(key) & low, np.uint64(key) >> np.uint64(32)
    for _ in range(10):
        left, right = word[:, 0] * np.uint64(0xD2511F53), word[:, 2] * np.uint64(0xCD9E8D57)
        word = np.stack(
            [
                right >> np.uint64(32) ^ word[:, 1] ^ key0,
                right & low,
                left >> np.uint64(32) ^ word[:, 3] ^ key1,
                left & low,
            ],
            axis=1,
        )
        key0, key1 = key0 + np.uint64(0x9E3779B9) & low, key1 + np.uint64(0xBB67AE85) & low
    return word.astype(np.uint32)


def reference_words(seed: int, update: int, site: str, first: int, rows: int, size: int) -> np.ndarray:
    """[rows, size] uint16, uniform: what `words` computes, in numpy."""
    blocks = -(-size // WORDS)
    place = np.arange(first * blocks, (first + rows) * blocks, dtype=np.uint64)
    counter = np.empty((rows * blocks, 4), np.uint32)
    counter[:, 0], counter[:, 1] = place, place >> np.uint64(32)
    counter[:, 2], counter[:, 3] = site_code(site), update
    return philox(counter, seed).view("<u2").reshape(rows, blocks * WORDS)[:, :size]


def words(seed: int, update: Any, site: str, first: Any, rows: Any, size: int) -> Any:
    """[rows, size] uint16, uniform; update, first and rows may be tensors, and under JAX first also [rows]: the number
    of every row, where they do not follow one another."""
    if keras.backend.backend() == "jax":
        return _words_of_rows(seed, update, site, first + np.arange(rows) if np.ndim(first) == 0 else first, size)
    import tensorflow as tf

    blocks = -(-size // WORDS)
    lower = tf.cast(tf.cast(first, tf.int64) * blocks, tf.uint64)
    upper = tf.bitwise.left_shift(tf.cast(update, tf.uint64), tf.constant(32, tf.uint64))
    drawn = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([rows, blocks * 4]),
        key=tf.constant([seed], tf.uint64),
        counter=tf.stack([lower, upper + tf.constant(site_code(site), tf.uint64)]),
        alg=1,  # Philox
        dtype=tf.uint32,
    )
    flat = tf.reshape(tf.bitcast(drawn, tf.uint16), [rows, blocks * WORDS])
    return flat if size == blocks * WORDS else flat[:, :size]


def _words_of_rows(seed: int, update: Any, site: str, row_B: Any, size: int) -> Any:
    """`words` for JAX, which has no Philox that tells its counters; in numbers of 32 bits, which is all it has."""
    from jax import numpy as jnp

    low = np.uint32(0xFFFF)

    def product(a: np.uint32, b: Any) -> tuple[Any, Any]:
        """The upper and the lower 32 bits of a x b, by products of 16-bit halves, as in long multiplication."""
        (a1, a0), (b1, b0) = (a >> 16, a & low), (b >> 16, b & low)
        middle = a1 * b0 + (a0 * b0 >> 16)
        other = a0 * b1 + (middle & low)
        return a1 * b1 + (middle >> 16) + (other >> 16), a * b

    blocks = -(-size // WORDS)
    upper_B, lower_B = product(np.uint32(blocks), jnp.asarray(row_B, jnp.uint32))
    place_BN = lower_B[:, None] + jnp.arange(blocks, dtype=jnp.uint32)
    carried_BN = upper_B[:, None] + (place_BN < lower_B[:, None])
    word = [place_BN, carried_BN.astype(jnp.uint32)]
    word += [jnp.full_like(place_BN, each) for each in (site_code(site), jnp.asarray(update, jnp.uint32))]
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    with np.errstate(over="ignore"):
        for _ in range(10):
            upper0, lower0 = product(np.uint32(0xD2511F53), word[0])
            upper1, lower1 = product(np.uint32(0xCD9E8D57), word[2])
            word = [upper1 ^ word[1] ^ key[0], lower1, upper0 ^ word[3] ^ key[1], lower0]
            key = key + np.array([0x9E3779B9, 0xBB67AE85], np.uint32)
    halves = [half for each in word for half in (each & low, each >> 16)]
    drawn_BNw = jnp.stack(halves, axis=-1).astype(jnp.uint16)
    return drawn_BNw.reshape(len(row_B), blocks * WORDS)[:, :size]


class RowNoise:
    """The dropout noise of the rows from `first` on in one update; numbers or tensors, so that nothing retraces. first:
    as of `words`."""

    def __init__(self, seed: int, update: Any, first: Any, site: str = ""):
        self.seed, self.update, self.first, self.site = seed, update, first, site

    def under(self, name: str) -> "RowNoise":
        """The same rows' noise for the sites of one part."""
        return RowNoise(self.seed, self.update, self.first, f"{self.site}{name}.")

    def shared(self) -> "RowNoise":
        """Noise that all rows of the update have in common; the first axis is no axis of rows then."""
        return RowNoise(self.seed, self.update, 0, f"{self.site}shared.")

    def after(self, x: Any) -> "RowNoise":
        """The same noise, drawn only once x is known: what is made a second time is then drawn a second time too."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        with tf.control_dependencies([x]):
            return RowNoise(self.seed, self.update, tf.identity(self.first), self.site)

    def keep(self, shape: tuple[Any, ...], rate: float, site: str) -> Any:
        """[B, ...] bool: False for the share of the elements that is dropped; the rate is rounded to 1/65536."""
        drawn = words(self.seed, self.update, self.site + site, self.first, shape[0], math.prod(shape[1:]))
        return ops.reshape(drawn >= ops.cast(_threshold(rate), "uint16"), shape)


def _threshold(rate: float) -> int:
    return round(rate * STEPS)


def makes_up(rate: float) -> float:
    """The factor that makes up for what dropout at this rate leaves out: the exact inverse of what is kept."""
    return STEPS / (STEPS - _threshold(rate))


def drop(x: Any, rate: float, noise: RowNoise | None, site: str) -> Any:
    """Dropout: [B, ...] -> [B, ...] in the same dtype; x itself where there is no noise or no rate."""
    if noise is None or not rate:
        return x
    shape: Any = ops.shape(x)
    keep = noise.keep((shape[0], *x.shape[1:]), rate, site)
    # the factor has no exact value in bfloat16, and a rounded one would shift the mean
    exact: Any = ops.cast(x, "float32")
    return ops.cast(ops.where(keep, exact * makes_up(rate), 0.0), x.dtype)
