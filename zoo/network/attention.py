"""Multi-head attention, absolute or relative; the matmuls in the compute dtype, the softmax in float32.

Shapes: B rows, Q queries, K keys, H heads, d width of a head, D width, R distances, P places of blind queries.
"""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from zoo.kernels.random import RowNoise, drop
from zoo.network.layers import Linear, Part, initializer
from zoo.network.positions import distances, halved_sinusoid, relative_gather, relative_shift

UNSEEN = -1e9  # added to a score: finite, so that gradients are too, and exp() of it is zero


class Keys(NamedTuple):
    """What queries look up: made once from a stream, for all the query streams that read it."""

    k_BKHd: Any
    v_BKHd: Any
    r_RHd: Any | None  # projected distances, `distances(K, K)`


@keras.saving.register_keras_serializable("zoo")
class Attention(Part):
    """Attention over the keys of one stream; a query that sees nothing yields zeros.

    relative: scores by distance with two biases per head (Dai et al. 2019, section 3.3); segments: and by whether two
    tokens share a segment (Yang et al. 2019, section 2.5).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bias: bool = True,
        relative: bool = False,
        segments: bool = False,
        dropout: float = 0.0,
        init_std: float = 0.02,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.dropout = heads, dropout
        head_width = width // heads
        self.scale = 1 / math.sqrt(head_width)
        dtype = self.dtype_policy

        def linear(bias: bool = bias) -> Linear:
            return Linear(width, width, bias=bias, init_std=init_std, dtype=dtype)

        self.q, self.k, self.v, self.out = linear(), linear(), linear(), linear()
        init = initializer(init_std)
        self.r = linear(bias=False) if relative else None
        self.content_bias = self.weight((heads, head_width), init) if relative else None
        self.position_bias = self.weight((heads, head_width), init) if relative else None
        self.segment_bias = self.weight((heads, head_width), init) if segments else None
        self.segment = self.weight((2, heads, head_width), init) if segments else None  # same, other

    def keys(self, x_BKD: Any, table_RD: Any = None) -> Keys:
        """Keys and values of a stream; `table` holds its distances, which are sinusoids where none is given."""
        r_RHd = None
        if self.r is not None:
            if table_RD is None:
                length = x_BKD.shape[1]
                table_RD = halved_sinusoid(distances(length, length), x_BKD.shape[2])
            r_RHd = self._split(self.r(table_RD))
        return Keys(self._split(self.k(x_BKD)), self._split(self.v(x_BKD)), r_RHd)

    def call(
        self,
        x_BQD: Any,
        see_BQK: Any = None,
        keys: Keys | None = None,
        *,
        other_BQK: Any = None,
        at_BP: Any = None,
        noise: RowNoise | None = None,
    ) -> Any:
        """[B, Q, D]. see: True = may attend, None = all; keys: of another stream; other: True = another segment;
        at: the queries' places among the keys, None where query i stands at key i."""
        k_BKHd, v_BKHd, r_RHd = keys or self.keys(x_BQD)
        q_BQHd = ops.cast(self._split(self.q(x_BQD)), "float32") * self.scale

        def query(bias_Hd: Any) -> Any:
            """Queries shifted by one of the biases, which scores are scaled with."""
            return ops.cast(q_BQHd + bias_Hd * self.scale, self.compute_dtype)

        content_BQHd = ops.cast(q_BQHd, self.compute_dtype) if self.content_bias is None else query(self.content_bias)
        score_BHQK = ops.cast(ops.einsum("bqhd,bkhd->bhqk", content_BQHd, k_BKHd), "float32")
        if r_RHd is not None:
            length = k_BKHd.shape[1]
            score_BHQR = ops.einsum("bqhd,rhd->bhqr", query(self.position_bias), r_RHd)
            if at_BP is None:
                moved_BHQK = relative_shift(score_BHQR, length)
            else:
                moved_BHQK = relative_gather(score_BHQR, at_BP, length, length)
            score_BHQK += ops.cast(moved_BHQK, "float32")
        if self.segment is not None and other_BQK is not None:
            # only the difference counts: what all keys of a query share cancels in the softmax
            step_Hd = ops.cast(self.segment[1] - self.segment[0], self.compute_dtype)
            step_BHQ = ops.einsum("bqhd,hd->bhq", query(self.segment_bias), step_Hd)
            score_BHQK += ops.cast(step_BHQ, "float32")[..., None] * ops.cast(other_BQK, "float32")[:, None]
        if see_BQK is not None:
            score_BHQK += ops.where(see_BQK, 0.0, UNSEEN)[:, None]
        weight_BHQK = ops.cast(ops.softmax(score_BHQK), self.compute_dtype)
        weight_BHQK = drop(weight_BHQK, self.dropout, noise, "weights")
        mixed_BQHd = ops.einsum("bhqk,bkhd->bqhd", weight_BHQK, v_BKHd)
        if see_BQK is not None:
            sees_BQ = ops.any(see_BQK, axis=-1)
            mixed_BQHd *= ops.cast(sees_BQ, self.compute_dtype)[:, :, None, None]
        return self.out(ops.reshape(mixed_BQHd, (*ops.shape(x_BQD)[:2], -1)))

    def _split(self, x: Any) -> Any:
        """[..., D] -> [..., H, d]"""
        return ops.reshape(x, (*ops.shape(x)[:-1], self.heads, x.shape[-1] // self.heads))
