"""Documents inside files: the rules for plain text, and the records of tables."""

import csv
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zoo.corpus.files import Tally, blocks, decoded, kind
from zoo.errors import UserError, nearest
from zoo.schema import Data

Fragment = tuple[str, bool]  # text of any length, and whether a document starts with it

BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
WHITE_HELD = 1 << 20  # a longer run of white space is taken for text, so that it need not be held
CSV_FIELD = (1 << 31) - 1  # characters; the csv module would stop at 131,072


def fragments(path: Path, data: Data, tally: Tally) -> Iterator[Fragment]:
    """The documents of one file, in order.

    Raises:
        UserError: the file cannot be read as what its name says.
    """
    if kind(path) == ".txt":
        rule = {"file": _one, "blank_line": _between_blank_lines, "line": _lines_alone}[data.document]
        return rule(decoded(path, tally))
    table = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}[kind(path)]
    return from_records(table(path, data.text, tally), tally)


def from_records(records: Iterable[tuple[str, Any]], tally: Tally) -> Iterator[Fragment]:
    """(where, text) pairs as documents; a text that is None or blank is skipped and counted.

    Raises:
        UserError: a text that is no string, or that UTF-8 cannot hold (half of a surrogate pair).
    """
    for where, text in records:
        if text is None or text == "" or (isinstance(text, str) and text.isspace()):
            tally.skipped += 1
            continue
        if not isinstance(text, str):
            raise UserError(f"{where}: the text is a {type(text).__name__} ({_short(text)}), not a string")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = text[error.start]
                raise UserError(f"{where}: character {error.start} is {half!r}, half of a surrogate pair") from None
        yield text.replace("\r\n", "\n"), True


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _one(texts: Iterator[str]) -> Iterator[Fragment]:
    starts = True
    for text in texts:
        yield text, starts
        starts = False


def _lines_alone(texts: Iterator[str]) -> Iterator[Fragment]:
    starts = True
    for text in texts:
        for part in text.split("\n"):
            yield part, starts
            starts = True
        starts = False  # the last part goes on in the next block


def _between_blank_lines(texts: Iterator[str]) -> Iterator[Fragment]:
    # A newline stands before the file, so that blank lines at its head are like all others; the first part drops it.
    held, first, starts = "\n", True, True
    for text in texts:
        text = held + text
        end = len(text.rstrip())
        if len(text) - end > WHITE_HELD:
            end = len(text)
        held = text[end:]  # white space at the end may be the first half of what parts two documents
        if not end:
            continue
        for part in BLANK_LINES.split(text[:end]):
            yield part.removeprefix("\n") if first else part, starts
            first, starts = False, True
        starts = False
    yield held.partition("\n")[0], first


def _lines(texts: Iterator[str]) -> Iterator[str]:
    parts: list[str] = []
    for text in texts:
        head, *rest = text.split("\n")
        parts.append(head)
        if rest:
            yield "".join(parts)
            yield from rest[:-1]
            parts = rest[-1:]
    if last := "".join(parts):
        yield last


def _jsonl(path: Path, column: str, tally: Tally) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(decoded(path, tally)), 1):
        if not line or line.isspace():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: no JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: no JSON that can be read: {error}") from None
        if not isinstance(record, dict):
            raise UserError(f"{where}: {_short(record)} is no JSON object; a line looks like {{{column!r}: '...'}}")
        if column not in record:
            raise _no_column(where, column, record)
        yield where, record[column]


def _csv(path: Path, column: str, tally: Tally) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(CSV_FIELD)
    rows = csv.reader((line + "\n" for line in _lines(decoded(path, tally))), strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        if column not in header:
            raise _no_column(str(path), column, header)
        place = header.index(column)
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if row and len(row) != len(header):
                raise UserError(f"{where}: {len(row)} fields where the header has {len(header)}")
            if row:
                yield where, row[place]
    except csv.Error as error:
        raise UserError(f"{path}:{rows.line_num}: no sound CSV: {error}") from None


def _parquet(path: Path, column: str, tally: Tally) -> Iterator[tuple[str, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    before, size = tally.bytes_read, path.stat().st_size
    with tempfile.TemporaryFile() if path.suffix.lower() != ".parquet" else path.open("rb") as file:
        if path.suffix.lower() != ".parquet":
            for block in blocks(path, Tally()):
                file.write(block)
            file.seek(0)
        try:
            table = ParquetFile(file)
            if column not in table.schema_arrow.names:
                raise _no_column(str(path), column, table.schema_arrow.names)
            done = 0
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                for number, text in enumerate(batch.column(0).to_pylist(), done + 1):
                    yield f"{path}: record {number}", text
                done += len(batch)
                tally.bytes_read = before + size * done // table.metadata.num_rows
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            raise UserError(f"{path}: no sound Parquet: {' '.join(str(error).split())}") from None


def _no_column(where: str, column: str, columns: Iterable[str]) -> UserError:
    return UserError(f"{where}: no column {column!r}{nearest(column, map(str, columns))} (data.text names it)")
