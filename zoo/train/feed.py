"""From row plans to the micro-batches of an update, made ahead in a thread while the engine works."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from zoo.batch import Array, Batch
from zoo.corpus.rows import RowPlan, plan
from zoo.corpus.shards import Tokens
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.schema import Recipe

WORDS = "words of an update"  # beside its tasks, where weights are added up
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


class Share(NamedTuple):
    """Which replica, of how many."""

    number: int = 0
    of: int = 1

    def cut(self, rows: range) -> range:
        """This replica's part of some rows that follow one another; parts differ by one row at most."""
        begin, end = (len(rows) * index // self.of for index in (self.number, self.number + 1))
        return rows[begin:end]

    def largest(self, rows: int) -> int:
        """The most of so many rows that any replica has."""
        return -(-rows // self.of)


ALL_ROWS = Share()


class Update(NamedTuple):
    """All micro-batches of one update that one replica makes, and every task's weight summed over them."""

    number: int
    batches: list[Batch]  # of equal shapes; rows that fill one up, at its end, have doc 0 and weight 0
    firsts: list[int]  # every micro-batch's first row in the update
    weights: dict[str, float]
    words: int  # that the rows hold

    def factors(self, scales: dict[str, float]) -> dict[str, float]:
        """What multiplies every task's total in the loss: scale / W, and 0 where the update has nothing to score."""
        return {task: scales[task] / weight if weight else 0.0 for task, weight in self.weights.items()}


class Feed:
    """Makes one replica's share of updates from a plan; row r of update u is the same however the rows are split.

    Where the plan's rows are of streams, a micro-batch holds rows of different ones, and a stream stays on one replica.
    """

    def __init__(
        self, objective: Objective, plan: RowPlan, rows: int, micro_rows: int, seed: int, share: Share = ALL_ROWS
    ):
        self.objective = objective
        self.plan = plan
        self.rows = rows
        group = min(plan.streams or rows, rows)  # no part holds two rows of one stream, of which one goes on
        self.micro_rows = min(micro_rows, share.largest(group))
        self.parts: list[range] = []  # the rows of every micro-batch
        for start in range(0, rows, group):
            together = range(start, min(start + group, rows))
            own, most = share.cut(together), share.largest(len(together))
            # As many as the largest share has, for replicas wait for each other; the last may be empty.
            firsts = range(own.start, own.start + most, self.micro_rows)
            self.parts += [range(min(first, own.stop), min(first + self.micro_rows, own.stop)) for first in firsts]
        self.firsts = [part.start for part in self.parts]
        self.seed = seed

    def update(self, number: int) -> Update:
        """Update `number`, on the host."""
        batches, words = zip(*self._made(number), strict=True)
        return Update(number, list(batches), self.firsts, weights_of(batches), sum(words))

    def updates(self, start: int, stop: int) -> Iterator[Update]:
        """Updates `start` to `stop - 1`; the next one is made while the caller works on the last."""
        return ahead(self.update, start, stop)

    def micro_batches(self, number: int) -> Iterator[Batch]:
        """The micro-batches of update `number`, in order."""
        return (batch for batch, _ in self._made(number))

    def _made(self, number: int) -> Iterator[tuple[Batch, int]]:
        """The same, each with the words of its rows."""
        for part in self.parts:
            first, count = min(part.start, self.rows - 1), max(len(part), 1)
            rows, noise = self.plan.rows(number, first, count), Noise(self.seed, number, first, count)
            words = self.plan.words(rows) if part else 0
            yield filled(self.objective.make_batch(noise, rows), len(part), self.micro_rows), words


def ahead(make: Callable[[int], Update], start: int, stop: int) -> Iterator[Update]:
    """What `make` makes of `start` to `stop - 1`; the next is made in a thread while the caller works on the last."""
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as worker:
        coming = worker.submit(make, start) if start < stop else None
        for number in range(start, stop):
            assert coming is not None
            ready = coming.result()
            if number + 1 < stop:
                coming = worker.submit(make, number + 1)
            yield ready


def weights_of(batches: Sequence[Batch]) -> dict[str, float]:
    """Every task's weight, summed over some batches."""
    tasks = batches[0].tasks
    return {task: float(sum(np.sum(b.tasks[task].weight, dtype=np.float64) for b in batches)) for task in tasks}


def filled(batch: Batch, count: int, rows: int) -> Batch:
    """The batch's first rows, with rows of zeros (doc 0, weight 0) added up to `rows`, so that all shapes are equal."""

    def fill(value: Array) -> Array:
        return np.pad(value[:count], [(0, rows - count)] + [(0, 0)] * (value.ndim - 1))

    def fill_all(fields: tuple) -> list:
        return [None if field is None else fill(field) for field in fields]

    if len(batch.stream.token) == rows == count:
        return batch
    return Batch(
        type(batch.stream)(*fill_all(batch.stream)),
        None if batch.source is None else type(batch.source)(*fill_all(batch.source)),
        {task: type(places)(*fill_all(places)) for task, places in batch.tasks.items()},
        *fill_all((batch.reset, batch.backward)),
    )
