"""Some tokens are predicted one by one in a random order, from context and those before (XLNet, Yang et al. 2019).

No token is changed: what predicts is a second stream, which knows a place but not its token and sees strictly lower
ranks. The context has rank -1, which all see. Of eight tokens three are chosen here: 5 is predicted from the context
alone, then 7 from the context and 5, then 2 from all the others:

>>> import numpy as np
>>> from zoo.batch import Rows
>>> from zoo.noise import Noise
>>> from zoo.objective import Vocab
>>> token = np.array([[2, 3, 4, 5, 6, 7, 8, 9]], np.int32)
>>> doc, nothing, position = np.ones_like(token), np.zeros_like(token), np.arange(8, dtype=np.int32)[None]
>>> objective = Permutation(Permutation.Settings(rate=0.375), Vocab(size=10, used=10, special={}), row_tokens=8)
>>> batch = objective.make_batch(Noise(139, 0, 0, 1), Rows(token, doc, position, nothing, doc > 0, nothing > 0))
>>> batch.stream.token
array([[2, 3, 4, 5, 6, 7, 8, 9]], dtype=int32)
>>> batch.stream.rank
array([[ 2, -1, -1,  0, -1,  1, -1, -1]], dtype=int32)
>>> batch.tasks["permutation"].at, batch.tasks["permutation"].target
(array([[0, 3, 5]], dtype=int32), array([[2, 5, 7]], dtype=int32))

With data.reuse a row has two parts, each ordered by itself: here [2 3 4 5] and [6 sep 7 sep cls], with sep 0 and cls 1.
Rank 4 is the context of the second part, which sees all of the first. Two of three targets are the first part's; the
third fell on a special token, and is not predicted:

>>> vocab, settings = Vocab(size=10, used=10, special={"sep": 0, "cls": 1}), Permutation.Settings(rate=0.375)
>>> token = np.array([[2, 3, 4, 5, 6, 0, 7, 0, 1]], np.int32)
>>> doc, nothing, position = np.ones_like(token), np.zeros_like(token), np.arange(9, dtype=np.int32)[None]
>>> rows = Rows(token, doc, position, nothing, doc > 0, nothing > 0)
>>> batch = Permutation(settings, vocab, row_tokens=9, reuse=4).make_batch(Noise(0, 0, 0, 1), rows)
>>> batch.stream.rank, batch.tasks["permutation"].weight
(array([[ 0, -1, -1,  1,  4,  5,  4,  7,  8]], dtype=int32), array([[1., 1., 0.]], dtype=float32))
"""

import math
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from pydantic import Field

from zoo import places
from zoo.batch import Array, Batch, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.sections import Count, Data, Model, nearest_divisor

if TYPE_CHECKING:
    import keras

    from zoo.network.reader import Reader


class Permutation(Objective):
    """Permutation language modelling, of whole rows or of the two parts that `data.reuse` makes of them."""

    class Settings(Objective.Settings):
        rate: Annotated[float, Field(gt=0, le=1)] = 1 / 6  # of a row's tokens: 85 of 512
        max_gram: Count = 5  # pieces in the longest span
        alpha: Count = 6  # a span of n tokens stands in a context of n x alpha // beta
        beta: Count = 1
        perm_size: Count | None = None  # a part's blocks of so many tokens come one after another; None = one block

    never_target = ("pad", "cls", "sep")
    visibility = "rank"
    parts = True
    blind = True

    @classmethod
    def check(cls, settings: Any, data: Data) -> None:
        length = cast(int, data.row_tokens)
        parts = [length] if data.reuse is None else [data.reuse, length - data.reuse]
        if settings.perm_size is not None and any(part % settings.perm_size for part in parts):
            raise ValueError(
                f"objective.perm_size {settings.perm_size} does not divide parts of {' and '.join(map(str, parts))}"
                f" tokens; nearest that does: {nearest_divisor(settings.perm_size, math.gcd(*parts))}"
            )

    @property
    def scales(self) -> dict[str, float]:
        return {"permutation": 1.0}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        rate, (height, length) = self.settings.rate, rows.token.shape
        goal, cut = places.share(rate, rows), self.reuse
        if cut is None:
            chosen, rank = self._ordered(noise, rows, slice(length), goal)
        else:
            first = -(-goal // 2)  # of 85 tokens 43, as released
            one = self._ordered(noise, rows, slice(cut), first)
            two = self._ordered(noise.under("second"), rows, slice(cut, length), goal - first)
            # The first part's ranks are below `cut`, which becomes that of the second part's context: so all of the
            # second sees all of the first, and the first nothing of the second.
            chosen, rank = np.concatenate([one[0], two[0]], axis=1), np.concatenate([one[1], two[1] + cut + 1], axis=1)

        # Where a whole document was chosen, its first token would be predicted from nothing. It is not scored, not even
        # where it would see a memory, of which an objective does not know; being of the lowest rank, it is context to
        # all others.
        lowest = np.full((height, rows.doc.max() + 1), rank.max())
        np.minimum.at(lowest, (np.arange(height)[:, None], rows.doc), rank)
        sees = rank > np.take_along_axis(lowest, rows.doc, axis=1)
        stream = Stream(rows.token, rows.doc, rows.position, rows.segment, rank.astype(np.int32))
        predicted = places.places(chosen & sees, rows.token, places.most(rate, length))
        return Batch(stream, None, {"permutation": predicted}, rows.reset, rows.backward)

    def _ordered(self, noise: Noise, rows: Rows, part: slice, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which tokens of a part of the rows are predicted, and their ranks, from -1 on; both [B, n].

        Source: _sample_mask and _local_perm of XLNet's data_utils.py.
        """
        real = rows.doc[:, part] > 0
        may = places.candidates(rows, self.vocab.special, self.never_target)[:, part]
        # A special token starts a word: its "<" does in the release.
        start = rows.word_start[:, part] | np.isin(rows.token[:, part], list(self.vocab.special.values()))
        # As released: cls and sep may be chosen and are then not predicted, so that some rows fall short of the goal.
        grams = {"max_gram": self.settings.max_gram, "alpha": self.settings.alpha, "beta": self.settings.beta}
        spans = places.spans(noise, turned(start, real, rows.backward), real, goal, **grams)
        chosen = may & turned(spans, real, rows.backward)
        size = self.settings.perm_size or real.shape[1]
        block, within = np.divmod(np.arange(real.shape[1]), size)
        order = block * size + np.argsort(noise.uniform("permutation.order", size), axis=1)[:, within]
        # cls and sep have a place in the order without being predicted: the context does not see them.
        return chosen, np.where(chosen | (real & ~may), order, -1)

    def ask(self, rows: Rows, chosen: Array) -> Batch:
        stream = Stream(rows.token, rows.doc, rows.position, rows.segment, np.where(chosen, 0, -1).astype(np.int32))
        return Batch(stream, None, {"permutation": places.places(chosen, rows.token, int(chosen.sum(axis=1).max()))})

    def in_order(self, rows: Rows, chosen: Array) -> Batch:
        column = np.arange(rows.token.shape[1], dtype=np.int32)
        first = np.concatenate([np.ones_like(chosen[:, :1]), rows.doc[:, 1:] != rows.doc[:, :-1]], axis=1)
        scored = chosen & ~first
        stream = Stream(rows.token, rows.doc, rows.position, rows.segment, np.broadcast_to(column, rows.token.shape))
        predicted = places.places(scored, rows.token, int(scored.sum(axis=1).max()))
        return Batch(stream, None, {"permutation": predicted})

    def shapes(self, model: Model) -> dict[str, tuple[int, ...]]:
        return {"blank": (model.width,)}

    def build(self, model: Model) -> "keras.layers.Layer":
        from zoo.network.layers import Part

        start: Any = Part()
        start.blank = start.weight((model.width,), "zeros")  # what stands for a token that is not known
        return start

    def hidden(self, reader: "Reader", batch: Batch) -> Array:
        return reader.read_blind(batch.stream, batch.tasks["permutation"].at, cast(Any, reader.layers).blank)


def turned(grid: np.ndarray, real: np.ndarray, backward: np.ndarray | None) -> np.ndarray:
    """[B, T] with the text of backward rows turned round, padding left at its end; turned twice it is as before."""
    if backward is None:
        return grid
    column = np.arange(grid.shape[1])
    other = np.where(backward[:, None] & real, real.sum(axis=1, keepdims=True) - 1 - column, column)
    return np.take_along_axis(grid, other, axis=1)
