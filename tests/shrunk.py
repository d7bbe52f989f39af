"""Recipes small enough for a test: every shape, objective and schedule stays, every size shrinks."""

from zoo.objective import Vocab
from zoo.registry import recipe
from zoo.schema import Recipe
from zoo.train.bench import RandomTokens
from zoo.train.start import nominal_vocab

FAMILIES = ("gpt2-small", "bert-base", "xlnet-base")  # one recipe of every objective, with dropout


def shrunk(name: str, **train) -> Recipe:
    """A registered recipe with two layers of width 20, rows of 24 tokens and 8 rows an update."""
    wanted = {"tokens_per_update": 192, "updates": 4, "warmup_updates": 1, "precision": "float32", **train}
    published = recipe(name)
    return published.with_changes(
        model={"width": 20, "layers": 2, "heads": 2, "inner": 28, "context": 24},
        tokenizer={"size": 101},
        data={"row_tokens": 24},
        train={"evaluate_every": None, "evaluate_tokens": None, "checkpoint_every": None, **wanted},
    )


def corpus_for(wanted: Recipe) -> tuple[RandomTokens, Vocab]:
    """Random tokens and the vocabulary of a recipe."""
    vocab = nominal_vocab(wanted)
    return RandomTokens.drawn(4000, len(vocab.special), vocab.used), vocab
