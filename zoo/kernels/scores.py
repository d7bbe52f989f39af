"""What queries score keys: by content, by distance, and by whether the two share a segment.

The matmuls, and what is element-wise, which compiled passes over scores take in (zoo/kernels/attention.py).

Shapes: B rows, Q queries, K keys, R distances, H heads, d width of a head.
"""

from typing import Any, NamedTuple

from keras import ops

from zoo.kernels.matmul import matmul_transposed


class Tile(NamedTuple):
    """Queries `begin` to `end - 1` and the first `keys` of the keys."""

    begin: int
    end: int
    keys: int


class Pairs(NamedTuple):
    """What is known of queries and keys, and has no gradient."""

    see: Any = None  # [B, Q, K] bool: who may attend to whom; None = all to all
    other: Any = None  # [B, Q, K] bool: which keys are of another segment
    length: Any = None  # [B]: of rows that are one document with padding behind it, the tokens it has
    first: Any = None  # [B, Q]: which distance is to the first key; None = to the last Q of K places, as in `distances`

    def cut(self, tile: Tile) -> "Pairs":
        """Those of a tile."""
        see, other = (x if x is None else x[:, tile.begin : tile.end, : tile.keys] for x in (self.see, self.other))
        first = None if self.first is None else self.first[:, tile.begin : tile.end]
        return Pairs(see, other, first=first)


class Scored(NamedTuple):
    """The tensors that scores are made of, and that gradients flow to; None = there is no such part."""

    q: Any  # [B, H, Q, d]
    k: Any  # [B, H, K, d]
    p: Any = None  # [B, H, Q, d]: queries for distances
    r: Any = None  # [H, R, d]: projected distances; [B, H, R, d] where rows differ
    step: Any = None  # [B, H, Q, 1] float32: what a key of another segment scores more

    def cut(self, tile: Tile, distances: tuple[int, int]) -> "Scored":
        """What a tile is made of; distances: the first that it needs, and the one behind the last."""
        q, p, step = (x if x is None else x[:, :, tile.begin : tile.end] for x in (self.q, self.p, self.step))
        r = None if self.r is None else self.r[..., distances[0] : distances[1], :]
        return Scored(q, self.k[:, :, : tile.keys], p, r, step)


class Products(NamedTuple):
    """What is added up to a score."""

    content: Any  # [B, H, Q, K]
    position: Any = None  # [B, H, Q, R], by distance
    step: Any = None  # [B, H, Q, 1] float32


def products(of: Scored) -> Products:
    """What matmuls make of them."""
    position_BHQR = None if of.r is None else matmul_transposed(of.p, of.r)
    return Products(matmul_transposed(of.q, of.k), position_BHQR, of.step)


def total(made: Products, pairs: Pairs) -> Any:
    """[B, H, Q, K]: the scores."""
    score_BHQK, position_BHQR, step_BHQ1 = made
    if position_BHQR is not None:
        keys = _sizes(score_BHQK)[-1]
        if pairs.first is None:
            position_BHQK = relative_shift(position_BHQR, keys)
        else:
            position_BHQK = relative_gather(position_BHQR, pairs.first, keys)
        score_BHQK = _float32(score_BHQK) + _float32(position_BHQK)
    if step_BHQ1 is not None:
        score_BHQK = _float32(score_BHQK) + ops.where(pairs.other[:, None], step_BHQ1, 0.0)
    return score_BHQK


def total_gradient(back_BHQK: Any, made: Products, pairs: Pairs) -> Products:
    """What the gradient of `total` is for each product: moved the other way, where XLA's own would scatter it."""
    position_BHQR, step_BHQ1 = None, None
    if made.position is not None:
        span = made.position.shape[-1]
        if pairs.first is None:
            position_BHQR = shifted_back(back_BHQK, span)
        else:
            position_BHQR = gathered_back(back_BHQK, pairs.first, span)
        position_BHQR = ops.cast(position_BHQR, made.position.dtype)
    if made.step is not None:
        step_BHQ1 = ops.sum(ops.where(pairs.other[:, None], back_BHQK, 0.0), axis=-1, keepdims=True)
    return Products(ops.cast(back_BHQK, made.content.dtype), position_BHQR, step_BHQ1)


def relative_shift(score_BHQR: Any, keys: int) -> Any:
    """[B, H, Q, R] by distance -> [B, H, Q, K] by key, for the last Q of K places (Dai et al. 2019, appendix B).

    Query i of Q finds its keys in columns Q-1-i to Q-1-i+K-1: one column earlier in every row, which is what a row
    one element shorter does.
    """
    rows, heads, queries, span = _sizes(score_BHQR)
    flat = ops.reshape(score_BHQR, (rows, heads, queries * span))
    flat = ops.slice(flat, (0, 0, queries - 1), (rows, heads, queries * (span - 1)))
    shifted = ops.reshape(flat, (rows, heads, queries, span - 1))
    return ops.slice(shifted, (0, 0, 0, 0), (rows, heads, queries, keys))


def relative_gather(score_BHQR: Any, first_BQ: Any, keys: int) -> Any:
    """The same for queries that stand anywhere: [B, H, Q, R] -> [B, H, Q, K], the columns from `first` on."""
    column_BQK = first_BQ[:, :, None] + ops.arange(keys)
    rows, heads, queries, span = _sizes(score_BHQR)
    start_BHQ1: Any = ops.reshape(ops.arange(rows * heads * queries) * span, (rows, heads, queries, 1))
    return ops.take(ops.reshape(score_BHQR, (-1,)), start_BHQ1 + column_BQK[:, None], axis=0)


def shifted_back(back_BHQK: Any, span: int) -> Any:
    """What `relative_shift` does, backwards: [B, H, Q, K] -> [B, H, Q, R], R = Q + K."""
    rows, heads, queries, _ = _sizes(back_BHQK)
    wide = ops.pad(back_BHQK, [(0, 0), (0, 0), (0, 0), (queries - 1, 0)])
    flat = ops.reshape(wide, (rows, heads, queries * (span - 1)))
    return ops.reshape(ops.pad(flat, [(0, 0), (0, 0), (0, queries)]), (rows, heads, queries, span))


def gathered_back(back_BHQK: Any, first_BQ: Any, span: int) -> Any:
    """What `relative_gather` does, backwards, and no scatter: a query's columns are one window."""
    rows, heads, queries, keys = _sizes(back_BHQK)
    key_BQR: Any = ops.arange(span) - first_BQ[:, :, None]
    start_BHQ1: Any = ops.reshape(ops.arange(rows * heads * queries) * keys, (rows, heads, queries, 1))
    clipped_BQR: Any = ops.clip(key_BQR, 0, keys - 1)
    found = ops.take(ops.reshape(back_BHQK, (-1,)), start_BHQ1 + clipped_BQR[:, None], axis=0)
    return ops.where(((key_BQR >= 0) & (key_BQR < keys))[:, None], found, 0.0)


def _float32(x: Any) -> Any:
    return ops.cast(x, "float32")


def _sizes(x: Any) -> Any:
    return ops.shape(x)
