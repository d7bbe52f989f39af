"""What fits this machine: rows at once, updates in a given time, and what to change when nothing fits."""

import math
import os
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo import accounting
from zoo.errors import UserError
from zoo.machine import memory_limits
from zoo.progress import duration, say
from zoo.schema import Recipe

if TYPE_CHECKING:
    from zoo.train.evaluation import HeldOut
    from zoo.train.replicas import Feeds
    from zoo.train.step import Engine

FEWEST_UPDATES = 50  # fewer teach nothing worth a schedule
CPU_TOKENS, GPU_TOKENS = 4096, 65536  # a micro-batch beyond this is no faster
SPARE = 4 / 3  # what is counted is right to within a third (zoo/accounting.py)
LONG_SECONDS = 86400.0  # a run longer than this gets advice
WARMUP_SHARE = 0.1  # of a fitted run, at most


class Seconds(NamedTuple):
    """What was measured: an update, and an evaluation of the validation rows."""

    update: float
    evaluation: float


def device() -> str:
    """What the run computes on, in words."""
    from zoo.kernels.probe import accelerators

    return ", ".join(accelerators()) or f"CPU, {os.cpu_count()} cores"


def fitting_rows(recipe: Recipe) -> int:
    """Rows that pass through the network at once: as set, else as many as fit and make it faster."""
    if recipe.train.micro_rows is not None:
        return min(recipe.train.micro_rows, recipe.streams)
    fitting = max(1, min(fast_rows(recipe.row_tokens), largest_rows(recipe)))
    # Equal micro-batches: the smallest number of them, then the rows that spread evenly over that number.
    parts = -(-recipe.streams // fitting)
    return -(-recipe.streams // parts)


def fast_rows(row_tokens: int) -> int:
    """More rows of so many tokens at once than these are no faster here."""
    from zoo.kernels.probe import accelerators

    return max(1, (GPU_TOKENS if accelerators() else CPU_TOKENS) // row_tokens)


def largest_rows(recipe: Recipe) -> int:
    """The most rows that may pass through the network at once in the memory that is free; 0 where not even one fits."""
    room, most = _room(), recipe.streams

    def exceeds(rows: int) -> bool:
        return SPARE * _needed(recipe, rows) > room

    return bisect_left(range(1, most), True, key=exceeds) if exceeds(most) else most


def _room() -> float:
    """Bytes that training may take: of the GPU, else of what is free here."""
    from zoo.kernels.probe import device_memory

    return device_memory() or min(memory_limits().values(), default=math.inf)


def _needed(recipe: Recipe, rows: int) -> float:
    """Bytes that training takes with so many rows at once."""
    return sum(term.value for term in accounting.memory(recipe, rows, half=recipe.train.precision == "bfloat16"))


def check_memory(recipe: Recipe) -> None:
    """Refuses streams whose memory this machine cannot hold, and warns where all that a run needs may not fit."""
    needed, room = accounting.remembered(recipe, half=recipe.train.precision == "bfloat16"), _room()
    if needed.value > room:
        most = int(room / needed.value * recipe.streams)
        raise UserError(
            f"the memory of the streams needs {accounting.size(needed.value, 'B')} ({needed.arithmetic}) and this"
            f" machine has {accounting.size(room, 'B')}; at most {most} train.streams fit, or a shorter model.memory"
        )
    whole = _needed(recipe, fitting_rows(recipe))
    if whole > room:
        less = "" if recipe.train.remat else ", train.remat=true"
        say(
            f"warning: training takes about {accounting.size(whole, 'B')} and {accounting.size(room, 'B')} are free;"
            f" less with train.micro_rows=1{less} or a shorter model.context (zoo show {recipe.name} counts it)"
        )


def measure(engine: "Engine", feed: "Feeds", held_out: "HeldOut") -> Seconds:
    """Times the parts of an update on real rows, with a learning rate of 0, then forgets all they leave."""
    say("measuring an update ...")
    update = feed.update(0)
    factors = update.factors(engine.scales)
    batch, first = update.batches[0], update.firsts[0]
    several = len(update.batches) > 1

    def part() -> None:
        if several:
            engine.gradient(batch, factors, 0, first)
        else:
            engine.update(batch, factors, 0.0, 0, first)

    seconds = _time(part, 3) * len(update.batches)
    if several:
        seconds += _time(lambda: engine.apply(0.0, 0), 2)
    scored, first_scored, _ = next(held_out.feed.micro_batches(0))
    evaluation = _time(lambda: engine.evaluate(scored, held_out.memory, first_scored), 2) * held_out.feed.count
    engine.reset()
    return Seconds(seconds, evaluation)


def _time(work, times: int) -> float:
    """Median seconds of some work after a first time, which compiles."""
    work()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def fitted(recipe: Recipe, minutes: float, seconds: Seconds) -> dict[str, int]:
    """`updates`, and a warm-up not longer than a tenth of them, for `minutes` of training with its evaluations."""
    train = recipe.train
    each = seconds.update
    if train.evaluate_every is not None:
        each += seconds.evaluation / train.evaluate_every
    updates = int(max(0.0, minutes * 60 - seconds.evaluation) / each)
    if updates < FEWEST_UPDATES:
        raise UserError(
            f"--minutes {minutes:g} is enough for {updates} updates of {duration(seconds.update)} and"
            f" {FEWEST_UPDATES} is the least worth a schedule; {_would_do(recipe, minutes, each)}"
        )
    return {"updates": updates, "warmup_updates": min(train.warmup_updates, int(WARMUP_SHARE * updates))}


def _would_do(recipe: Recipe, minutes: float, seconds_per_update: float) -> str:
    """Settings with which FEWEST_UPDATES updates fit: a smaller update while one row fits, else more minutes."""
    rows = int(recipe.rows_per_update * minutes * 60 / (1.25 * FEWEST_UPDATES * seconds_per_update))
    enough = f"--minutes {math.ceil(1.25 * FEWEST_UPDATES * seconds_per_update / 60)}"
    if rows < 1:
        return f"{enough} would do, or a smaller recipe"
    return f"--set train.tokens_per_update={rows * recipe.row_tokens} would do, or {enough}, or a smaller recipe"


def advice(recipe: Recipe, tokens_per_second: float) -> str | None:
    """What would fit, for a run that takes longer than a day at this rate."""
    train = recipe.train
    seconds = train.updates * train.tokens_per_update / tokens_per_second
    if seconds < LONG_SECONDS:
        return None
    rows = int(1800.0 * tokens_per_second / (1.25 * FEWEST_UPDATES) / recipe.row_tokens)
    smaller = f"--minutes 30 --set train.tokens_per_update={rows * recipe.row_tokens}" if rows else "--minutes 600"
    return (
        f"at {tokens_per_second:,.0f} tokens/s the {train.updates} updates of {train.tokens_per_update} tokens take"
        f" {duration(seconds)}; what would fit here: {smaller}, or a smaller recipe (zoo list)"
    )
