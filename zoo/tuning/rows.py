"""Labelled examples as rows of tokens.

Shapes: B rows, T tokens a row.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from zoo.batch import Rows
from zoo.corpus.labelled import Example
from zoo.corpus.pairs import fitting
from zoo.corpus.rows import RowPlan, generator
from zoo.corpus.tokenizer import Tokenizer
from zoo.errors import UserError
from zoo.progress import say
from zoo.tuning.family import Family
from zoo.use.frame import graph_width, laid_out

AT_ONCE = 1000  # sentences of words that are tokenized together


class Row(NamedTuple):
    """An example's tokens, and where it is asked: of words at the first token of each that fits."""

    ids: np.ndarray  # [tokens] int32
    segment: np.ndarray  # [tokens] int32
    at: np.ndarray  # [asked] int64, rising
    label: np.ndarray  # [asked] int64, numbers of labels; 0 where none is known


class Framing(NamedTuple):
    """How the examples of a task become rows of at most `longest` tokens."""

    tokenizer: Tokenizer
    family: Family
    task: str
    longest: int
    segments: int  # that the network tells apart

    def rows(self, examples: Sequence[Example], labels: Sequence[str]) -> list[Row]:
        """A row for each example; how many had to be cut to fit is told.

        A pair loses tokens of the longer text. UserError where no token of a text would fit.
        """
        parts = 2 if self.task == "pairs" else 1
        most = self.longest - self.family.around(parts)
        if most < parts:
            raise UserError(f"rows of {self.longest} tokens hold no text: {self.longest - most} stand around it")
        number = {label: n for n, label in enumerate(labels)}
        build = self._of_words if self.task == "tag" else self._of_texts
        rows, cut = build(examples, most, number)
        if cut:
            say(f"{cut:,} of {len(rows):,} texts are cut to the {self.longest} tokens that are read at once")
        return rows

    def _of_texts(self, examples: Sequence[Example], most: int, number: dict[str, int]) -> tuple[list[Row], int]:
        rows, cut = [], 0
        for texts, labels in examples:
            parts = [self.tokenizer.encode(text) for text in texts]
            sizes = [np.array(len(ids)) for ids in parts]
            cut += sum(map(len, parts)) > most
            fits = [most] if len(parts) == 1 else fitting(sizes[0], sizes[1], most)
            ids, segment = self._framed([ids[: int(fit)] for ids, fit in zip(parts, fits, strict=True)])
            asked = np.array([self.family.asked % len(ids)])
            rows.append(Row(ids, segment, asked, np.array([number[label] for label in labels] or [0])))
        return rows, cut

    def _of_words(self, examples: Sequence[Example], most: int, number: dict[str, int]) -> tuple[list[Row], int]:
        rows, cut = [], 0
        for start in range(0, len(examples), AT_ONCE):
            some = examples[start : start + AT_ONCE]
            # Word by word, with the space that stands before it in a text.
            words = [f" {word}" if n else word for each in some for n, word in enumerate(each.texts)]
            found = self.tokenizer.encode_pieces(words)
            ends = np.cumsum([len(each.texts) for each in some])[:-1]
            counts = np.split(found.counts, ends)
            ids = np.split(found.ids, np.cumsum([each.sum() for each in counts])[:-1])
            for example, count, tokens in zip(some, counts, ids, strict=True):
                # A word without a token is asked where the next one is, the last of all where the text ends.
                first = np.cumsum(count) - count
                cut += len(tokens) > most
                at = first[first < most] + len(self.family.before)
                label = [number[tag] for tag in example.labels[: len(at)]] or [0] * len(at)
                rows.append(Row(*self._framed([tokens[:most]]), at, np.array(label, np.int64)))
        return rows, cut

    def _framed(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        ids, segment = self.family.framed(parts, self.tokenizer.special)
        return ids, np.minimum(segment, max(self.segments - 1, 0))


def laid(rows: Sequence[Row], height: int, width: int) -> Rows:
    """[height, width] with a row of tokens in each of the first rows, padded at its end; the others are empty."""
    token, doc = laid_out([row.ids for row in rows], height, width)
    segment, _ = laid_out([row.segment for row in rows], height, width)
    label = np.full_like(token, -1)
    for line, row in zip(label, rows, strict=False):
        line[row.at] = row.label
    position = np.arange(width, dtype=np.int32) * doc
    nothing = np.zeros(token.shape, bool)
    return Rows(token, doc, position, segment, nothing, nothing, label)


class LabelledRows(RowPlan):
    """Examples in an order of every epoch's own. A line of the table: the number of an example.

    All rows of an update are as wide as its longest needs, so that no row depends on how the update is split.
    """

    def __init__(self, examples: Sequence[Row], rows_per_update: int, longest: int, seed: int):
        self.examples, self.longest = examples, longest
        self.rows_per_update, self.rows_in_epoch, self.seed = rows_per_update, len(examples), seed
        self.cached_table = lru_cache(maxsize=2)(self.table)

    def rows(self, update: int, first: int, count: int) -> Rows:
        chosen = [self.examples[n] for n in self.lines(update, 0, self.rows_per_update)[:, 0]]
        width = graph_width(max(len(row.ids) for row in chosen), self.longest)
        return laid(chosen[first : first + count], count, width)

    def words(self, rows: Rows) -> int:
        return 0  # fine-tuning has no budget of them

    def table(self, epoch: int) -> np.ndarray:
        return generator(self.seed, epoch, "rows.labelled").permutation(self.rows_in_epoch)[:, None]
