"""What the rows of a pass go on from: the states of the tokens before them, in every block.

Shapes: B rows, M tokens remembered, T tokens of a row, Q queries, D width.
"""

from typing import Any, NamedTuple

from keras import ops

from zoo.batch import Stream
from zoo.network.layers import float32, sizes
from zoo.sections import Model
from zoo.visibility import within


class Reach(NamedTuple):
    """How far a token looks back, in tokens; static, so that a graph is made for it."""

    memory: int = 0  # before its row
    clamp: int | None = None  # distances beyond this one count as this one
    same_length: bool = False  # each sees itself and the `memory` tokens before it, and none further back

    @classmethod
    def of(cls, model: Model) -> "Reach":
        return cls(model.memory, model.clamp, model.same_length)


class Past:
    """The memory of Dai et al. 2019, section 3.2, for one pass over some rows: read, and made anew on the way.

    What a block is given of a token, its input, is remembered; no gradient flows back into it. Only a set of tokens may
    be kept that sees nothing outside itself, or the states of the rest would leak through it: the first `keep` tokens
    of a row, which is the objective's promise.
    """

    def __init__(
        self,
        reach: Reach,
        states: list[Any] | None = None,
        filled_B: Any = None,
        *,
        keep: int | None = None,
        backward_B: Any = None,
    ):
        """states: [B, M, D] for every block, None where there are none; filled: how many of the M there are, which are
        the last ones; keep: None = the whole row; backward [B] bool: rows that run from their text's end to its start.
        """
        self.reach, self.states = reach, states or []
        self.filled_B: Any = filled_B
        self.keep, self.backward_B = keep, backward_B
        self.kept: list[Any] = []  # [B, M, D] for every block that has read: what the next rows go on from

    @property
    def plain(self) -> bool:
        """Whether rows stand alone and run forwards, so that a block finds all keys in its own row."""
        return not self.states and self.backward_B is None

    @property
    def length(self) -> int:
        """M."""
        return self.states[0].shape[1] if self.states else 0

    def before(self, block: int, x_BTD: Any) -> Any:
        """[B, M + T, D] float32: what a block reads the rows after; and it remembers them."""
        if not self.states:
            return x_BTD
        old_BMD = self.states[block]
        new_BND = ops.cast(x_BTD[:, : self.keep], old_BMD.dtype)
        joined: Any = ops.concatenate([old_BMD, new_BND], axis=1)
        self.kept.append(ops.stop_gradient(joined[:, -self.length :]))
        return ops.concatenate([float32(old_BMD), float32(x_BTD)], axis=1)

    def see(self, query: Stream, see_BQT: Any, at_BP: Any = None) -> Any:
        """[B, Q, M + T]: who sees which token of the row [B, Q, T], with the memory, which all see, before it.

        at: where the queries stand in the row; None = query i at token i. Unlike XLNet's and the TensorFlow release of
        Transformer-XL, which attend to zeros while a memory fills up, nobody sees a place of it that is empty.
        """
        _, queries, length = sizes(see_BQT)
        if self.states:
            slot_M: Any = ops.arange(self.length)
            there_B1M = slot_M >= ops.reshape(self.length - self.filled_B, (-1, 1, 1))
            see_BQM = there_B1M & (query.doc > 0)[:, :, None]
            see_BQT = ops.concatenate([see_BQM, see_BQT], axis=-1)
        if self.reach.same_length:
            place_BQ: Any = ops.reshape(ops.arange(queries), (1, -1)) if at_BP is None else at_BP
            see_BQT = see_BQT & within(self.reach.memory, place_BQ + self.length, ops.arange(self.length + length))
        return see_BQT

    def segments(self, stream: Stream) -> Any:
        """[B, M + T]: a memory counts as the first segment, whatever it was, as in XLNet's release."""
        if not self.states:
            return stream.segment
        rows = sizes(stream.segment)[0]
        return ops.concatenate([ops.zeros((rows, self.length), stream.segment.dtype), stream.segment], axis=1)
