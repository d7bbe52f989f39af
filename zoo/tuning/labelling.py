"""Fine-tuning as an objective: at some tokens of a row a label is to be found.

Rows have the label that is to be found at a token, -1 at all others. Here a row of five tokens is asked at its first:

>>> import numpy as np
>>> from zoo.batch import Rows
>>> from zoo.noise import Noise
>>> from zoo.objective import Vocab
>>> token = np.array([[2, 7, 8, 9, 3]], np.int32)
>>> doc, nothing, label = np.ones_like(token), np.zeros_like(token), np.array([[1, -1, -1, -1, -1]])
>>> rows = Rows(token, doc, nothing, nothing, doc > 0, nothing > 0, label)
>>> objective = Labelling(Labelling.Settings(labels=2), Vocab(size=10, used=10, special={}), row_tokens=5)
>>> objective.make_batch(Noise(0, 0, 0, 1), rows).tasks["label"]
Places(at=array([[0]], dtype=int32), target=array([[1]], dtype=int32), weight=array([[1.]], dtype=float32))
"""

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zoo.batch import Array, Batch, Places, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.places import places
from zoo.sections import Count, Model, Rate

if TYPE_CHECKING:
    import keras

    from zoo.network.reader import Reader

LABEL, LANGUAGE = "label", "causal"  # the tasks


class Labelling(Objective):
    """Every token sees its whole row."""

    class Settings(Objective.Settings):
        labels: Count
        words: bool = False  # many tokens of a row are asked, not one
        pooled: bool = False
        dropout: Rate = 0.0
        language: float = 0.0  # of a causal model: how much the loss of the next token counts

    visibility = "full"

    @property
    def scales(self) -> dict[str, float]:
        return {LABEL: 1.0}

    def chance(self) -> dict[str, float]:
        return {LABEL: math.log(self.settings.labels)}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        label = cast(np.ndarray, rows.label)
        asked = places(label >= 0, label, label.shape[1] if self.settings.words else 1)
        stream = Stream(rows.token, rows.doc, rows.position, rows.segment, self._rank(rows))
        return Batch(stream, None, {LABEL: asked})

    def _rank(self, rows: Rows) -> np.ndarray:
        return np.zeros_like(rows.token)

    def build(self, model: Model) -> "keras.layers.Layer":
        from zoo.network.label_head import LabelHead

        settings = self.settings
        return LabelHead(model.width, settings.labels, pooled=settings.pooled, dropout=settings.dropout)

    def hidden(self, reader: "Reader", batch: Batch) -> Array:
        return reader.read(batch.stream, at=batch.tasks[LABEL].at)

    def label_scores(self, reader: "Reader", batch: Batch) -> Array:
        """[B, P, C] float32: the score of every label at the tokens that are asked."""
        return cast(Any, reader.layers)(self.hidden(reader, batch), noise=reader.noise)

    def score(self, reader: "Reader", batch: Batch) -> dict[str, Array]:
        return {LABEL: self._loss(reader, self.hidden(reader, batch), batch.tasks[LABEL])}

    def _loss(self, reader: "Reader", hidden_BPD: Array, asked: Places) -> Array:
        from zoo.kernels.cross_entropy import cross_entropy

        scores_BPC = cast(Any, reader.layers)(hidden_BPD, noise=reader.noise)
        return cross_entropy(scores_BPC, asked.target, asked.weight)


class CausalLabelling(Labelling):
    """Every token sees those before it, and beside the labels the next token is to be found (Radford et al. 2018, 3.2).

    A row's tokens weigh as much together as one label, as in the release.
    """

    visibility = "causal"

    @property
    def scales(self) -> dict[str, float]:
        return {LABEL: 1.0, LANGUAGE: self.settings.language}

    def chance(self) -> dict[str, float]:
        return {**super().chance(), LANGUAGE: math.log(self.vocab.size)}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        batch = super().make_batch(noise, rows)
        target, follows = np.zeros_like(rows.token), np.zeros(rows.token.shape, np.float32)
        target[:, :-1], follows[:, :-1] = rows.token[:, 1:], rows.doc[:, 1:] > 0
        weight = follows / np.maximum(follows.sum(axis=1, keepdims=True), 1)
        return batch._replace(tasks=batch.tasks | {LANGUAGE: Places(None, target, weight)})

    def _rank(self, rows: Rows) -> np.ndarray:
        return np.broadcast_to(np.arange(rows.token.shape[1], dtype=np.int32), rows.token.shape)

    def score(self, reader: "Reader", batch: Batch) -> dict[str, Array]:
        from zoo.network.network import take_places

        hidden, asked = reader.read(batch.stream), batch.tasks[LABEL]
        return {
            LABEL: self._loss(reader, take_places(hidden, asked.at), asked),
            LANGUAGE: reader.token_loss(hidden, batch.tasks[LANGUAGE]),
        }


def labelling(base: Objective, **settings: Any) -> Labelling:
    """The labelling that a model of some objective is fine-tuned with."""
    kind = CausalLabelling if base.visibility == "causal" else Labelling
    return kind(kind.Settings(**settings), base.vocab, base.row_tokens)
