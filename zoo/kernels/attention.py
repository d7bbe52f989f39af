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

from zoo.kernels.flash_attention import flash_attention
from zoo.kernels.random import RowNoise
from zoo.kernels.scores import Pairs, Products, Scored, Tile, products, total, total_gradient

QUERIES = 128  # at a time: of 64, 128, 256 and 512 the fastest for rows of 512 tokens
UNSEEN = -1e9  # added to a score: finite, so that gradients are too, and exp() of it is zero


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
    scored: Scored,
    pairs: Pairs,
    v_BHKd: Any,
    dropout: Thinning | None = None,
    *,
    causal: bool = False,
    learns: bool = False,
) -> Any:
    """What `attend` computes, all queries at once."""
    share_BHQK = softmax(total(products(scored), pairs), pairs.see)
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
    scored: Scored,
    pairs: Pairs,
    v_BHKd: Any,
    dropout: Thinning | None = None,
    *,
    causal: bool = False,
    learns: bool = False,
) -> Any:
    """[B, H, Q, d] in the dtype of v: values mixed by the softmax of scores; scaling after dropout is the caller's.

    causal: as in `tiles`, which `pairs.see` must say too; learns: rows are of one shape, and gradients follow.
    """
    queries, keys = scored.q.shape[2], v_BHKd.shape[2]
    # One tile saves little where nothing is dropped or gathered, and every length of a text would be compiled anew.
    plain = dropout is None and not (learns and pairs.first is not None)
    whole = plain and (queries or 0) <= QUERIES
    positions_alone = pairs.length is not None and scored.r is None and scored.step is None
    if keras.backend.backend() == "jax" and positions_alone and dropout is None:
        return flash_attention(scored.q, scored.k, v_BHKd, pairs.length, causal)
    if keras.backend.backend() != "tensorflow" or queries is None or keys is None or whole:
        return reference_attend(scored, pairs, v_BHKd, dropout, causal=causal)
    import tensorflow as tf

    forwards, backwards = _islands()
    rows, heads = tf.shape(v_BHKd)[0], v_BHKd.shape[1]
    all_tiles = tiles(queries, keys, causal)
    pairs_of = [pairs.cut(tile) for tile in all_tiles]
    span = 0 if scored.r is None else scored.r.shape[-2]
    # Queries that stand one after another need no distance in front, which is for those behind them (relative_shift).
    needed = [
        (queries - tile.end, queries - tile.begin + tile.keys) if pairs.first is None else (0, span)
        for tile in all_tiles
    ]

    @tf.custom_gradient
    def mixed(v_BHKd: Any, *tensors: Any) -> Any:
        whole = _filled(scored, tensors)
        # Cut outside of any tape: the gradient of a cut is as large as the whole, and slow.
        parts = [whole.cut(tile, distances) for tile, distances in zip(all_tiles, needed, strict=True)]
        found, norms, keeps = [], [], []
        for tile, part, known in zip(all_tiles, parts, pairs_of, strict=True):
            shape = (rows, heads, tile.end - tile.begin, tile.keys)
            keeps.append(None if dropout is None else dropout.keep(tile, shape))
            weight, norm = forwards(products(part), known, keeps[-1], v_BHKd.dtype)
            norms.append(norm)
            found.append(tf.matmul(weight, v_BHKd[:, :, : tile.keys]))

        def gradient(upstream_BHQd: Any) -> list[Any]:
            of_parts, of_v = [], []
            for tile, part, known, norm, keep in zip(all_tiles, parts, pairs_of, norms, keeps, strict=True):
                above = upstream_BHQd[:, :, tile.begin : tile.end]
                with tf.GradientTape() as tape:
                    tape.watch(_there(part))
                    made = products(part)
                lost = tf.matmul(above, v_BHKd[:, :, : tile.keys], transpose_b=True)
                weight, of_made = backwards(made, known, keep, norm, lost)
                of_v.append(tf.matmul(weight, above, transpose_a=True))
                of_parts.append(_filled(scored, tape.gradient(_there(made), _there(part), _there(of_made))))
            q, k, p, r, step = zip(*of_parts, strict=True)
            firsts, none_before = [first for first, _ in needed], [0] * len(all_tiles)
            of_scored = Scored(
                tf.concat(q, 2),
                _sum(k, none_before, keys),
                None if scored.p is None else tf.concat(p, 2),
                None if scored.r is None else _sum(r, firsts, span),
                None if scored.step is None else tf.concat(step, 2),
            )
            return [_sum(of_v, none_before, keys), *_there(of_scored)]

        return tf.concat(found, 2), gradient

    return mixed(v_BHKd, *_there(scored))


def _there(fields: Iterable[Any]) -> list[Any]:
    return [each for each in fields if each is not None]


def _filled(like: Scored, tensors: Iterable[Any]) -> Scored:
    """Those that `like` has, in its order."""
    rest = iter(tensors)
    return Scored(*(None if each is None else next(rest) for each in like))


def _sum(values: Iterable[Any], begins: list[int], size: int) -> Any:
    """Their sum, [..., size, d], made in float32, in their dtype: tile by tile, so that two of them exist at once.

    Each, [..., n, d], stands from its `begin` on; what it lacks is zero.
    """
    import tensorflow as tf

    def placed(x: Any, before: int, behind: int) -> Any:
        return tf.pad(x, [*[(0, 0)] * (len(x.shape) - 2), (before, behind), (0, 0)]) if before or behind else x

    (value, *others), (begin, *later) = values, begins
    total, end = tf.cast(value, tf.float32), begin + value.shape[-2]
    for other, first in zip(others, later, strict=True):
        last = first + other.shape[-2]
        low, high = min(begin, first), max(end, last)
        own = placed(tf.cast(other, tf.float32), first - low, high - last)
        total, begin, end = placed(total, begin - low, high - end) + own, low, high
    return tf.cast(placed(total, begin, size - end), value.dtype)


@cache
def _islands() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The passes over the scores of one tile, compiled: each reads and writes what it must once."""
    import tensorflow as tf

    def exact(made: Products, pairs: Pairs) -> Any:
        score_BHqk = tf.cast(total(made, pairs), tf.float32)
        return score_BHqk if pairs.see is None else tf.where(pairs.see[:, None], score_BHqk, UNSEEN)

    def thinned(x_BHqk: Any, keep_BHqk: Any) -> Any:
        return x_BHqk if keep_BHqk is None else tf.where(keep_BHqk, x_BHqk, 0.0)

    @tf.function(jit_compile=True, autograph=False)
    def forwards(made: Products, pairs: Pairs, keep_BHqk: Any, dtype: Any) -> tuple[Any, Any]:
        """The weights exp(score - top) / sum; and the two, [B, H, q, 1] float32, for one logarithm would round both."""
        exact_BHqk = exact(made, pairs)
        top_BHq1 = tf.reduce_max(exact_BHqk, -1, keepdims=True)
        share_BHqk = tf.exp(exact_BHqk - top_BHq1)
        sum_BHq1 = tf.reduce_sum(share_BHqk, -1, keepdims=True)
        if pairs.see is not None:  # a query that sees nothing has weights of zero
            sum_BHq1 = tf.where(top_BHq1 > UNSEEN, sum_BHq1, float("inf"))
        return tf.cast(thinned(share_BHqk / sum_BHq1, keep_BHqk), dtype), (top_BHq1, sum_BHq1)

    @tf.function(jit_compile=True, autograph=False)
    def backwards(made: Products, pairs: Pairs, keep_BHqk: Any, norm: Any, upstream_BHqk: Any) -> tuple[Any, Products]:
        """The weights once more, and the gradients of products; upstream: of the weights."""
        top_BHq1, sum_BHq1 = norm
        share_BHqk = tf.exp(exact(made, pairs) - top_BHq1) / sum_BHq1
        lost_BHqk = thinned(tf.cast(upstream_BHqk, tf.float32), keep_BHqk)
        # Unlike FlashAttention, which takes this sum from what was mixed: in bfloat16 that is rounded already.
        dot_BHq1 = tf.reduce_sum(share_BHqk * lost_BHqk, -1, keepdims=True)
        of_made = total_gradient(share_BHqk * (lost_BHqk - dot_BHq1), made, pairs)
        return tf.cast(thinned(share_BHqk, keep_BHqk), upstream_BHqk.dtype), of_made

    return forwards, backwards
