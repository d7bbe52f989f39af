"""Parallel text: a corpus of pairs, a text and its translation, opened as one source for each side and one for both."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.corpus.documents import Columns, Fragment, Record, lines, short, sound, table_records
from zoo.corpus.files import KINDS, Tally, decoded, find, fingerprint, kind, missing, readable
from zoo.corpus.hub import open_hub, records
from zoo.corpus.remote import is_data_set, path_of
from zoo.corpus.sources import Source, frame_rows, listed
from zoo.corpus.trees import linearised, plain, read_trees, words
from zoo.errors import UserError
from zoo.sections import Data

if TYPE_CHECKING:
    from pandas import DataFrame

TEXTS = (".txt", ".mrg")
TABLES = tuple(suffix for suffix in KINDS if suffix not in TEXTS)
ALLOWED = (
    f"parallel text is SOURCE,TARGET (two plain text files, line by line), tables ({', '.join(TABLES)}) with a column"
    " for each side, or hf:NAME[:CONFIG]"
)


class Parallel(NamedTuple):
    """Pairs of texts. Each side of a pair is one document: document i of `source` and of `target` belong together."""

    source: Source
    target: Source
    both: Source  # source, target, source, target, ...: what a joint tokenizer is trained on

    @property
    def fingerprint(self) -> str:
        """The same for the same pairs."""
        return self.both.fingerprint


def open_parallel(corpus: "str | Path | DataFrame | Iterable[tuple[str, str]]", data: Data) -> Parallel:
    """Opens `corpus`: SOURCE,TARGET, tables, hf:NAME[:CONFIG], a pandas DataFrame, or (source, target) tuples.

    White space around a text is dropped; a pair of which a side is null or blank is skipped and counted as one.

    Raises:
        UserError: there is no such corpus, or it holds no pairs. While it is read: something in it is no text, two
            files differ in lines, or there is not one whole pair.
    """
    columns = {"source": data.source, "target": data.target}
    if is_data_set(corpus):
        commit, stream = open_hub(corpus, columns)
        identity = hashlib.blake2b("\0".join((corpus, commit, *columns.values())).encode()).hexdigest()
        return _sides(corpus, identity, None, lambda tally: records(corpus, columns, stream))
    if isinstance(corpus, str | Path):
        with readable(str(corpus)):
            return _from_trees(str(corpus)) if data.document == "tree" else _from_files(str(corpus), columns)
    return _from_memory(corpus, columns)


def _sides(name: str, identity: str, size: int | None, read: Callable[[Tally], Iterable[Record]]) -> Parallel:
    """The three sources of what `read` gives; all of them read both sides, as a pair is kept or skipped whole."""

    def source(title: str, *sides: int) -> Source:
        def documents(tally: Tally) -> Iterator[Fragment]:
            for pair in _whole(name, read(tally), tally):
                for side in sides:
                    yield pair[side], True

        key = hashlib.blake2b(f"{identity} {sides}".encode(), digest_size=16).hexdigest()
        return Source(title, key, size, documents)

    return Parallel(source(f"{name} (source)", 0), source(f"{name} (target)", 1), source(name, 0, 1))


def _whole(name: str, pairs: Iterable[Record], tally: Tally) -> Iterator[list[str]]:
    some = False
    for where, values in pairs:
        pair = [text.strip() for value in values if (text := sound(where, value)) is not None]
        if len(pair) == 2:
            some = True
            yield pair
        else:
            tally.skipped += 1
    if not some:
        raise UserError(f"{name}: there is not one whole pair in it ({tally.skipped} with a null or blank side)")


def _from_files(name: str, columns: Columns) -> Parallel:
    path = path_of(name)
    if "," in name and not path.exists():
        paths = _two(name)
        return _sides(name, *fingerprint(paths, "parallel"), lambda tally: _aligned(paths, tally))
    if name == "sotu" or (path.is_file() and kind(path) not in TABLES):
        raise UserError(f"{name}: has no two sides; {ALLOWED}")
    paths = find(name)
    for path in paths:
        if kind(path) not in TABLES:
            raise UserError(f"{path}: has no two sides; {ALLOWED}")

    def read(tally: Tally) -> Iterator[Record]:
        for path in paths:
            yield from table_records(path, columns, tally)

    return _sides(name, *fingerprint(paths, "parallel", *columns.values()), read)


def _from_trees(name: str) -> Parallel:
    """Sentences, and their trees as sequences of brackets (zoo/corpus/trees.py)."""
    if name == "sotu":
        raise UserError("sotu has no trees; --data FILE takes sentences in brackets, as treebanks have them")
    paths = find(name)

    def read(tally: Tally) -> Iterator[Record]:
        for path in paths:
            for number, tree in enumerate(map(plain, read_trees(path)), 1):
                yield f"{path}: tree {number}", (" ".join(words(tree)), linearised(tree))
            tally.bytes_read += path.stat().st_size

    return _sides(name, *fingerprint(paths, "tree"), read)


def _two(name: str) -> list[Path]:
    parts = [path_of(part.strip()) for part in name.split(",") if part.strip()]
    if len(parts) != 2:
        raise UserError(f"{name}: {len(parts)} file names and not 2; {ALLOWED}")
    for path in parts:
        if not path.exists():
            raise UserError(f"{path}: {missing(path)}")
        if not path.is_file():  # a pipe could not be read again
            raise UserError(f"{path}: not a file; {ALLOWED}")
        if kind(path) in TABLES:
            raise UserError(f"{path}: a table holds both sides and is given alone; {ALLOWED}")
    return parts


def _aligned(paths: list[Path], tally: Tally) -> Iterator[Record]:
    """Line n of the one file with line n of the other.

    Raises:
        UserError: at the end, that one file has more lines.
    """
    sides = [lines(decoded(path, tally)) for path in paths]
    for number, pair in enumerate(zip_longest(*sides), 1):
        if None in pair:
            longer = number + sum(1 for side in sides for _ in side)
            counts = (number - 1 if line is None else longer for line in pair)
            told = " and ".join(f"{path} has {count:,}" for path, count in zip(paths, counts, strict=True))
            raise UserError(f"two files of parallel text need as many lines: {told}")
        yield f"{paths[0]}:{number}", pair


def _from_memory(corpus: Any, columns: Columns) -> Parallel:
    name, rows = "DataFrame", frame_rows(corpus, columns)
    if rows is None:
        name, rows = "pairs", listed(corpus, "(source, target) tuples of str")
        for number, row in enumerate(rows):
            if not isinstance(row, tuple | list) or len(row) != 2:
                raise UserError(f"{name}: record {number}: {short(row)} is no (source, target) tuple")

    def read(tally: Tally) -> Iterator[Record]:
        return ((f"{name}: record {number}", tuple(row)) for number, row in enumerate(rows))

    identity = hashlib.blake2b()
    for pair in _whole(name, read(Tally()), Tally()):
        for text in pair:
            identity.update(hashlib.blake2b(text.encode()).digest())
    return _sides(name, identity.hexdigest(), None, read)
