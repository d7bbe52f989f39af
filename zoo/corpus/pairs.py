"""Pairs of text for next-sentence prediction, as BERT's release makes them (create_pretraining_data.py)."""

import numpy as np

from zoo.batch import Rows
from zoo.corpus.rows import RowPlan, generator
from zoo.errors import UserError
from zoo.sections import Data

SHORT_RATE = 0.1  # of documents, per epoch, that are cut to a random shorter target
RESERVED = 3  # [CLS] and two [SEP]


def fitting(a: np.ndarray, b: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """How long both sides are once tokens have been taken from the longer one (B where equal) until `most` are left.

    So the shorter side stays whole, unless both are longer than half.
    """
    a = np.minimum(a, np.maximum(-(-most // 2), most - b))
    return a, np.minimum(b, most - a)


class Pairs(RowPlan):
    """[CLS] A [SEP] B [SEP], padded; B follows A (label 0) or comes from another document (label 1).

    A chunk of a document is sentences up to a target length; A is its first 1 to n-1 sentences. With probability 1/2,
    and always where the chunk is one sentence, B is taken from elsewhere and the sentences it displaces go back. A line
    of the table: start and length of A, start and length of B, label.
    """

    def prepare(self, data: Data, whole: bool) -> None:
        self.require("data.rows pairs", "cls", "sep")
        self.most = self.width - RESERVED
        if self.most < 2:
            raise UserError(f"data.row_tokens {self.row_tokens} holds no pair; the shortest that does: {RESERVED + 2}")
        self._find_sentences()
        # Evaluation of a split of one document takes B from that document, as the release does when ten tries fail.
        if len(self.first) - 1 < (1 if whole else 2):
            raise UserError(
                f"next-sentence prediction needs at least 2 documents and the corpus has {len(self.first) - 1};"
                " data.document=blank_line or data.document=line makes a document of every paragraph or line"
            )
        self.rows_in_epoch = len(self._pairs(0))

    def _find_sentences(self) -> None:
        """begin [S], below [S + 1] (tokens before each), first [D + 1] (sentence each document starts with)."""
        bounds = np.union1d(np.asarray(self.tokens.sentences), self.documents)
        begin, end = bounds[:-1], bounds[1:].copy()
        if "eod" in self.special:
            last = np.isin(end, self.documents) & (self.token.take(end - 1) == self.special["eod"])
            end -= last
        some = end > begin
        self.begin, size = begin[some], (end - begin)[some]
        self.below = np.concatenate([[0], np.cumsum(size)])
        owner = np.searchsorted(self.documents, self.begin, side="right")
        self.first = np.append(np.flatnonzero(np.diff(owner, prepend=0)), len(self.begin))

    def table(self, epoch: int) -> np.ndarray:
        # Epochs differ by a few pairs; all get the first one's size, so that a row's epoch follows from its index.
        pairs = self._pairs(epoch)
        order = generator(self.seed, epoch, "rows.order").permutation(len(pairs))
        return pairs[order[np.arange(self.rows_in_epoch) % len(pairs)]]

    def _pairs(self, epoch: int) -> np.ndarray:
        """All pairs of one pass, [n, 5]; one Python step makes the next pair of every document that has one left."""
        draw, documents = generator(self.seed, epoch, "rows.pairs"), len(self.first) - 1
        short = draw.random(documents) < SHORT_RATE
        target = np.where(short, draw.integers(2, self.most + 1, documents), self.most)
        at, live, made = self.first[:-1].copy(), np.arange(documents), []
        while len(live):
            here, stop = at[live], self.first[live + 1]
            end = self._reach(here, target[live], stop)
            split = here + draw.integers(1, np.maximum(end - here, 2))
            a = self.below[split] - self.below[here]
            elsewhere = (end - here == 1) | (draw.random(len(live)) < 0.5)
            # Unlike the release, which tries ten times, this never meets the document itself.
            other = draw.integers(max(documents - 1, 1), size=len(live))
            other += (other >= live) & (documents > 1)
            far = draw.integers(self.first[other], self.first[other + 1])
            far_end = self._reach(far, target[live] - a, self.first[other + 1])
            b_from, b_end = np.where(elsewhere, far, split), np.where(elsewhere, far_end, end)
            b = self.below[b_end] - self.below[b_from]
            made.append(np.stack([self.begin[here], a, self.begin[b_from], b, elsewhere], axis=1))
            at[live] = np.where(elsewhere, split, end)
            live = live[at[live] < stop]
        return self._truncated(np.concatenate(made), draw)

    def _reach(self, sentence: np.ndarray, tokens: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """The end of the shortest run of sentences with that many tokens: one at least, none from `stop` on."""
        return np.minimum(np.searchsorted(self.below, self.below[sentence] + np.maximum(tokens, 1)), stop)

    def _truncated(self, pairs: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """The pairs cut to what fits; every token that goes is taken from the front or the back of its side."""
        a, b = pairs[:, 1].copy(), pairs[:, 3].copy()
        pairs[:, 1], pairs[:, 3] = fitting(a, b, self.most)
        pairs[:, 0] += draw.binomial(a - pairs[:, 1], 0.5)
        pairs[:, 2] += draw.binomial(b - pairs[:, 3], 0.5)
        return pairs

    def cut(self, chosen: np.ndarray) -> Rows:
        a_from, a, b_from, b, label = (chosen[:, n : n + 1] for n in range(5))
        column = np.broadcast_to(self.column, (len(chosen), self.width))
        in_a, in_b = (column >= 1) & (column <= a), (column > a + 1) & (column <= a + b + 1)
        text, real = in_a | in_b, column < a + b + RESERVED
        index = np.where(in_a, a_from + column - 1, np.where(in_b, b_from + column - a - 2, 0))
        flags = np.where(text, self.flags.take(index), 0)
        framed = np.where(column == 0, self.special["cls"], self.special["sep"])
        rows = self.filled(np.where(text, self.token.take(index), framed), flags, real.astype(np.int64), column)
        return rows._replace(segment=(real & (column > a + 1)).astype(np.int32), label=label[:, 0].astype(np.int32))
