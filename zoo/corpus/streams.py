"""Text read on and on: a row goes on where the row `streams` before it ended, as Transformer-XL and XLNet read.

A place of a stream is counted in its reading order, from 0. Shapes: B rows, W tokens a row, S streams.
"""

import numpy as np

from zoo.batch import Rows
from zoo.corpus.pairs import RESERVED, fitting
from zoo.corpus.rows import RowPlan, generator
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.sections import Data


class Streams(RowPlan):
    """Row r belongs to stream r % S; S rows in turn hold one row of every stream. A line of the table: where its stream
    begins in the ring of the split, the row's first place in it, the stream.

    The split is cut into equal stretches, one a stream; every epoch begins the cut somewhere else. Two streams share a
    stretch where data.bidirectional is set, and the second reads it backwards. Unlike XLNet's release, which lays out
    all streams forwards and then all backwards, they take turns: so every even part of a batch has both halves.
    """

    def prepare(self, data: Data, whole: bool) -> None:
        self.whole, self.sharing = whole, 2 if data.bidirectional else 1
        self.step = data.reuse or self.row_tokens
        size = len(self.token) - self.extra
        self.streams = count = self._fitting(size, data)
        stretches = count // self.sharing
        bounds, stretch = np.arange(stretches + 1) * size // stretches, np.arange(count) // self.sharing
        self.start, self.length = bounds[stretch], np.diff(bounds)[stretch]  # [S]
        self.turn = np.where(np.arange(count) % self.sharing, -1, 1)  # [S] -1 = backwards
        if whole and data.reuse is None:
            self.rows_in_stream = -(-int(self.length.max()) // self.row_tokens)
        else:
            self.rows_in_stream = (int(self.length.min()) - self.row_tokens) // self.step + 1
        self.rows_in_epoch = self.rows_in_stream * count

    def _fitting(self, size: int, data: Data) -> int:
        """S: as asked, or refused; for evaluation the most up to it whose stretches hold a row and fill the memory."""
        asked, least = self.asked_streams, self.row_tokens if data.reuse or not self.whole else 1
        full = (max(-(-self.memory // self.step), 1) - 1) * self.step + self.row_tokens
        most = size // full * self.sharing
        if size < least:
            raise UserError(
                f"the corpus has {len(self.token)} tokens, too few for one row of data.row_tokens {self.row_tokens};"
                f" nearest that fits: {max(size, 1)}"
            )
        if self.whole:
            return max(min(asked, most) // self.sharing, 1) * self.sharing
        if asked > most:
            fits = [n for n in range(1, most + 1) if self.rows_per_update % n == 0 and n % self.sharing == 0]
            raise UserError(
                f"the corpus has {len(self.token)} tokens, too few for train.streams {asked}: each needs {full} tokens"
                f" for a row of {self.row_tokens} and a model.memory of {self.memory};"
                f" nearest that fits: {fits[-1] if fits else 'none'}"
            )
        return asked

    def about(self) -> str:
        backwards = ", every second one backwards" if self.sharing == 2 else ""
        return f"{self.streams} streams of {self.rows_in_stream} rows an epoch{backwards}"

    def table(self, epoch: int) -> np.ndarray:
        shift = 0 if self.whole else generator(self.seed, epoch, "rows.streams").integers(len(self.token))
        segment, stream = np.divmod(np.arange(self.rows_in_epoch), len(self.turn))
        begin = shift + self.start + np.where(self.turn < 0, self.length + self.extra - 1, 0)
        return np.stack([begin[stream], segment * self.step, stream], axis=1)

    def cut(self, chosen: np.ndarray) -> Rows:
        _, first, stream = chosen.T[..., None]
        place, length = first + self.column, self.length[stream]
        doc = (first < length) & (place < length + self.extra)  # all of it, unless whole
        index, position = self.index(chosen, place), np.broadcast_to(self.column, doc.shape)
        return self.going_on(chosen, self.filled(self.token.take(index), self.flags.take(index), doc, position))

    def index(self, chosen: np.ndarray, place: np.ndarray) -> np.ndarray:
        """[B, W] where in the split the places of these lines' streams are."""
        begin, _, stream = chosen.T[..., None]
        return (begin + self.turn[stream] * place) % len(self.token)

    def going_on(self, chosen: np.ndarray, rows: Rows) -> Rows:
        """The rows, and how they go on."""
        backward = self.turn[chosen[:, 2]] < 0
        return rows._replace(reset=chosen[:, 1] == 0, backward=backward if self.sharing == 2 else None)


class Segments(Streams):
    """XLNet's rows: [data.reuse tokens][A][SEP][B][SEP][CLS]; the stream's next row goes on after the `reuse` tokens.

    A follows them; B follows A, or with probability 1/2 stands anywhere in the same stretch. Segments are 0, 1 for B
    and its SEP, 2 for CLS. Unlike the release, whether B follows is not kept: nothing is learned from it there either.
    Source: _create_data and _split_a_and_b of XLNet's data_utils.py.
    """

    def prepare(self, data: Data, whole: bool) -> None:
        self.require("data.reuse", "cls", "sep")
        super().prepare(data, whole)
        self.total = self.width - self.step - RESERVED  # tokens of A and B
        sentences = np.asarray(self.tokens.sentences)
        self.sentence = sentences[: np.searchsorted(sentences, len(self.token))]

    def rows(self, update: int, first: int, count: int) -> Rows:
        chosen = self.lines(update, first, count)
        a, b_from = self.split(chosen, Noise(self.seed, update, first, count).uniform("rows.segments", 3))
        sep = self.step + a[:, None]  # the first one; what stands behind the row's last tokens is the same in all
        second, last = self.column > sep, self.column == self.width - 1
        special = last | (self.column == self.width - 2) | (self.column == sep)
        place = np.where(second, b_from[:, None] - sep - 1, chosen[:, 1:2]) + self.column
        index = self.index(chosen, place)
        framed = np.where(last, self.special["cls"], self.special["sep"])
        token, flags = np.where(special, framed, self.token.take(index)), np.where(special, 0, self.flags.take(index))
        rows = self.filled(token, flags, np.ones_like(index), np.broadcast_to(self.column, index.shape))
        return self.going_on(chosen, rows._replace(segment=second.astype(np.int32) + last))

    def split(self, chosen: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[B] how long A is, and where B begins; A and B together are `total` tokens. draws: [B, 3] in [0, 1)."""
        begin, first, stream = chosen.T
        turn, length, a_from = self.turn[stream], self.length[stream], first + self.step
        zero = begin + (turn < 0)  # where the ring is cut before place 0

        def sentence(place: np.ndarray, ahead: bool = True) -> np.ndarray:
            """Number of the nearest sentence in reading order that starts at a place or beyond it, or before it."""
            return self._number(zero + turn * place, (turn > 0) == ahead)

        def start(number: np.ndarray) -> np.ndarray:
            """The place where a sentence starts."""
            lap, within = np.divmod(number, len(self.sentence))
            return turn * (lap * len(self.token) + self.sentence[within] - zero)

        coin, choice, anywhere = draws.T
        # A ends where one of the sentences in the window does; where none does, both end with the one that fills it.
        near, far = sentence(a_from + 1), sentence(a_from + self.total)
        cuts, full = turn * (far - near), np.minimum(start(far), length)
        a_end = np.where(cuts > 0, start(near + turn * (choice * cuts).astype(np.int64)), full)
        elsewhere = (coin < 0.5) | (cuts == 0)
        least = np.maximum(self.total - (a_end - a_from), 1)
        middle = (anywhere * (length - least)).astype(np.int64)
        b_from = np.where(elsewhere, np.maximum(start(sentence(middle, ahead=False)), 0), a_end)
        b_end = np.where(elsewhere, np.minimum(start(sentence(middle + least)), length - 1), full)
        return fitting(a_end - a_from, b_end - b_from, self.total)[0], b_from

    def _number(self, place: np.ndarray, above: np.ndarray) -> np.ndarray:
        """Of the nearest sentence start of the ring at or above a place, else at or below it; it grows with laps."""
        lap, within = np.divmod(place, len(self.token))
        number = np.where(
            above,
            np.searchsorted(self.sentence, within, side="left"),
            np.searchsorted(self.sentence, within, side="right") - 1,
        )
        return lap * len(self.sentence) + number
