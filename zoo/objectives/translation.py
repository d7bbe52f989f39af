"""A text is written word by word from its source (the Transformer, Vaswani et al. 2017).

Teacher forcing: the decoder reads what it should have written, one token late, after a first token that begins every
text. Two pairs share a row here; none sees another, for their documents differ:

>>> import numpy as np
>>> from zoo.batch import Rows
>>> from zoo.noise import Noise
>>> from zoo.objective import Vocab
>>> def rows(token, doc, position):
...     nothing = np.zeros((1, len(token)), int)
...     return Rows(*(np.array([field]) for field in (token, doc, position)), nothing, nothing > 0, nothing > 0)
>>> source = rows([5, 6, 1, 7, 1, 2], [1, 1, 1, 2, 2, 0], [0, 1, 2, 0, 1, 0])
>>> target = rows([8, 1, 9, 8, 9, 1], [1, 1, 2, 2, 2, 2], [0, 1, 0, 1, 2, 3])
>>> objective = Translation(Translation.Settings(), Vocab(10, 10, {"bos": 0, "eod": 1, "pad": 2}), row_tokens=6)
>>> batch = objective.make_batch(Noise(0, 0, 0, 1), target._replace(source=source))
>>> batch.stream.token, batch.tasks["translation"].target
(array([[0, 8, 0, 9, 8, 9]], dtype=int32), array([[8, 1, 9, 8, 9, 1]]))
>>> batch.stream.rank, batch.source.rank
(array([[0, 1, 2, 3, 4, 5]], dtype=int32), array([[0, 0, 0, 0, 0, 0]], dtype=int32))
"""

from typing import TYPE_CHECKING

import numpy as np

from zoo.batch import Array, Batch, Places, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.sections import Data, Rate

if TYPE_CHECKING:
    from zoo.network.reader import Reader


class Translation(Objective):
    """The target's next token, given the whole source and the target before it; a text's end is predicted too."""

    class Settings(Objective.Settings):
        """label_smoothing: how much of a target's chance all other tokens share (section 5.4)."""

        label_smoothing: Rate = 0.1

    specials = ("bos", "eod", "pad")
    never_target = ("bos", "pad")
    visibility = "causal"
    encodes = True

    @classmethod
    def check(cls, settings: Settings, data: Data) -> None:
        if data.rows != "parallel":
            raise ValueError(f"objective translation needs data.rows parallel, not {data.rows}")

    @property
    def scales(self) -> dict[str, float]:
        return {"translation": 1.0}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        assert rows.source is not None
        late = np.pad(rows.token[:, :-1], [(0, 0), (1, 0)])
        token = np.where(rows.position == 0, self.vocab.special["bos"], late)
        token = np.where(rows.doc > 0, token, rows.token).astype(np.int32)
        rank = np.broadcast_to(np.arange(token.shape[1], dtype=np.int32), token.shape)
        stream = Stream(token, rows.doc, rows.position, rows.segment, rank)
        places = Places(None, rows.token, (rows.doc > 0).astype(np.float32))
        read = rows.source  # by the encoder: every token sees all of its document, and what is written sees it too
        source = Stream(read.token, read.doc, read.position, read.segment, np.zeros(read.token.shape, np.int32))
        return Batch(stream, source, {"translation": places})

    def score(self, reader: "Reader", batch: Batch) -> dict[str, Array]:
        places = batch.tasks["translation"]
        hidden = self.hidden(reader, batch)
        return {"translation": reader.token_loss(hidden, places, self.settings.label_smoothing)}
