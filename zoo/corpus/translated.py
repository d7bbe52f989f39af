"""Rows of parallel text: as many pairs as fit, side by side, the sources in one row and their translations in another.

Shapes: B rows, T tokens a row, K pairs a row at most.
"""

import numpy as np

from zoo.batch import Rows
from zoo.corpus.rows import RowPlan, generator
from zoo.corpus.shards import Tokens
from zoo.errors import UserError
from zoo.sections import Data

OPEN = 64  # rows that are filled at the same time


class Translated(RowPlan):
    """Pairs in the order that an epoch drew, each put into the fullest row with room for both of its sides.

    Pair k of a row is document k + 1 of both its sides, so that nothing is seen across pairs. A line of the table: the
    numbers of the row's pairs, then -1. A pair whose source or target is longer than a row is left out and counted.
    """

    def prepare(self, data: Data, whole: bool) -> None:
        assert self.tokens.source is not None
        self.source = self.tokens.source
        self.target_size, self.source_size = np.diff(self.documents), np.diff(self.source.documents)
        chosen = np.arange(len(self.target_size)) if self.tokens.chosen is None else self.tokens.chosen
        longer = np.maximum(self.target_size, self.source_size)[chosen]
        self.fitting = chosen[longer <= self.width]
        self.too_long = len(chosen) - len(self.fitting)
        if not len(self.fitting):
            raise UserError(
                f"none of {len(chosen)} pairs fits into data.row_tokens {self.row_tokens};"
                f" the shortest needs {longer.min() if len(longer) else 0}"
            )
        shortest = max(size[self.fitting].min() for size in (self.source_size, self.target_size))
        self.most_pairs = self.width // shortest  # in a row
        self.rows_in_epoch = len(self.cached_table(0))

    def about(self) -> str:
        places = self.rows_in_epoch * self.width
        waste = (1 - sizes[self.fitting].sum() / places for sizes in (self.source_size, self.target_size))
        told = "padding {:.1%} of the sources' rows and {:.1%} of the targets'".format(*waste)
        left_out = f"; {self.too_long:,} longer than a row are left out" if self.too_long else ""
        return f"{len(self.fitting):,} pairs in {self.rows_in_epoch:,} rows an epoch, {told}{left_out}"

    def table(self, epoch: int) -> np.ndarray:
        draw = generator(self.seed, epoch, "rows.parallel")
        found = packed(draw.permutation(self.fitting), self.source_size, self.target_size, self.width)
        rows = np.full((len(found), self.most_pairs), -1)
        for line, row in zip(rows, found, strict=True):
            line[: len(row)] = row
        # Epochs differ by a few rows; all get the first one's number, so that a row's epoch follows from its index.
        count = len(rows) if epoch == 0 else self.rows_in_epoch
        return rows[draw.permutation(len(rows))[np.arange(count) % len(rows)]]

    def cut(self, chosen: np.ndarray) -> Rows:
        source = self._side(self.source, self.source_size, chosen)
        return self._side(self.tokens, self.target_size, chosen)._replace(source=source)

    def _side(self, tokens: Tokens, size: np.ndarray, chosen_BK: np.ndarray) -> Rows:
        end_BK = np.cumsum(np.where(chosen_BK >= 0, size[chosen_BK], 0), axis=1)
        nth_BT = (self.column[:, None] >= end_BK[:, None, :]).sum(axis=2)  # how many pairs end before this place
        real_BT = self.column < end_BK[:, -1:]
        pair_BT = np.where(real_BT, nth_BT, 0)
        begin_BK = np.pad(end_BK[:, :-1], [(0, 0), (1, 0)])
        position_BT = self.column - np.take_along_axis(begin_BK, pair_BT, axis=1)
        at_BT = tokens.documents[np.take_along_axis(chosen_BK, pair_BT, axis=1)] + position_BT
        at_BT = np.where(real_BT, at_BT, 0)
        doc_BT = np.where(real_BT, pair_BT + 1, 0)
        return self.filled(tokens.token.take(at_BT), tokens.flags.take(at_BT), doc_BT, position_BT)


def packed(pairs: np.ndarray, source_size: np.ndarray, target_size: np.ndarray, width: int) -> list[list[int]]:
    """Rows of pairs, so that neither side of a row is longer than `width`.

    Best fit: of OPEN rows that are being filled, a pair goes into the one that it leaves the least room in; where none
    has room, the fullest is closed.
    """
    room = np.full((2, OPEN), width)
    rows: list[list[int]] = [[] for _ in range(OPEN)]
    closed = []
    for pair, *size in zip(pairs.tolist(), source_size[pairs].tolist(), target_size[pairs].tolist(), strict=True):
        left = room - np.array(size)[:, None]
        left_over = np.where(left.min(axis=0) >= 0, left.sum(axis=0), 2 * width + 1)
        best = int(left_over.argmin())
        if left_over[best] > 2 * width:
            best = int(room.sum(axis=0).argmin())
            closed.append(rows[best])
            rows[best] = []
            room[:, best] = width
        room[:, best] -= size
        rows[best].append(pair)
    return closed + [row for row in rows if row]
