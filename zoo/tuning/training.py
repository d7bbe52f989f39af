"""The training of a labeller: epochs over its examples, each measured on those that were held out.

Shapes: P tokens that are asked of a row, C labels.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from zoo.corpus.labelled import Example
from zoo.errors import RunFailed
from zoo.progress import progress
from zoo.schema import Recipe
from zoo.sections import Data, Evaluation, Train
from zoo.train.budget import fitting_rows
from zoo.train.feed import Feed
from zoo.train.schedule import learning_rate
from zoo.train.start import choices, start_backend
from zoo.tuning.labeller import Base, Labeller
from zoo.tuning.labelling import LABEL
from zoo.tuning.rows import LabelledRows, Row
from zoo.use.frame import graph_width
from zoo.use.measures import Measure, of_labels, of_tags


class Part(NamedTuple):
    """Labelled examples, and the rows they become."""

    name: str
    examples: list[Example]
    rows: list[Row]


class Found(NamedTuple):
    """What was measured of a part: the mean loss of a label in nats, and how well labels were found."""

    loss: float
    measures: dict[str, Measure]


class Epoch(NamedTuple):
    """What had been learned after an epoch."""

    learning_rate: float  # its peak
    number: int  # from 1
    training_loss: float  # the mean over the epoch, in nats a label, with dropout
    valid: Found


def settings(base: Base, width: int, updates: int, seed: int) -> Recipe:
    """The recipe of a model with what is published for fine-tuning its family; rows stand alone, without a memory."""
    family, recipe = base.family, base.saved.recipe
    train = Train(
        tokens_per_update=family.rows * width,
        updates=updates,
        learning_rate=family.learning_rate,
        warmup_updates=round(family.warmup * updates),
        adam=family.adam,
        clip_norm=family.clip_norm,
        remat=recipe.train.remat,
        seed=seed,
    )
    train = train.model_copy(update={key: choice.value for key, choice in choices().items()})
    # Unchecked, for model.memory stays, which goes with streams alone: same_length looks back by it.
    data = Data(rows="document") if recipe.data.rows == "stream" else recipe.data
    drops = {"dropout": family.dropout, "attention_dropout": family.dropout}
    longer = {"context": max(width, recipe.model.context)}
    return recipe.model_copy(
        update={
            "train": train,
            "model": recipe.model.model_copy(update=drops | longer),
            "data": data.model_copy(update={"row_tokens": width}),
            "evaluation": Evaluation(),
        }
    )


class Training:
    """A labeller with the engine that trains it; every learning rate starts from the same weights."""

    def __init__(self, base: Base, labels: list[str], train: Part, valid: Part, epochs: int, seed: int):
        start_backend()
        from zoo.train.optimizer import Optimizer
        from zoo.train.step import Engine

        family, longest, count = base.family, base.framing.longest, len(train.rows)
        self.valid, self.epochs = valid, epochs
        width = graph_width(max(len(row.ids) for row in train.rows), longest)
        self.recipe = settings(base, width, -(-epochs * count // family.rows), seed)
        # After which update an epoch ends; of a few examples several may end with one.
        self.ends = {-(-number * count // family.rows): number for number in range(1, epochs + 1)}
        self.labeller = Labeller(base, labels, self.recipe)
        learner = self.labeller.learner
        self.engine = Engine(learner, Optimizer(self.recipe.train.adam, learner.weights))
        self.start = self.weights()
        plan = LabelledRows(train.rows, family.rows, longest, seed)
        self.feed = Feed(learner.objective, plan, family.rows, fitting_rows(self.recipe), seed)

    def weights(self) -> dict[str, np.ndarray]:
        """A copy of all weights as they are."""
        return {name: np.copy(weight.value.numpy()) for name, weight in self.labeller.learner.weights.items()}

    def run(self, rate: float) -> Iterator[Epoch]:
        """Trains from the start with this learning rate, and stops after every epoch. RunFailed where one diverged."""
        engine, train = self.engine, self.recipe.train.model_copy(update={"learning_rate": rate})
        self.labeller.learner.set_weights(self.start)
        engine.reset()
        losses: list[float] = []
        with progress(f"fine-tuning at {rate:g}", train.updates * self.feed.rows, "rows") as advance:
            for update in self.feed.updates(0, train.updates):
                factors, found = update.factors(engine.scales), []
                for batch, first in zip(update.batches, update.firsts, strict=True):
                    found.append(engine.gradient(batch, factors, update.number, first)[LABEL])
                    advance(self.feed.rows / len(update.batches))
                engine.apply(learning_rate(train, update.number), update.number)
                losses.append(sum(map(float, found)) / update.weights[LABEL])
                if int(engine.failed.numpy()) >= 0:
                    raise RunFailed(f"update {update.number + 1} was not finite; a lower --learning-rate may help")
                if (number := self.ends.get(update.number + 1)) is not None:
                    yield Epoch(rate, number, float(np.mean(losses)), self.measured(self.valid))
                    losses = []

    def measured(self, part: Part) -> Found:
        """How well the labels of a part are found with the weights as they are."""
        labeller, loss, found = self.labeller, 0.0, {}
        with progress("evaluating", len(part.rows), "rows") as advance:
            for n, scores_PC in labeller.scores(part.rows):
                top_P1 = scores_PC.max(axis=1, keepdims=True)
                log_PC = scores_PC - top_P1 - np.log(np.exp(scores_PC - top_P1).sum(axis=1, keepdims=True))
                loss -= float(np.take_along_axis(log_PC, part.rows[n].label[:, None], axis=1).sum())
                found[n] = labeller.names(part.examples[n], scores_PC)
                advance(1)
        guess = [found[n] for n in range(len(part.rows))]
        loss /= max(sum(len(row.label) for row in part.rows), 1)
        if labeller.framing.task == "tag":
            return Found(loss, of_tags([example.labels for example in part.examples], guess))
        number = {label: n for n, label in enumerate(labeller.labels)}
        gold, guessed = (
            np.array([number[label] for label in chain.from_iterable(each)])
            for each in ((example.labels for example in part.examples), guess)
        )
        return Found(loss, of_labels(gold, guessed, len(number)))
