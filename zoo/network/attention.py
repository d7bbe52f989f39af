"""Multi-head attention, absolute or relative; the matmuls in the compute dtype, the softmax in float32.

Shapes: B rows, Q queries, K keys, H heads, d width of a head, D width, R distances, P places of blind queries.
"""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from zoo.kernels.attention import Thinning, attend, softmax
from zoo.kernels.matmul import matmul_transposed
from zoo.kernels.random import RowNoise, makes_up
from zoo.kernels.scores import Pairs, Scored, products, total
from zoo.network.layers import Linear, Part, float32, initializer, sizes
from zoo.network.positions import distances, sinusoid


class Keys(NamedTuple):
    """What queries look up: made once from a stream, for all the query streams that read it."""

    k: Any  # [B, H, K, d]
    v: Any  # [B, H, K, d]
    r: Any | None  # [H, R, d], projected distances; [B, H, R, d] where rows differ in their direction


@keras.saving.register_keras_serializable("zoo")
class Attention(Part):
    """Attention over the keys of one stream; a query that sees nothing yields zeros (and the bias of `out`).

    relative: scores by distance with two biases per head (Dai et al. 2019, section 3.3); biases: the two [H, d], where
    layers share them; segments: scores also by whether two tokens share a segment (Yang et al. 2019, section 2.5).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bias: bool = True,
        relative: bool = False,
        biases: tuple[keras.Variable, keras.Variable] | None = None,
        segments: bool = False,
        dropout: float = 0.0,
        init_std: float = 0.02,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.dropout = heads, dropout
        self.head_width = width // heads
        dtype = self.dtype_policy

        def linear(bias: bool = bias) -> Linear:
            return Linear(width, width, bias=bias, init_std=init_std, dtype=dtype)

        def per_head(*shape: int) -> keras.Variable:
            return self.weight((*shape, heads, self.head_width), initializer(init_std))

        self.q, self.k, self.v, self.out = linear(), linear(), linear(), linear()
        self.r = linear(bias=False) if relative else None
        own = (per_head(), per_head()) if relative and biases is None else (None, None)
        self.content_bias, self.position_bias = biases or own
        self.segment_bias = per_head() if segments else None
        self.segment = per_head(2) if segments else None  # same, other

    def keys(self, x_BKD: Any, table_RD: Any = None, backward_B: Any = None) -> Keys:
        """Keys and values of a stream; `table` holds its distances, which are sinusoids where none is given.

        backward: rows that run backwards; then there are two tables, [2, R, D], and theirs is the second.
        """
        r_HRd = None
        if self.r is not None:
            if table_RD is None:
                length = sizes(x_BKD)[1]
                table_RD = sinusoid(distances(length, length), x_BKD.shape[2])
            r_HRd = self._heads(self.r(table_RD))
            if backward_B is not None:
                r_HRd = _chosen(r_HRd, backward_B)
        return Keys(self._heads(self.k(x_BKD)), self._heads(self.v(x_BKD)), r_HRd)

    def call(
        self,
        x_BQD: Any,
        see_BQK: Any = None,
        keys: Keys | None = None,
        *,
        other_BQK: Any = None,
        at_BP: Any = None,
        causal: bool = False,
        length_B: Any = None,
        noise: RowNoise | None = None,
    ) -> Any:
        """[B, Q, D]. see: True = may attend, None = all; keys: of another stream; other: True = another segment;
        at: where the queries stand in the row that the last keys are, None where query i is its token i; causal: no
        query sees a key behind its own place, as `see` says too; length: as in Pairs."""
        keys = keys or self.keys(x_BQD)
        scored, pairs = self._scores(x_BQD, keys, other_BQK, at_BP)
        dropout = Thinning(noise, self.dropout) if noise is not None and self.dropout else None
        pairs = pairs._replace(see=see_BQK, length=length_B)
        mixed_BHQd = attend(scored, pairs, keys.v, dropout, causal=causal, learns=noise is not None)
        mixed_BQHd = float32(ops.transpose(mixed_BHQd, (0, 2, 1, 3))) * (makes_up(self.dropout) if dropout else 1.0)
        return self.out(ops.reshape(mixed_BQHd, sizes(x_BQD)))

    def shares(
        self, x_BQD: Any, see_BQK: Any = None, keys: Keys | None = None, *, other_BQK: Any = None, at_BP: Any = None
    ) -> Any:
        """[B, H, Q, K] float32: how a query's attention is shared out among the keys it sees; they sum to one."""
        scored, pairs = self._scores(x_BQD, keys or self.keys(x_BQD), other_BQK, at_BP)
        return softmax(total(products(scored), pairs), see_BQK)

    def _scores(self, x_BQD: Any, keys: Keys, other_BQK: Any, at_BP: Any) -> tuple[Scored, Pairs]:
        """What queries score keys by."""
        root = math.sqrt(self.head_width)
        q_BQD = float32(self.q(x_BQD)) / root

        def query(bias_Hd: Any) -> Any:
            """What a score of one kind multiplies: the queries, moved by that kind's bias where there is one."""
            bias_D: Any = 0.0 if bias_Hd is None else ops.reshape(bias_Hd, (-1,))
            return self._heads(self.lowered(q_BQD + bias_D / root))

        scored, pairs = Scored(query(self.content_bias), keys.k), Pairs()
        if keys.r is not None:
            scored = scored._replace(p=query(self.position_bias), r=keys.r)
            if at_BP is not None:
                row = sizes(keys.r)[-2] - sizes(keys.k)[2]  # distances are those of the row's tokens to all keys
                pairs = pairs._replace(first=row - 1 - at_BP)
        if self.segment is not None and other_BQK is not None:
            # only the difference counts: what all keys of a query share cancels in the softmax
            step_H1d = self.lowered(self.segment[1] - self.segment[0])[:, None]
            scored = scored._replace(step=float32(matmul_transposed(query(self.segment_bias), step_H1d)))
            pairs = pairs._replace(other=other_BQK)
        return scored, pairs

    def _heads(self, x: Any) -> Any:
        """[..., K, D] -> [..., H, K, d]"""
        split = ops.reshape(x, (*sizes(x)[:-1], self.heads, self.head_width))
        return ops.swapaxes(split, -2, -3)


def _chosen(r_2HRd: Any, backward_B: Any) -> Any:
    """[B, H, R, d]: for each row the first or the second; a matmul, whose gradient is one too and no scatter."""
    _, *shape = sizes(r_2HRd)
    which_B2: Any = ops.one_hot(ops.cast(backward_B, "int32"), 2, dtype=r_2HRd.dtype)
    return ops.reshape(ops.matmul(which_B2, ops.reshape(r_2HRd, (2, -1))), (-1, *shape))
