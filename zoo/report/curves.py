"""The curves of runs: what metrics.jsonl holds, as charts of few enough points for a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from zoo.report.record import Record

POINTS = 1000  # of a curve at most
ALL_POINTS = 40_000  # of all curves together, so that the page stays small
FEWEST_POINTS = 60
SMOOTHED = 0.01  # a smoothed point is the mean of this share of the updates on either side
DIGITS = 5  # of a number


@dataclass(frozen=True)
class Curve:
    """Some points of one run, in the order of training. kind: raw, smooth, or valid for separate points."""

    run: int
    kind: str
    tokens: list[float]
    seconds: list[float]  # of training
    values: list[float]


@dataclass(frozen=True)
class Chart:
    """Curves of one quantity, of all runs that have it; baselines: name and value."""

    title: str
    unit: str
    about: str
    curves: list[Curve]
    baselines: list[tuple[str, float]] = field(default_factory=list)
    logarithmic: bool = False


class _Course:
    """Where a run was at each line of its training split."""

    def __init__(self, record: Record):
        self.lines = record.lines["train"]
        self.tokens_per_update = record.recipe.train.tokens_per_update
        self.tokens, rate = self.column("tokens"), self.column("tokens_per_second")
        with np.errstate(divide="ignore", invalid="ignore"):
            took = np.diff(self.tokens, prepend=0.0) / rate
        self.seconds = np.cumsum(np.where(np.isfinite(took), took, 0.0))

    def column(self, name: str) -> np.ndarray:
        """[N] one number of every line; NaN where a line has none."""
        return np.array([line.get(name, np.nan) for line in self.lines], float)

    def curve(self, run: int, kind: str, tokens: np.ndarray, values: np.ndarray, most: int) -> Curve:
        """A curve of at most so many points through (tokens, values); what is not finite is left out."""
        there = np.isfinite(values)
        tokens, values = tokens[there], values[there]
        if kind == "smooth":
            values = smoothed(values)
        at = thinned(values, most)
        tokens, values = tokens[at], values[at]
        seconds = np.interp(tokens, self.tokens, self.seconds) if len(self.tokens) else np.zeros_like(tokens)
        return Curve(run, kind, *map(_short, (tokens, seconds, values)))


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` (2 or more) of N values: the first and the last, and of every stretch of equal length
    the lowest and the highest, so that no spike is lost."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    kept = {0, count - 1}
    for begin, end in pairwise(np.linspace(0, count, (most - 2) // 2 + 1).astype(int)):
        kept |= {int(begin + values[begin:end].argmin()), int(begin + values[begin:end].argmax())}
    return np.array(sorted(kept))


def smoothed(values: np.ndarray) -> np.ndarray:
    """[N] the mean of each value and SMOOTHED x N on either side; at the start only of as many as came before it, so
    that the steep beginning stays where it is."""
    count = len(values)
    reach, at = max(1, round(SMOOTHED * count)), np.arange(count)
    begin, end = np.maximum(at - reach, 0), np.minimum(at + np.minimum(at, reach), count - 1) + 1
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[end] - sums[begin]) / (end - begin)


def charts(records: Sequence[Record]) -> tuple[list[Chart], list[Chart]]:
    """A chart of the loss for every task, and those of how training went; none without points.

    Losses of different tasks are means over different things and never share a chart.
    """
    courses = [_Course(record) for record in records]
    chances = [record.objective.chance() for record in records]
    tasks = list(dict.fromkeys(task for chance in chances for task in chance))
    count = sum(2 * len(chance) + 5 for chance in chances)  # curves, apart from validation
    most = min(POINTS, max(FEWEST_POINTS, ALL_POINTS // count))

    def of_training(name: str, kinds: tuple[str, ...]) -> list[Curve]:
        return [
            course.curve(run, kind, course.tokens, values, most)
            for run, course in enumerate(courses)
            for values in [course.column(name)]
            for kind in kinds
        ]

    def loss(task: str) -> Chart:
        curves, baselines = of_training(task, ("raw", "smooth")), {}
        for run, (record, course, chance) in enumerate(zip(records, courses, chances, strict=True)):
            if task not in chance:
                continue
            points = [(line["step"] * course.tokens_per_update, line.get(task)) for line in record.lines["valid"]]
            columns = np.array(points, float).reshape(-1, 2)
            curves.append(course.curve(run, "valid", columns[:, 0], columns[:, 1], most))
            baselines |= _baselines(record, task, chance[task])
        return Chart(task, "nats", "", _drawn(curves), list(baselines.items()))

    both = ("raw", "smooth")
    training = [
        Chart("learning rate", "", "", _drawn(of_training("learning_rate", ("smooth",)))),
        Chart(
            "gradient norm",
            "",
            "Before clipping, of each run's own loss: across tasks only its course can be compared, not its height.",
            _drawn(of_training("grad_norm", both)),
            logarithmic=True,
        ),
        Chart("throughput", "tokens/s", "", _drawn(of_training("tokens_per_second", both))),
    ]
    return [chart for chart in map(loss, tasks) if chart.curves], [chart for chart in training if chart.curves]


def _drawn(curves: list[Curve]) -> list[Curve]:
    return [curve for curve in curves if curve.values]


def _baselines(record: Record, task: str, chance: float) -> dict[str, float]:
    """What a loss can be compared with before anything is learned."""
    if task not in record.objective.token_tasks:
        return {"chance": chance}
    found = {f"chance, ln {round(np.exp(chance)):,}": chance}
    entropy: Any = record.environment.get("unigram_entropy")
    return found if entropy is None else {**found, "unigram entropy": entropy}
