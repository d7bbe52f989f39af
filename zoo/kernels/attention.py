"""From the scores of attention to what is mixed by them: softmax over what is seen, dropout, and the mixing.

Some queries at a time, so that their scores stay in the processor's cache; keys that stand behind all of them are left
out where nobody looks ahead; and scores are made again on the way back instead of being kept.

Shapes: B rows, Q queries, K keys, H heads, d width of a head; q queries of a tile and k keys that they read.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import keras
from keras import ops

from zoo.kernels.random import RowNoise

QUERIES = 128  # at a time: of 64, 128, 256 and 512 the fastest for rows of 512 tokens
UNSEEN = -1e9  # added to a score: finite, so that gradients are too, and exp() of it is zero


class Tile(NamedTuple):
    """Queries `begin` to `end - 1` and the first `keys` of the keys."""

    begin: int
    end: Any  # these two are tensors where a size is known only at the call
    keys: Any


class Scored(NamedTuple):
    """The tensors that scores are made of, and that gradients flow to."""

    queries: tuple[Any, ...]  # [B, H, Q, ...], the rows of a tile of each
    keys: tuple[Any, ...]  # [B, H, K, ...], and the keys that it reads
    whole: tuple[Any, ...] = ()  # whole, whatever the tile

    def cut(self, tile: Tile) -> "Scored":
        """What a tile is made of."""
        queries = tuple(each[:, :, tile.begin : tile.end] for each in self.queries)
        return Scored(queries, tuple(each[:, :, : tile.keys] for each in self.keys), self.whole)


Score = Callable[[Scored, Tile], Any]  # of what was cut for a tile: [B, H, q, k]


class Thinning(NamedTuple):
    """Which of the weights are kept, drawn tile by tile: those that are never made need no noise."""

    noise: RowNoise
    rate: float

    def keep(self, tile: Tile, shape: tuple[Any, ...]) -> Any:
        """[B, H, q, k] bool."""
        return self.noise.keep(shape, self.rate, f"weights.{tile.begin}")


def tiles(queries: int, keys: int, causal: bool) -> list[Tile]:
    """All queries in tiles; causal: they are the last of the keys, and none of them sees a key behind its own."""
    ends = [(begin, min(begin + QUERIES, queries)) for begin in range(0, queries, QUERIES)]
    return [Tile(begin, end, keys - queries + end if causal else keys) for begin, end in ends]


def softmax(score_BHQK: Any, see_BQK: Any = None) -> Any:
    """[B, H, Q, K] float32: shares of the keys that are seen, which sum to one; zeros for a query that sees none."""
    score_BHQK = ops.cast(score_BHQK, "float32")
    if see_BQK is not None:
        unseen_BQK: Any = ops.where(see_BQK, 0.0, UNSEEN)
        score_BHQK += unseen_BQK[:, None]
    # Keras warns of a softmax over one key; a text may be that short.
    share_BHQK = ops.softmax(score_BHQK) if score_BHQK.shape[-1] != 1 else ops.ones_like(score_BHQK)
    if see_BQK is None:
        return share_BHQK
    any_BQ1: Any = ops.cast(ops.any(see_BQK, axis=-1, keepdims=True), "float32")
    return share_BHQK * any_BQ1[:, None]


def reference_attend(
    score: Score, scored: Scored, v_BHKd: Any, see_BQK: Any, dropout: Thinning | None = None, causal: bool = False
) -> Any:
    """What `attend` computes, all queries at once."""
    q_shape: Any = ops.shape(scored.queries[0])
    v_shape: Any = ops.shape(v_BHKd)
    share_BHQK = softmax(score(scored, Tile(0, q_shape[2], v_shape[2])), see_BQK)
    weight_BHQK: Any = ops.cast(share_BHQK, v_BHKd.dtype)
    if dropout is not None:
        rows, heads, queries, keys = weight_BHQK.shape
        drawn = []
        for tile in tiles(queries, keys, causal):
            keep = dropout.keep(tile, (rows, heads, tile.end - tile.begin, tile.keys))
            drawn.append(ops.pad(keep, [(0, 0), (0, 0), (0, 0), (0, keys - tile.keys)], constant_values=False))
        weight_BHQK = ops.where(ops.concatenate(drawn, axis=2), weight_BHQK, ops.zeros((), weight_BHQK.dtype))
    return ops.matmul(weight_BHQK, v_BHKd)


def attend(
    score: Score, scored: Scored, v_BHKd: Any, see_BQK: Any, dropout: Thinning | None = None, causal: bool = False
) -> Any:
    """[B, H, Q, d] in the dtype of v: values mixed by the softmax of scores; scaling after dropout is the caller's.

    see [B, Q, K]: None = all; causal: as in `tiles`, which `see` must say too.
    """
    queries, keys = scored.queries[0].shape[2], v_BHKd.shape[2]
    # One tile saves little where nothing is dropped, and each length of a text would be compiled on its own.
    whole = dropout is None and (queries or 0) <= QUERIES
    if keras.backend.backend() != "tensorflow" or queries is None or keys is None or whole:
        return reference_attend(score, scored, v_BHKd, see_BQK, dropout, causal)
    import tensorflow as tf

    forwards, backwards = _islands()
    rows, heads = tf.shape(v_BHKd)[0], v_BHKd.shape[1]
    given, all_tiles = (scored, v_BHKd), tiles(queries, keys, causal)

    def seen(tile: Tile) -> Any:
        return None if see_BQK is None else see_BQK[:, tile.begin : tile.end, : tile.keys]

    @tf.custom_gradient
    def mixed(*tensors: Any) -> Any:
        scored, v_BHKd = tf.nest.pack_sequence_as(given, tensors)
        found, norms, keeps = [], [], []
        for tile in all_tiles:
            shape = (rows, heads, tile.end - tile.begin, tile.keys)
            keeps.append(None if dropout is None else dropout.keep(tile, shape))
            weight, norm = forwards(score(scored.cut(tile), tile), seen(tile), keeps[-1], v_BHKd.dtype)
            norms.append(norm)
            found.append(tf.matmul(weight, v_BHKd[:, :, : tile.keys]))

        def gradient(upstream_BHQd: Any) -> list[Any]:
            of_scored, of_v = [], []
            for tile, norm, keep in zip(all_tiles, norms, keeps, strict=True):
                part, above = scored.cut(tile), upstream_BHQd[:, :, tile.begin : tile.end]
                with tf.GradientTape() as tape:
                    tape.watch(part)
                    made = score(part, tile)
                lost = tf.matmul(above, v_BHKd[:, :, : tile.keys], transpose_b=True)
                weight, back = backwards(made, seen(tile), keep, norm, lost)
                of_v.append(tf.matmul(weight, above, transpose_a=True))
                of_scored.append(tape.gradient(made, part, back))
            of_queries, of_keys, of_whole = (list(zip(*each, strict=True)) for each in zip(*of_scored, strict=True))
            return [
                *(tf.concat(each, 2) for each in of_queries),
                *map(_sum, of_keys),
                *map(_sum, of_whole),
                _sum(of_v),
            ]

        return tf.concat(found, 2), gradient

    return mixed(*tf.nest.flatten(given))


def _sum(values: Iterable[Any]) -> Any:
    """Their sum, made in float32, in their dtype: tile by tile, so that two of them exist at once and not all.

    Of tiles that read more and more keys, [B, H, k, ...], those that an earlier one lacks are zero there.
    """
    import tensorflow as tf

    first, *others = values
    total = tf.cast(first, tf.float32)
    for value in others:
        if more := value.shape[2] - total.shape[2]:
            total = tf.pad(total, [(0, 0), (0, 0), (0, more), (0, 0)])
        total += tf.cast(value, tf.float32)
    return tf.cast(total, first.dtype)


@cache
def _islands() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The passes over the scores of one tile, compiled: each reads and writes what it must once."""
    import tensorflow as tf

    def exact(score_BHqk: Any, see_Bqk: Any) -> Any:
        score_BHqk = tf.cast(score_BHqk, tf.float32)
        return score_BHqk if see_Bqk is None else tf.where(see_Bqk[:, None], score_BHqk, UNSEEN)

    def thinned(x_BHqk: Any, keep_BHqk: Any) -> Any:
        return x_BHqk if keep_BHqk is None else tf.where(keep_BHqk, x_BHqk, 0.0)

    @tf.function(jit_compile=True, autograph=False)
    def forwards(score_BHqk: Any, see_Bqk: Any, keep_BHqk: Any, dtype: Any) -> tuple[Any, Any]:
        """The weights exp(score - top) / sum; and the two, [B, H, q, 1] float32, for one logarithm would round both."""
        exact_BHqk = exact(score_BHqk, see_Bqk)
        top_BHq1 = tf.reduce_max(exact_BHqk, -1, keepdims=True)
        share_BHqk = tf.exp(exact_BHqk - top_BHq1)
        sum_BHq1 = tf.reduce_sum(share_BHqk, -1, keepdims=True)
        if see_Bqk is not None:  # a query that sees nothing has weights of zero
            sum_BHq1 = tf.where(top_BHq1 > UNSEEN, sum_BHq1, float("inf"))
        return tf.cast(thinned(share_BHqk / sum_BHq1, keep_BHqk), dtype), (top_BHq1, sum_BHq1)

    @tf.function(jit_compile=True, autograph=False)
    def backwards(score_BHqk: Any, see_Bqk: Any, keep_BHqk: Any, norm: Any, upstream_BHqk: Any) -> tuple[Any, Any]:
        """The weights once more, and the gradient of the scores; upstream: of the weights."""
        top_BHq1, sum_BHq1 = norm
        share_BHqk = tf.exp(exact(score_BHqk, see_Bqk) - top_BHq1) / sum_BHq1
        lost_BHqk = thinned(tf.cast(upstream_BHqk, tf.float32), keep_BHqk)
        # Unlike FlashAttention, which takes this sum from what was mixed: in bfloat16 that is rounded already.
        dot_BHq1 = tf.reduce_sum(share_BHqk * lost_BHqk, -1, keepdims=True)
        back_BHqk = share_BHqk * (lost_BHqk - dot_BHq1)
        weight_BHqk = thinned(share_BHqk, keep_BHqk)
        return tf.cast(weight_BHqk, upstream_BHqk.dtype), tf.cast(back_BHqk, score_BHqk.dtype)

    return forwards, backwards
