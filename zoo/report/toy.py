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
    """One row of that many tokens: [cls] A [sep] B [sep] where the recipe reads pairs; a first part, A [sep] B [sep]
    [cls] where rows have two; else one document.
    """
    specials = list(recipe.tokenizer.specials)
    names = list(dict.fromkeys(TEXT))
    words = [*recipe.tokenizer.specials.values(), *names]
    vocab = Vocab(len(words), len(words), {role: n for n, role in enumerate(specials)})
    # A recipe's blocks need not divide so short a row, nor so short a stream hold its memory.
    blocks = {"perm_size": None} if "perm_size" in recipe.objective else {}
    fitting = recipe.with_changes(model={"memory": 0}, objective=blocks).with_rows(2, row_tokens)
    objective = make_objective(fitting, vocab)
    width = row_tokens + objective.extra_tokens
    token = np.array([[len(specials) + names.index(TEXT[n % len(TEXT)]) for n in range(width)]], np.int32)
    text = np.ones_like(token, bool)
    column, segment, label = np.arange(width, dtype=np.int32)[None], np.zeros_like(token), None
    framed: dict[int, str] = {}
    if recipe.data.rows == "pairs":
        middle = width // 2 - 1
        framed, label = {0: "cls", middle: "sep", width - 1: "sep"}, np.zeros(1, np.int32)
        segment = (column > middle).astype(np.int32)
    elif (cut := objective.reuse) is not None:
        middle = cut + (width - cut - 2) // 2
        framed = {middle: "sep", width - 2: "sep", width - 1: "cls"}
        segment = (column > middle).astype(np.int32) + (column == width - 1)
    for place, role in framed.items():
        token[0, place], text[0, place] = vocab.special[role], False
    starts = text & (column == np.argmax(text))
    rows = Rows(token, np.ones_like(token), column, segment, text, starts, label)
    rows = rows._replace(source=rows if objective.encodes else None)
    return Toy(objective, objective.make_batch(Noise(recipe.train.seed, 0, 0, 1), rows), words)
