"""Documents inside files: the rules for plain text, and the records of tables."""

import csv
import json
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.corpus.files import Tally, blocks, decoded, kind
from zoo.errors import UserError, nearest
from zoo.sections import Data

Fragment = tuple[str, bool]  # text of any length, and whether a document starts with it
Columns = dict[str, str]  # the keys of `data` that name columns, and the columns
Record = tuple[str, tuple[Any, ...]]  # where it stands, and its value in each of the columns

BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
WHITE_HELD = 1 << 20  # a longer run of white space is taken for text, so that it need not be held
NESTED = "translation"  # the column in which the sets of WMT hold a pair: a dict of languages
CSV_FIELD = (1 << 31) - 1  # characters; the csv module would stop at 131,072


def fragments(path: Path, data: Data, tally: Tally) -> Iterator[Fragment]:
    """The documents of one file, in order.

    Raises:
        UserError: the file cannot be read as what its name says.
    """
    if kind(path) in (".txt", ".mrg"):
        rule = {"file": _one, "blank_line": _between_blank_lines, "line": _lines_alone}[data.document]
        return rule(decoded(path, tally))
    return from_records(table_records(path, {"text": data.text}, tally), tally)


def from_records(records: Iterable[Record], tally: Tally) -> Iterator[Fragment]:
    """Records of one text each as documents; a text that is None or blank is skipped and counted.

    Raises:
        UserError: see `sound`.
    """
    for where, (value,) in records:
        if (text := sound(where, value)) is None:
            tally.skipped += 1
        else:
            yield text, True


def sound(where: str, text: Any) -> str | None:
    """The text with line ends as a newline; None where it is None or blank.

    Raises:
        UserError: a text that is no string, or that UTF-8 cannot hold (half of a surrogate pair).
    """
    if text is None or text == "" or (isinstance(text, str) and text.isspace()):
        return None
    if not isinstance(text, str):
        raise UserError(f"{where}: the text is a {type(text).__name__} ({short(text)}), not a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            raise UserError(f"{where}: character {error.start} is {half!r}, half of a surrogate pair") from None
    return text.replace("\r\n", "\n")


def short(value: object) -> str:
    """A value as a message shows it."""
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


def lines(texts: Iterator[str]) -> Iterator[str]:
    """Text in blocks as lines without their ends; a line end at the very end opens no further line."""
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


def table_records(path: Path, columns: Columns, tally: Tally) -> Iterator[Record]:
    """The records of one table.

    Raises:
        UserError: the file cannot be read as what its name says, or has no such column.
    """
    table = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _tsv, ".parquet": _parquet}[kind(path)]
    return table(path, columns, tally)


def column_names(path: Path) -> list[str]:
    """The columns of one table, of JSON lines those of the first; none where it is empty.

    Raises:
        UserError: the file cannot be read as what its name says.
    """
    if kind(path) == ".parquet":
        with _open_parquet(path) as table:
            return table.schema_arrow.names
    if kind(path) == ".jsonl":
        _, record = next(json_lines(str(path), decoded(path, Tally())), ("", {}))
        return list(record) if isinstance(record, dict) else []
    header = next(lines(decoded(path, Tally())), "")
    return header.split("\t") if kind(path) == ".tsv" else next(csv.reader([header]), [])


def columns_to_read(where: str, columns: Columns, names: Collection[str]) -> list[str]:
    """Which columns of a table hold `columns`; all of them where they may be languages inside NESTED.

    Raises:
        UserError: a column is missing.
    """
    for key, column in columns.items():
        if column not in names:
            if NESTED not in names:
                raise no_column(where, key, column, names)
            return list(names)
    return list(columns.values())


def chosen(where: str, record: dict[str, Any], columns: Columns) -> Record:
    """A record's values in the columns; where it lacks one and has a dict of languages, in that dict.

    Raises:
        UserError: a column is missing.
    """
    if isinstance(record.get(NESTED), dict) and any(column not in record for column in columns.values()):
        record = record[NESTED]
    for key, column in columns.items():
        if column not in record:
            raise no_column(where, key, column, record)
    return where, tuple(record[column] for column in columns.values())


def json_lines(name: str, texts: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Where each line stands that is not blank, and what JSON makes of it.

    Raises:
        UserError: a line that is no JSON.
    """
    for number, line in enumerate(lines(texts), 1):
        if not line or line.isspace():
            continue
        where = f"{name}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: no JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: no JSON that can be read: {error}") from None
        yield where, record


def _jsonl(path: Path, columns: Columns, tally: Tally) -> Iterator[Record]:
    for where, record in json_lines(str(path), decoded(path, tally)):
        if not isinstance(record, dict):
            looks = ", ".join(f"{column!r}: '...'" for column in columns.values())
            raise UserError(f"{where}: {short(record)} is no JSON object; a line looks like {{{looks}}}")
        yield chosen(where, record, columns)


def _csv(path: Path, columns: Columns, tally: Tally) -> Iterator[Record]:
    csv.field_size_limit(CSV_FIELD)
    rows = csv.reader((line + "\n" for line in lines(decoded(path, tally))), strict=True)
    try:
        yield from _rows(path, columns, ((rows.line_num, row) for row in rows))
    except csv.Error as error:
        raise UserError(f"{path}:{rows.line_num}: no sound CSV: {error}") from None


def _tsv(path: Path, columns: Columns, tally: Tally) -> Iterator[Record]:
    """A field ends at a tab, a row at a line end, and a quote is a character like all others."""
    numbered = enumerate(lines(decoded(path, tally)), 1)
    return _rows(path, columns, ((number, line.split("\t") if line else []) for number, line in numbered))


def _rows(path: Path, columns: Columns, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Record]:
    """The records of (line, fields) rows, of which the first is the header; a row without fields is an empty line."""
    _, header = next(rows, (0, None))
    if header is None:
        return
    for key, column in columns.items():
        if column not in header:
            raise no_column(str(path), key, column, header)
    places = [header.index(column) for column in columns.values()]
    for number, row in rows:
        if row and len(row) != len(header):
            raise UserError(f"{path}:{number}: {len(row)} fields where the header has {len(header)}")
        if row:
            yield f"{path}:{number}", tuple(row[place] for place in places)


def _parquet(path: Path, columns: Columns, tally: Tally) -> Iterator[Record]:
    before, size = tally.bytes_read, path.stat().st_size
    with _open_parquet(path) as table:
        wanted, done = columns_to_read(str(path), columns, table.schema_arrow.names), 0
        for batch in table.iter_batches(batch_size=1024, columns=wanted):
            for number, record in enumerate(batch.to_pylist(), done + 1):
                yield chosen(f"{path}: record {number}", record, columns)
            done += len(batch)
            tally.bytes_read = before + size * done // table.metadata.num_rows


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    packed = path.suffix.lower() != ".parquet"
    with tempfile.TemporaryFile() if packed else path.open("rb") as file:
        if packed:
            for block in blocks(path, Tally()):
                file.write(block)
            file.seek(0)
        try:
            yield ParquetFile(file)
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            raise UserError(f"{path}: no sound Parquet: {' '.join(str(error).split())}") from None


def no_column(where: str, key: str, column: str, names: Iterable[Any]) -> UserError:
    """That `names` lack the column which `data.key` names, or the option `key`."""
    named = key if key.startswith("--") else f"data.{key}"
    return UserError(f"{where}: no column {column!r}{nearest(column, map(str, names))} ({named} names it)")
