"""Row plans: from tokens on disk to rows, each a pure function of (seed, update, row) with random access.

Row r of update u is row g = u x rows_per_update + r of an endless sequence; epoch g // rows_in_epoch holds it. What an
epoch's rows are is a table drawn from (seed, epoch), so any row can be cut without the ones before it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from zoo.batch import Rows
from zoo.corpus.starts import SENTENCE_START, SPACED_START, WORD_START
from zoo.errors import UserError
from zoo.noise import site_code
from zoo.sections import Data

if TYPE_CHECKING:
    from zoo.corpus.shards import Tokens


def plan(
    tokens: "Tokens",
    data: Data,
    *,
    row_tokens: int,
    extra: int,
    rows_per_update: int,
    special: dict[str, int],
    seed: int,
    whole: bool = False,
    streams: int | None = None,
    memory: int = 0,
) -> "RowPlan":
    """The plan that `data.rows` names; its rows hold row_tokens + extra tokens.

    whole: for evaluation. Epoch 0 then predicts every token of the split exactly once; a row that is short is padded.
    streams: as train.streams; memory: as model.memory, of which no stream may have less. For evaluation there are fewer
    streams where the split is too small for so many: the plan's own `streams` says how many.
    Raises UserError where the split is too small for one row, or for the streams, or has nothing to pair.
    """
    from zoo.corpus.pairs import Pairs
    from zoo.corpus.streams import Segments, Streams
    from zoo.corpus.translated import Translated

    kinds: dict[str, type[RowPlan]] = {"packed": Packed, "document": Document, "pairs": Pairs, "parallel": Translated}
    kinds["stream"] = Streams if data.reuse is None else Segments
    kind = kinds[data.rows]
    return kind(tokens, data, row_tokens, extra, rows_per_update, special, seed, whole, streams, memory)


def generator(seed: int, epoch: int, site: str) -> np.random.Generator:
    """What draws an epoch's table."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch << 32 | site_code(site)], np.uint64)))


class RowPlan:
    """Rows of one split; `rows_in_epoch` of them make an epoch."""

    rows_in_epoch: int
    streams: int | None = None  # rows that are read side by side, each going on; None = no row goes on after another

    def __init__(
        self,
        tokens: "Tokens",
        data: Data,
        row_tokens: int,
        extra: int,
        rows_per_update: int,
        special: dict[str, int],
        seed: int,
        whole: bool,
        streams: int | None,
        memory: int,
    ):
        self.tokens = tokens
        self.token, self.flags, self.documents = tokens.token, tokens.flags, tokens.documents
        self.row_tokens, self.extra, self.width = row_tokens, extra, row_tokens + extra
        self.rows_per_update, self.special, self.seed = rows_per_update, special, seed
        self.asked_streams, self.memory = streams or rows_per_update, memory
        self.pad = special.get("pad", 0)
        self.column = np.arange(self.width)
        # Two, because the rows of an update may lie on both sides of an epoch's end.
        self.cached_table = lru_cache(maxsize=2)(self.table)
        self.prepare(data, whole)

    def rows(self, update: int, first: int, count: int) -> Rows:
        """Rows `first` to `first + count - 1` of an update."""
        return self.cut(self.lines(update, first, count))

    def words(self, rows: Rows) -> int:
        """Words between white space that start in rows and in what they translate, as the network reads them."""
        sides = [rows] if rows.source is None else [rows, rows.source]
        return sum(int(np.count_nonzero(side.spaced_start[:, : self.row_tokens])) for side in sides)

    def lines(self, update: int, first: int, count: int) -> np.ndarray:
        """The lines of the tables that describe them."""
        epoch, at = np.divmod(update * self.rows_per_update + first + np.arange(count), self.rows_in_epoch)
        return np.concatenate([self.cached_table(int(e))[at[epoch == e]] for e in np.unique(epoch)])

    def require(self, what: str, *roles: str) -> None:
        """Raises UserError where the tokenizer lacks one of these special tokens."""
        if missing := [role for role in roles if role not in self.special]:
            raise UserError(
                f"{what} needs the special tokens {' and '.join(missing)};"
                f" tokenizer.specials has {', '.join(self.special) or 'none'}"
            )

    def prepare(self, data: Data, whole: bool) -> None:
        """Sets rows_in_epoch and what the tables are drawn from."""
        raise NotImplementedError

    def about(self) -> str | None:
        """What a user should know of these rows, in a line."""
        return None

    def table(self, epoch: int) -> np.ndarray:
        """[rows_in_epoch, k] int64: for every row, in the epoch's order, what `cut` needs to know."""
        raise NotImplementedError

    def cut(self, chosen: np.ndarray) -> Rows:
        """The rows [B, row_tokens + extra] that B lines of a table describe."""
        raise NotImplementedError

    def filled(self, token: np.ndarray, flags: np.ndarray, doc: np.ndarray, position: np.ndarray) -> Rows:
        """Rows of one segment; where doc is 0 there is padding."""
        real = doc > 0
        return Rows(
            token=np.where(real, token, self.pad).astype(np.int32),
            doc=doc.astype(np.int32),
            position=np.where(real, position, 0).astype(np.int32),
            segment=np.zeros(doc.shape, np.int32),
            word_start=real & ((flags & WORD_START) > 0),
            sentence_start=real & ((flags & SENTENCE_START) > 0),
            spaced_start=real & ((flags & SPACED_START) > 0),
        )


class Packed(RowPlan):
    """The split end to end, as a ring, cut into rows. A line of the table: where the row starts, how long it is.

    Every epoch starts the cut somewhere else, so that the rows' ends vary; consecutive rows share `extra` tokens. What
    is left over, less than a row, is left out of that epoch.
    """

    def prepare(self, data: Data, whole: bool) -> None:
        size = len(self.token)
        if size < (1 + self.extra if whole else self.width):
            fits = max(size - self.extra, 1)
            raise UserError(
                f"the corpus has {size} tokens, too few for one row of data.row_tokens {self.row_tokens};"
                f" nearest that fits: {fits}"
            )
        self.whole, self.across = whole, data.across_documents
        # Not a ceiling where `whole` is False: the ring has no end, and a row more would show tokens twice.
        self.rows_in_epoch = -(-(size - self.extra) // self.row_tokens) if whole else size // self.row_tokens
        starts = np.unique(self.documents[:-1])
        self.starts = np.concatenate([starts, size + starts[starts < self.width]])  # once round the ring, and a row

    def table(self, epoch: int) -> np.ndarray:
        draw, size = generator(self.seed, epoch, "rows.packed"), len(self.token)
        start = draw.permutation(self.rows_in_epoch) * self.row_tokens
        if not self.whole:
            start = (start + draw.integers(size)) % size
        length = np.minimum(self.width, size - start) if self.whole else np.full_like(start, self.width)
        return np.stack([start, length], axis=1)

    def cut(self, chosen: np.ndarray) -> Rows:
        start, length = chosen[:, :1], chosen[:, 1:]
        index = start + self.column
        if self.across:
            doc, begin = np.ones(index.shape, np.int64), start
        else:
            at = np.searchsorted(self.starts, index, side="right")
            doc, begin = at - at[:, :1] + 1, np.maximum(self.starts[at - 1], start)
        wrapped = index % len(self.token)
        doc = np.where(self.column < length, doc, 0)
        return self.filled(self.token.take(wrapped), self.flags.take(wrapped), doc, index - begin)


class Document(RowPlan):
    """Every document by itself, cut into rows, the last one padded. A line of the table: start and length."""

    def prepare(self, data: Data, whole: bool) -> None:
        begin, size = self.documents[:-1], np.diff(self.documents)
        rows = np.maximum(-(-(size - self.extra) // self.row_tokens), 0)
        within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)  # 0, 1, ... in each document
        start = np.repeat(begin, rows) + within * self.row_tokens
        self.stretches = np.stack([start, np.minimum(self.width, np.repeat(begin + size, rows) - start)], axis=1)
        self.rows_in_epoch = len(start)
        if not self.rows_in_epoch:
            raise UserError(f"the corpus has {len(self.token)} tokens; no document fills a row of 1 token")

    def table(self, epoch: int) -> np.ndarray:
        return self.stretches[generator(self.seed, epoch, "rows.document").permutation(self.rows_in_epoch)]

    def cut(self, chosen: np.ndarray) -> Rows:
        start, length = chosen[:, :1], chosen[:, 1:]
        real = self.column < length
        index = np.where(real, start + self.column, start)
        position = np.broadcast_to(self.column, real.shape)
        return self.filled(self.token.take(index), self.flags.take(index), real.astype(np.int64), position)
