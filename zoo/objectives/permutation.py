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
"""

from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from pydantic import Field

from zoo import places
from zoo.batch import Array, Batch, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.schema import Count, Model

if TYPE_CHECKING:
    import keras

    from zoo.network.reader import Reader


class Permutation(Objective):
    """Permutation language modelling, without memory of the row before."""

    class Settings(Objective.Settings):
        rate: Annotated[float, Field(gt=0, le=1)] = 1 / 6  # of a row's tokens: 85 of 512
        max_gram: Count = 5  # pieces in the longest span
        alpha: Count = 6  # a span of n tokens stands in a context of n x alpha // beta
        beta: Count = 1

    never_target = ("pad", "cls", "sep")
    visibility = "rank"
    blind = True

    @property
    def scales(self) -> dict[str, float]:
        return {"permutation": 1.0}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        settings, (height, length) = self.settings, rows.token.shape
        real, may = rows.doc > 0, places.candidates(rows, self.vocab.special, self.never_target)
        chosen = places.spans(
            noise,
            may,
            rows.word_start,
            real,
            places.share(settings.rate, rows),
            max_gram=settings.max_gram,
            alpha=settings.alpha,
            beta=settings.beta,
        )
        # cls and sep have a place in the order without being predicted: the context does not see them.
        functional = real & ~may
        order = np.argsort(noise.uniform("permutation.order", length), axis=1)
        rank = np.where(chosen | functional, order, -1).astype(np.int32)

        # Where a whole document was chosen, its first token would be predicted from nothing. It is not scored; being of
        # the lowest rank, it is context to all others.
        lowest = np.full((height, rows.doc.max() + 1), length)
        np.minimum.at(lowest, (np.arange(height)[:, None], rows.doc), rank)
        sees = rank > np.take_along_axis(lowest, rows.doc, axis=1)
        stream = Stream(rows.token, rows.doc, rows.position, rows.segment, rank)
        predicted = places.places(chosen & sees, rows.token, places.most(settings.rate, length))
        return Batch(stream, None, {"permutation": predicted}, rows.reset, rows.backward)

    def ask(self, rows: Rows, chosen: Array) -> Batch:
        stream = Stream(rows.token, rows.doc, rows.position, rows.segment, np.where(chosen, 0, -1).astype(np.int32))
        return Batch(stream, None, {"permutation": places.places(chosen, rows.token, int(chosen.sum(axis=1).max()))})

    def shapes(self, model: Model) -> dict[str, tuple[int, ...]]:
        return {"blank": (model.width,)}

    def build(self, model: Model) -> "keras.layers.Layer":
        from zoo.network.layers import Part

        start: Any = Part()
        start.blank = start.weight((model.width,), "zeros")  # what stands for a token that is not known
        return start

    def hidden(self, reader: "Reader", batch: Batch) -> Array:
        return reader.read_blind(batch.stream, batch.tasks["permutation"].at, cast(Any, reader.layers).blank)
