"""Recipes small enough for a test: every shape, objective and schedule stays, every size shrinks."""

import numpy as np

from zoo.registry import recipe
from zoo.schema import Recipe
from zoo.train.bench import RandomTokens
from zoo.train.feed import Feed, rows_of
from zoo.train.schedule import learning_rate
from zoo.train.start import nominal_vocab

FAMILIES = ("gpt2-small", "bert-base", "xlnet-base", "transformer-base")  # one recipe of every objective, with dropout


STILL = {"dropout": 0.0, "attention_dropout": 0.0, "inner_dropout": 0.0, "final_dropout": 0.0}


def shrunk(name: str, model: dict | None = None, *, vocab: int = 101, **train) -> Recipe:
    """A registered recipe with two layers of width 20, rows of 24 tokens and 8 rows an update.

    Of rows that are streams 12 tokens are reused, where any are, and a memory has 8. Of a vocabulary in bins the tails
    are small, so that a loss still starts near ln 101: ln 93 + (4 ln 4 + 3 ln 3 + 4 ln 4) / 101 = 4.68, not 4.62.
    """
    wanted = {"tokens_per_update": 192, "updates": 4, "warmup_updates": 1, "precision": "float32", **train}
    published = recipe(name)
    depends = {"encoder_layers": 2} if published.model.encoder_layers else {}
    depends |= {"memory": 8} if published.model.memory else {}
    if published.model.cutoffs:
        depends |= {"cutoffs": (90, 94, 97), "div_val": min(2, published.model.div_val)}
    return published.with_changes(
        model={"width": 20, "layers": 2, "heads": 2, "inner": 28, "context": 24, **depends, **(model or {})},
        tokenizer={"size": vocab},
        data={"row_tokens": 24} | ({"reuse": 12} if published.data.reuse else {}),
        train=dict.fromkeys(("average_checkpoints", "evaluate_every", "evaluate_tokens", "checkpoint_every", "streams"))
        | wanted,
    )


class Bench:
    """A learner on random tokens, with an engine for micro-batches of some size."""

    def __init__(self, name, micro_rows=8, model=None, *, replicas=None, vocab=101, **train):
        from zoo.train import engines
        from zoo.train.optimizer import Optimizer
        from zoo.train.start import Learner

        devices = engines.replicas()
        self.recipe = shrunk(name, model, vocab=vocab, **train)
        vocab = nominal_vocab(self.recipe)
        self.learner = Learner(self.recipe, vocab, self.recipe.train.precision)
        corpus = RandomTokens.drawn(4000, len(vocab.special), vocab.used, paired=self.learner.objective.encodes)
        self.optimizer = Optimizer(self.recipe.train.adam, self.learner.weights)
        replicas = replicas or devices.Replicas()
        self.engine = engines.step().Engine(self.learner, self.optimizer, replicas)
        rows = rows_of(self.recipe, self.learner.objective, corpus, vocab.special, seed=0)
        split = self.recipe.rows_per_update, micro_rows, 0
        self.feeds = devices.Feeds(
            replicas, [Feed(self.learner.objective, rows, *split, share) for share in replicas.shares]
        )
        self.feed = self.feeds.feeds[0]
        self.start = {name: np.asarray(weight.value) for name, weight in self.learner.weights.items()}

    def reset(self):
        """Back to before the first update; what was compiled stays."""
        self.learner.set_weights(self.start)
        self.engine.reset()
        return self

    def sums(self, number):
        """The weights and totals of one update and its summed gradient, which stays unapplied."""
        weights, totals = self.add(number)
        return weights, totals, {name: np.asarray(g) for name, g in self.engine.gradients.items()}

    def add(self, number):
        """Sums the gradient of one update; its weights and totals."""
        update = self.feeds.update(number)
        totals = dict.fromkeys(update.weights, 0.0)
        for batch, first in zip(update.batches, update.firsts, strict=True):
            part = self.engine.gradient(batch, update.factors(self.engine.scales), number, first)
            totals = {task: totals[task] + float(part[task]) for task in totals}
        return update.weights, totals

    def train(self, updates):
        for number in range(updates):
            self.add(number)
            self.engine.apply(learning_rate(self.recipe.train, number), number)
        return {name: np.asarray(weight.value) for name, weight in self.learner.weights.items()}
