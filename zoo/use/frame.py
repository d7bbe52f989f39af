"""Texts as a model met them in training: between the special tokens that stand around a document there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.batch import Rows
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

TOKENS = 4096  # read at once
STEP = 16  # rows are padded to a multiple of it: a graph is made for each length


def rounded_up(size: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-size // step) * step


def graph_width(length: int, longest: int) -> int:
    """What a row of some length is padded to: STEP, twice it, and so on, so that few graphs are made."""
    width = STEP
    while width < length:
        width *= 2
    return min(width, longest)


def graph_height(rows: int, width: int) -> int:
    """How many rows of that width are read at once, of so many that wait: a power of 2, so that few graphs are made."""
    return max(1, min(TOKENS // width, 1 << (rows - 1).bit_length()))


def laid_out(texts: Sequence[Sequence[int] | np.ndarray], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Token and doc [height, width] int32: a text in each of the first rows, padded at its end with doc 0."""
    token, doc = np.zeros((2, height, width), np.int32)
    for row, present, ids in zip(token, doc, texts, strict=False):
        row[: len(ids)], present[: len(ids)] = ids, 1
    return token, doc


class Frame:
    """What stands around a text: [CLS] and [SEP] where rows are pairs, else the end of a document.

    before and after: ids. A causal model is asked for nothing after the text, so that nothing stands there.
    """

    def __init__(self, model: "Loaded"):
        special, objective = model.tokenizer.special, model.learner.objective
        if objective.encodes:
            raise UserError(f"{model.recipe.name} writes a text from its source (zoo translate); it reads none alone")
        ends = ["eod", "eod"] if model.recipe.data.rows != "pairs" else ["cls", "sep"]
        self.before, self.after = ([special[role]] if role in special else [] for role in ends)
        if objective.visibility == "causal":
            self.after = []
        self.name = model.recipe.name
        self.longest = model.recipe.model.longest + objective.extra_tokens

    def check(self, texts: list[np.ndarray]) -> None:
        """Raises UserError, with the number of the text, where one is too long to be read."""
        around = len(self.before) + len(self.after)
        for number, ids in enumerate(texts, 1):
            if len(ids) + around > self.longest:
                raise UserError(
                    f"text {number} has {len(ids)} tokens; {self.name} reads at most {self.longest - around} at once"
                )

    def rows(self, texts: list[np.ndarray], height: int) -> Rows:
        """[height, T] with a text in each of the first rows, padded at its end; the others are empty."""
        framed = [np.concatenate([self.before, ids, self.after]).astype(np.int32) for ids in texts]
        width = min(rounded_up(max(map(len, framed)), STEP), self.longest)
        token, doc = laid_out(framed, height, width)
        position = np.arange(width, dtype=np.int32) * doc
        nothing = np.zeros_like(token)
        return Rows(token, doc, position, nothing, doc > 0, nothing > 0)
