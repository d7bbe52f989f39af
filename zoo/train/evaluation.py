"""Losses of the validation split: fixed rows, fixed noise, no dropout."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.corpus.shards import Tokens
from zoo.train.feed import Feed

if TYPE_CHECKING:
    from zoo.network.memory import Memory
    from zoo.train.step import Engine


def losses(sums: dict[str, float], weights: dict[str, float], scales: dict[str, float]) -> dict[str, float]:
    """`loss`, which is what training minimizes, and every task's mean over what it scored, in nats."""
    means = {task: total / weights[task] if weights[task] else 0.0 for task, total in sums.items()}
    return {"loss": sum(scales[task] * mean for task, mean in means.items()), **means}


class HeldOut(NamedTuple):
    """A split that is evaluated."""

    feed: Feed
    tokens: Tokens  # what it reads
    memory: "Memory | None"  # of its streams, where its rows are streams


def evaluate(
    engine: "Engine", held_out: HeldOut, shown: Callable[[int, int], None] = lambda rows, of: None
) -> dict[str, Any]:
    """The losses over all rows of a split, and the share of tokens that were guessed right.

    Bits per byte too where the loss is the likelihood of a text: for causal objectives alone. `shown(rows, of)` is
    called after every micro-batch.
    """
    from zoo.train.step import to_device

    feed, tokens, memory = held_out
    objective = engine.learner.objective
    sums, weights, right = dict.fromkeys(objective.scales, 0.0), dict.fromkeys(objective.scales, 0.0), 0.0
    for part, batch in zip(feed.parts, feed.micro_batches(0), strict=True):
        totals, hits = engine.evaluate(to_device(batch), memory, part.start)
        right += float(hits)
        for task, total in totals.items():
            sums[task] += float(total)
            weights[task] += float(batch.tasks[task].weight.sum())
        shown(part.stop, feed.rows)
    found = losses(sums, weights, objective.scales)
    predicted = sum(weights[task] for task in objective.token_tasks)
    found["accuracy"] = right / predicted if predicted else 0.0
    if objective.visibility == "causal" and not objective.encodes:
        found["bits_per_byte"] = found["loss"] / math.log(2) * len(tokens.token) / tokens.bytes
    return found


def describe(found: dict[str, Any]) -> str:
    """The losses in words."""
    tasks = found.keys() - {"loss", "bits_per_byte", "accuracy"}
    shown = found if len(tasks) > 1 else {key: value for key, value in found.items() if key not in tasks}
    return ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in shown.items())
