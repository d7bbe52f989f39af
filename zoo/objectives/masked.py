"""Some tokens are hidden and predicted from all the others (BERT, Devlin et al. 2019).

Two of six tokens are chosen. A chosen token mostly becomes the special token `mask` (here 1), sometimes a random one,
sometimes it stays; cls and sep (2 and 3) are never chosen. All tokens see all:

>>> import numpy as np
>>> from zoo.batch import Rows
>>> from zoo.noise import Noise
>>> from zoo.objective import Vocab
>>> token = np.array([[2, 7, 8, 9, 6, 3]], np.int32)
>>> doc, nothing = np.ones_like(token), np.zeros_like(token)
>>> vocab = Vocab(size=10, used=10, special={"pad": 0, "mask": 1, "cls": 2, "sep": 3})
>>> objective = Masked(Masked.Settings(rate=0.33), vocab, row_tokens=6)
>>> batch = objective.make_batch(Noise(10, 0, 0, 1), Rows(token, doc, nothing, nothing, doc > 0, nothing > 0))
>>> batch.stream.token
array([[2, 1, 8, 4, 6, 3]], dtype=int32)
>>> batch.tasks["masked"]
Places(at=array([[1, 3]], dtype=int32), target=array([[7, 9]], dtype=int32), weight=array([[1., 1.]], dtype=float32))
>>> batch.stream.rank
array([[0, 0, 0, 0, 0, 0]], dtype=int32)
"""

import math
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from pydantic import Field, model_validator

from zoo import places
from zoo.batch import Array, Batch, Places, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.sections import Data, Model, Share

if TYPE_CHECKING:
    import keras

    from zoo.network.reader import Reader


class Masked(Objective):
    """Masked language modelling, with next-sentence prediction or without."""

    class Settings(Objective.Settings):
        rate: Annotated[float, Field(gt=0, le=1)] = 0.15  # of a row's tokens, special ones counted
        blank: Share = 0.8  # of the chosen tokens: become `mask`
        random: Share = 0.1  # of the chosen tokens: become any of the vocabulary; the rest stay as they are
        whole_word: bool = False  # choose all pieces of a word, or none
        next_sentence: bool = False  # predict whether B follows A; needs data.rows = pairs

        @model_validator(mode="after")
        def _shares(self) -> "Masked.Settings":
            if self.blank + self.random > 1:
                raise ValueError(f"blank {self.blank} and random {self.random} exceed 1 together")
            return self

    specials = ("mask",)
    never_target = ("pad", "cls", "sep", "eod")
    visibility = "full"

    @classmethod
    def check(cls, settings: Any, data: Data) -> None:
        if settings.next_sentence and data.rows != "pairs":
            raise ValueError(f"objective.next_sentence needs data.rows: pairs; data.rows is {data.rows}")

    @property
    def scales(self) -> dict[str, float]:
        return {"masked": 1.0} | ({"next_sentence": 1.0} if self.settings.next_sentence else {})

    def chance(self) -> dict[str, float]:
        return {task: math.log(2 if task == "next_sentence" else self.vocab.size) for task in self.scales}

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        settings, length = self.settings, rows.token.shape[1]
        may, count = places.candidates(rows, self.vocab.special, self.never_target), places.share(settings.rate, rows)
        if settings.whole_word:
            chosen = places.whole_words(noise, may, rows.word_start, count)
        else:
            chosen = places.exact(noise, may, count)
        fate = noise.uniform("masked.fate", length)
        # As released, any id may come, those of special tokens too; ids that no text has would be a giveaway.
        other = noise.integers("masked.random", 0, self.vocab.used, length)
        changed = np.where(fate < settings.blank + settings.random, other, rows.token)
        changed = np.where(fate < settings.blank, np.int32(self.vocab.special["mask"]), changed)
        token = np.where(chosen, changed, rows.token)

        stream = Stream(token, rows.doc, rows.position, rows.segment, np.zeros_like(token))
        tasks = {"masked": places.places(chosen, rows.token, places.most(settings.rate, length))}
        if settings.next_sentence:
            assert rows.label is not None  # `check` saw to it
            first = np.zeros((len(token), 1), np.int32)
            tasks["next_sentence"] = Places(first, rows.label[:, None], (rows.doc[:, :1] > 0).astype(np.float32))
        return Batch(stream, None, tasks, rows.reset, rows.backward)

    def ask(self, rows: Rows, chosen: Array) -> Batch:
        token = np.where(chosen, np.int32(self.vocab.special["mask"]), rows.token)
        stream = Stream(token, rows.doc, rows.position, rows.segment, np.zeros_like(token))
        return Batch(stream, None, {"masked": places.places(chosen, rows.token, int(chosen.sum(axis=1).max()))})

    def shapes(self, model: Model) -> dict[str, tuple[int, ...]]:
        if not self.settings.next_sentence:
            return {}
        width = model.width
        pooler = {"pooler.kernel": (width, width), "pooler.bias": (width,)}
        return pooler | {"classifier.kernel": (width, 2), "classifier.bias": (2,)}

    def build(self, model: Model) -> "keras.layers.Layer | None":
        if not self.settings.next_sentence:
            return None
        from zoo.network.layers import Linear, Part

        head: Any = Part()
        head.pooler = Linear(model.width, model.width, init_std=0.0)
        head.classifier = Linear(model.width, 2, init_std=0.0)
        return head

    def hidden(self, reader: "Reader", batch: Batch) -> Array:
        return reader.read(batch.stream, at=batch.tasks["masked"].at)

    def score(self, reader: "Reader", batch: Batch) -> dict[str, Array]:
        masked = batch.tasks["masked"]
        if not self.settings.next_sentence:
            return {"masked": reader.token_loss(self.hidden(reader, batch), masked)}
        from keras import ops

        from zoo.kernels.cross_entropy import cross_entropy

        pair, head = batch.tasks["next_sentence"], cast(Any, reader.layers)
        states = reader.read(batch.stream, at=ops.concatenate([pair.at, masked.at], axis=1))
        logits = head.classifier(ops.tanh(head.pooler(states[:, :1])))
        return {
            "masked": reader.token_loss(states[:, 1:], masked),
            "next_sentence": cross_entropy(ops.cast(logits, "float32"), pair.target, pair.weight),
        }
