"""A made-up row, so that what an objective does can be shown and counted without any data."""

from typing import NamedTuple

import numpy as np

from zoo.batch import Batch, Rows
from zoo.noise import Noise
from zoo.objective import Objective, Vocab
from zoo.schema import Recipe
from zoo.train.start import make_objective

TEXT = ["the", "old", "dog", "ran", "home", "and", "the", "cat", "slept", "on"]


class Toy(NamedTuple):
    """One row of made-up words as a recipe's objective sees it."""

    objective: Objective
    batch: Batch
    words: list[str]  # what every id stands for


def toy(recipe: Recipe, row_tokens: int) -> Toy:
    """One row of that many tokens: [cls] A [sep] B [sep] where the recipe reads pairs, else one document."""
    specials = list(recipe.tokenizer.specials)
    names = list(dict.fromkeys(TEXT))
    words = [*recipe.tokenizer.specials.values(), *names]
    vocab = Vocab(len(words), len(words), {role: n for n, role in enumerate(specials)})
    short = recipe.with_changes(data={"row_tokens": row_tokens}, train={"tokens_per_update": row_tokens})
    objective = make_objective(short, vocab)
    width = row_tokens + objective.extra_tokens
    token = np.array([[len(specials) + names.index(TEXT[n % len(TEXT)]) for n in range(width)]], np.int32)
    text = np.ones_like(token, bool)
    segment, label = np.zeros_like(token), None
    if recipe.data.rows == "pairs":
        middle = width // 2 - 1
        framed = [0, middle, width - 1]
        token[0, framed] = [vocab.special[role] for role in ("cls", "sep", "sep")]
        text[0, framed] = False
        segment[0, middle + 1 :] = 1
        label = np.zeros(1, np.int32)
    column = np.arange(width, dtype=np.int32)[None]
    starts = text & (column == np.argmax(text))
    rows = Rows(token, np.ones_like(token), column, segment, text, starts, label)
    rows = rows._replace(source=rows if objective.encodes else None)
    return Toy(objective, objective.make_batch(Noise(recipe.train.seed, 0, 0, 1), rows), words)
