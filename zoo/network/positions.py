"""Where a token stands: sinusoids, and scores that depend on distance alone.

Shapes: B rows, H heads, Q queries, K keys, R distances, d width of a head.
"""

from typing import Any

import numpy as np
from keras import ops

from zoo.network.layers import float32, sizes


def _angles(position: Any, width: int) -> Any:
    """[..., ceil(width / 2)] float32: position / 10000 ** (2i / width)."""
    rate = 10000.0 ** (-np.arange(0, width, 2) / width)
    return float32(position)[..., None] * ops.convert_to_tensor(rate, "float32")


def sinusoid(position: Any, width: int) -> Any:
    """[...] int -> [..., width]: all sines, then all cosines, as Transformer-XL and XLNet have them.

    Unlike Vaswani et al. 2017, section 3.5, where sines and cosines take turns: the same numbers in another order, and
    whatever is learned on top cannot tell. Their own code has this order, and so has Marian.
    """
    angle = _angles(position, width)
    wide: Any = ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)
    return wide[..., :width]


def distances(queries: int, keys: int) -> Any:
    """[R] int, R = queries + keys: how far a query can lie behind a key, keys - 1 down to -queries.

    The last one is never used: it is the column that `relative_shift` would otherwise have to pad.
    """
    return ops.arange(keys - 1, -queries - 1, -1)


def relative_shift(score_BHQR: Any, keys: int) -> Any:
    """[B, H, Q, R] by distance -> [B, H, Q, K] by key, for the last Q of K places (Dai et al. 2019, appendix B).

    Query i of Q finds its keys in columns Q-1-i to Q-1-i+K-1: one column earlier in every row, which is what a row
    one element shorter does.
    """
    rows, heads, queries, span = sizes(score_BHQR)
    flat = ops.reshape(score_BHQR, (rows, heads, queries * span))
    flat = ops.slice(flat, (0, 0, queries - 1), (rows, heads, queries * (span - 1)))
    shifted = ops.reshape(flat, (rows, heads, queries, span - 1))
    return ops.slice(shifted, (0, 0, 0, 0), (rows, heads, queries, keys))


def relative_gather(score_BHPR: Any, at_BP: Any, queries: int, keys: int) -> Any:
    """The same for the queries that stand at `at` alone: [B, H, P, R] -> [B, H, P, K]."""
    column_BPK = (queries - 1 - at_BP)[:, :, None] + ops.arange(keys)
    rows, heads, places, span = sizes(score_BHPR)
    start_BHP1: Any = ops.reshape(ops.arange(rows * heads * places) * span, (rows, heads, places, 1))
    return ops.take(ops.reshape(score_BHPR, (-1,)), start_BHP1 + column_BPK[:, None], axis=0)
