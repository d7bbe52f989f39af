"""Losses of the validation split: fixed rows, fixed noise, no dropout."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.corpus.shards import Tokens
from zoo.schema import Recipe
from zoo.train import engines
from zoo.train.budget import fitting_rows
from zoo.train.feed import EVALUATION_SEED, Feed, rows_of

if TYPE_CHECKING:
    from zoo.network.memory import Memory
    from zoo.train.replicas import Feeds, Replicas
    from zoo.train.start import Learner
    from zoo.train.step import Evaluator

MEASURES = ("perplexity", "bits_per_byte", "bits_per_character")  # of a likelihood
LARGEST_LOSS = 700.0  # whose exponential is a number


def losses(sums: dict[str, float], weights: dict[str, float], scales: dict[str, float]) -> dict[str, float]:
    """`loss`, which is what training minimizes, and every task's mean over what it scored, in nats."""
    means = {task: total / weights[task] if weights[task] else 0.0 for task, total in sums.items()}
    return {"loss": sum(scales[task] * mean for task, mean in means.items()), **means}


class HeldOut(NamedTuple):
    """A split that is evaluated."""

    feed: "Feeds"
    tokens: Tokens  # what it reads
    memory: "Memory | None"  # of its streams, where its rows are streams


def held_out(
    recipe: Recipe,
    learner: "Learner",
    tokens: Tokens,
    special: dict[str, int],
    most: int | None = None,
    replicas: "Replicas | None" = None,
) -> HeldOut:
    """A split as the recipe has it evaluated: all of it, or rows of at least `most` tokens; shared out to replicas."""
    from zoo.network.memory import memory_of

    recipe = recipe.evaluated
    rows = rows_of(recipe, learner.objective, tokens, special, EVALUATION_SEED, whole=True)
    count = rows.rows_in_epoch
    if most is not None:
        group = rows.streams or 1  # all streams go on equally far
        count = min(count, -(-most // (recipe.row_tokens * group)) * group)
    devices = engines.replicas()
    together: Replicas = replicas or devices.Replicas()
    split = count, fitting_rows(recipe), EVALUATION_SEED
    feeds = devices.Feeds(together, [Feed(learner.objective, rows, *split, share) for share in together.shares])
    with together.scope():
        return HeldOut(feeds, tokens, memory_of(recipe, rows.streams, learner.network.compute_dtype))


def evaluate(
    evaluator: "Evaluator", held_out: HeldOut, shown: Callable[[int, int], None] = lambda rows, of: None
) -> dict[str, Any]:
    """The losses over all rows of a split, and the share of tokens that were guessed right.

    Perplexity and bits too where the loss is the likelihood of a text: for causal objectives alone. `shown(rows, of)`
    is called after every micro-batch.
    """
    feed, tokens, memory = held_out
    learner = evaluator.learner
    objective = learner.objective
    sums, weights, right = dict.fromkeys(objective.scales, 0.0), dict.fromkeys(objective.scales, 0.0), 0.0
    for done, (batch, first, own_weights) in enumerate(feed.micro_batches(0), 1):
        totals, hits = evaluator.evaluate(batch, memory, first)
        right += float(hits)
        for task, total in totals.items():
            sums[task] += float(total)
            weights[task] += own_weights[task]
        shown(feed.rows * done // feed.count, feed.rows)
    weights = feed.replicas.total(weights)
    found = losses(sums, weights, objective.scales)
    predicted = sum(weights[task] for task in objective.token_tasks)
    found["accuracy"] = right / predicted if predicted else 0.0
    if objective.visibility == "causal" and not objective.encodes:
        found |= likelihood(found["loss"], tokens, learner.recipe.tokenizer.kind)
    return found


def likelihood(loss: float, tokens: Tokens, kind: str) -> dict[str, float]:
    """What is told of a text's likelihood, from its nats a token: the perplexity of a token, which for a vocabulary of
    words is the one that is published, and bits, which do not depend on how the text was cut into tokens."""
    bits = loss / math.log(2)
    characters = {"bits_per_character": bits} if kind in ("bytes", "characters") else {}
    perplexity = math.exp(loss) if loss < LARGEST_LOSS else math.inf
    return {"perplexity": perplexity, "bits_per_byte": bits * len(tokens.token) / tokens.bytes, **characters}


def describe(found: dict[str, Any]) -> str:
    """The losses in words."""
    tasks = found.keys() - {"loss", "accuracy", *MEASURES}
    shown = found if len(tasks) > 1 else {key: value for key, value in found.items() if key not in tasks}
    return ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in shown.items())
