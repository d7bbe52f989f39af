"""Every token is predicted from those before it (GPT-2, Radford et al. 2019).

Rows hold one token more than the stream, so that all its places predict. Here two documents meet in a row, and the
last token of the first predicts nothing:

>>> import numpy as np
>>> from zoo.batch import Rows
>>> from zoo.noise import Noise
>>> from zoo.objective import Vocab
>>> token, doc, position = np.array([[[5, 6, 7, 0, 8, 9, 4]], [[1, 1, 1, 1, 2, 2, 2]], [[0, 1, 2, 3, 0, 1, 2]]])
>>> nothing = np.zeros_like(token)
>>> objective = Causal(Causal.Settings(), Vocab(size=10, used=10, special={"eod": 0}), row_tokens=6)
>>> batch = objective.make_batch(Noise(0, 0, 0, 1), Rows(token, doc, position, nothing, nothing > 0, nothing > 0))
>>> batch.stream.token, batch.tasks["causal"].target
(array([[5, 6, 7, 0, 8, 9]]), array([[6, 7, 0, 8, 9, 4]]))
>>> batch.tasks["causal"].weight
array([[1., 1., 1., 0., 1., 1.]], dtype=float32)
>>> batch.stream.rank, batch.stream.doc
(array([[0, 1, 2, 3, 4, 5]], dtype=int32), array([[1, 1, 1, 1, 2, 2]]))
"""

import numpy as np

from zoo.batch import Array, Batch, Places, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective


class Causal(Objective):
    """Next-token prediction. Whether it crosses the ends of documents is the rows' matter (data.across_documents)."""

    never_target = ("pad",)
    visibility = "causal"
    extra_tokens = 1

    @property
    def scales(self) -> dict[str, float]:
        return {"causal": 1.0}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        height, width = rows.token.shape
        rank = np.broadcast_to(np.arange(width - 1, dtype=np.int32), (height, width - 1))
        stream = Stream(rows.token[:, :-1], rows.doc[:, :-1], rows.position[:, :-1], rows.segment[:, :-1], rank)
        follows = (stream.doc > 0) & (rows.doc[:, 1:] == stream.doc)
        predicted = Places(None, rows.token[:, 1:], follows.astype(np.float32))
        return Batch(stream, None, {"causal": predicted}, rows.reset, rows.backward)

    def in_order(self, rows: Rows, chosen: Array) -> Batch:
        batch = self.make_batch(Noise(0, 0, 0, len(rows.token)), rows)
        predicted = batch.tasks["causal"]
        return batch._replace(tasks={"causal": predicted._replace(weight=predicted.weight * chosen[:, 1:])})
