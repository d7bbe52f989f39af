"""From row plans to the micro-batches of an update, made ahead in a thread while the engine works."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from zoo.batch import Array, Batch
from zoo.corpus.rows import RowPlan, plan
from zoo.corpus.shards import Tokens
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.schema import Recipe

EVALUATION_SEED = 1  # fixed noise, the same for every run and every evaluation


def rows_of(
    recipe: Recipe, objective: Objective, tokens: Tokens, special: dict[str, int], seed: int, *, whole: bool = False
) -> RowPlan:
    """A recipe's rows of one split; arguments as of zoo.corpus.rows.plan."""
    return plan(
        tokens,
        recipe.data,
        row_tokens=recipe.row_tokens,
        extra=objective.extra_tokens,
        rows_per_update=recipe.rows_per_update,
        special=special,
        seed=seed,
        whole=whole,
        streams=recipe.streams,
        memory=recipe.model.memory,
    )


class Update(NamedTuple):
    """All micro-batches of one update, and every task's weight summed over them."""

    number: int
    batches: list[Batch]  # of equal shapes; rows that fill one up, at its end, have doc 0 and weight 0
    firsts: list[int]  # every micro-batch's first row in the update
    weights: dict[str, float]

    def factors(self, scales: dict[str, float]) -> dict[str, float]:
        """What multiplies every task's total in the loss: scale / W, and 0 where the update has nothing to score."""
        return {task: scales[task] / weight if weight else 0.0 for task, weight in self.weights.items()}


class Feed:
    """Makes updates from a plan; row r of update u is the same however the rows are split.

    Where the plan's rows are of streams, a micro-batch holds rows of different ones.
    """

    def __init__(self, objective: Objective, plan: RowPlan, rows: int, micro_rows: int, seed: int):
        self.objective = objective
        self.plan = plan
        self.rows = rows
        group = min(plan.streams or rows, rows)  # no part holds two rows of one stream, of which one goes on
        self.micro_rows = min(micro_rows, group)
        self.parts = [
            range(first, min(first + self.micro_rows, start + group, rows))
            for start in range(0, rows, group)
            for first in range(start, min(start + group, rows), self.micro_rows)
        ]  # the rows of every micro-batch
        self.seed = seed

    def update(self, number: int) -> Update:
        """Update `number`, on the host."""
        batches = list(self.micro_batches(number))
        firsts = [part.start for part in self.parts]
        tasks = batches[0].tasks
        weights = {task: float(sum(np.sum(b.tasks[task].weight, dtype=np.float64) for b in batches)) for task in tasks}
        return Update(number, batches, firsts, weights)

    def updates(self, start: int, stop: int) -> Iterator[Update]:
        """Updates `start` to `stop - 1`; the next one is made while the caller works on the last."""
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as worker:
            coming = worker.submit(self.update, start) if start < stop else None
            for number in range(start, stop):
                assert coming is not None
                ready = coming.result()
                if number + 1 < stop:
                    coming = worker.submit(self.update, number + 1)
                yield ready

    def micro_batches(self, number: int) -> Iterator[Batch]:
        """The micro-batches of update `number`, in order."""
        for part in self.parts:
            rows = self.plan.rows(number, part.start, len(part))
            noise = Noise(self.seed, number, part.start, len(part))
            yield filled(self.objective.make_batch(noise, rows), self.micro_rows)


def filled(batch: Batch, rows: int) -> Batch:
    """The batch with rows of zeros (doc 0, weight 0) added up to `rows`, so that all shapes are equal."""

    def fill(value: Array) -> Array:
        return np.pad(value, [(0, rows - len(value))] + [(0, 0)] * (value.ndim - 1))

    def fill_all(fields: tuple) -> list:
        return [None if field is None else fill(field) for field in fields]

    if len(batch.stream.token) == rows:
        return batch
    return Batch(
        type(batch.stream)(*fill_all(batch.stream)),
        None if batch.source is None else type(batch.source)(*fill_all(batch.source)),
        {task: type(places)(*fill_all(places)) for task, places in batch.tasks.items()},
        *fill_all((batch.reset, batch.backward)),
    )
