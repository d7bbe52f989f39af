"""Beam search: which hypotheses go on, and which are finished. Numbers in, numbers out; no model is needed here.

Shapes: B rows, a source each, W hypotheses of each (the beam's width).
"""

from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from zoo.sections import Count, Section

IMPOSSIBLE = -1e9


class Search(Section):
    """How a translation is looked for; the defaults are the paper's (Vaswani et al. 2017, section 6.1)."""

    beam: Count = 4  # hypotheses that are kept; 1 takes the likeliest token every time
    length_penalty: Annotated[float, Field(ge=0)] = 0.6  # 0 prefers short texts, 1 the highest mean score of a token
    longer: Count = 50  # tokens that a text may have beyond its source


class Written(NamedTuple):
    """What was found for one source."""

    ids: list[int]  # without the end
    score: float  # log-likelihood, the end counted, over the length penalty


class Beam:
    """The hypotheses of B sources, W each, and those that have ended; a row is free again when its source is done.

    As in fairseq's search: of the 2W best continuations those that end and are among the first W are finished, the
    first W of the others go on; a source is done when it has W finished ones, or when none that goes on can come to
    score higher than one of these, however long it grows. With W = 1 that is greedy search.
    """

    def __init__(self, search: Search, rows: int, longest: int, end: int, begin: int):
        """longest: tokens that any text may have, with its end; end, begin: ids."""
        self.search, self.end, self.begin = search, end, begin
        shape = rows, search.beam
        self.most = np.zeros(rows, np.int64)  # tokens that a row's text may have, with its end; 0 where it is free
        self.step = np.zeros(rows, np.int64)  # tokens that its hypotheses have
        self.total = np.full(shape, IMPOSSIBLE, np.float32)  # their log-likelihoods
        self.last = np.full(shape, begin, np.int32)  # their newest tokens
        self.parent = np.zeros(shape, np.int64)  # which one of the step before each goes on from
        self.ids = np.zeros((*shape, longest), np.int32)
        self.finished: list[list[Written]] = [[] for _ in range(rows)]

    def start(self, row: int, most: int) -> None:
        """Gives a free row a source, whose text may have `most` tokens."""
        self.most[row], self.step[row], self.finished[row] = most, 0, []
        self.total[row, 1:], self.total[row, 0] = IMPOSSIBLE, 0.0  # at first there is one hypothesis, the empty one
        self.last[row] = self.begin

    def go_on(self, score: np.ndarray, parent: np.ndarray, token: np.ndarray) -> None:
        """The best continuations [B, 2W], best first: their log-likelihoods, which hypotheses, by which tokens."""
        ends, width = token == self.end, self.search.beam
        penalty = self.penalty(self.step + 1)
        for row, at in np.argwhere(ends[:, :width] & (score[:, :width] > IMPOSSIBLE / 2)):
            if len(self.finished[row]) < width:
                ids = self.ids[row, parent[row, at], : self.step[row]].tolist()
                self.finished[row].append(Written(ids, float(score[row, at] / penalty[row])))
        alive = np.argsort(ends, axis=1, kind="stable")[:, :width]  # the first W that do not end
        self.parent = np.take_along_axis(parent, alive, axis=1)
        self.last = np.take_along_axis(token, alive, axis=1).astype(np.int32)
        self.total = np.where(np.take_along_axis(ends, alive, axis=1), IMPOSSIBLE, np.take_along_axis(score, alive, 1))
        self.ids = np.take_along_axis(self.ids, self.parent[:, :, None], axis=1)
        self.ids[np.arange(len(self.step)), :, self.step] = self.last
        self.step += self.most > 0

    def penalty(self, length: Any) -> Any:
        """What the log-likelihood of a text of so many tokens is divided by (Wu et al. 2016, equation 14)."""
        return ((5 + length) / 6) ** self.search.length_penalty

    def taken(self) -> list[tuple[int, Written]]:
        """The rows that are done, and free now, each with the finished hypothesis of the highest score."""
        enough = np.array([len(found) >= self.search.beam for found in self.finished])
        best = np.array([max((written.score for written in found), default=-np.inf) for found in self.finished])
        alive = self.total.max(axis=1)  # a log-likelihood only falls, and is divided by the penalty of the longest text
        hopeless = (alive < IMPOSSIBLE / 2) | (alive / self.penalty(self.most) <= best)
        rows = np.flatnonzero((enough | hopeless) & (self.most > 0)).tolist()
        self.most[rows], self.step[rows], self.total[rows] = 0, 0, IMPOSSIBLE
        return [(row, max(self.finished[row], key=lambda written: written.score)) for row in rows]
