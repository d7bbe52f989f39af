"""Files of a corpus: which ones, what identifies their content, and their bytes as text."""

import codecs
import difflib
import glob
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zoo.corpus.remote import below, is_address, mark, path_of, reachable
from zoo.errors import UserError, nearest
from zoo.progress import progress

KINDS = (".txt", ".mrg", ".jsonl", ".csv", ".tsv", ".parquet")  # .mrg: trees in brackets, which are plain text
PACKED = (".gz", ".zst")
BLOCK = 1 << 20  # bytes of a file that are read at once
ZST_BLOCK = 2048  # compressed bytes at once: 4 of them can stand for 128 KB, so that a block unpacks to 64 MB at most
HASH_SHOWN = 200_000_000  # bytes from which hashing shows its progress


@dataclass
class Tally:
    """What one pass over a source has met so far."""

    bytes_read: int = 0  # of the raw files, compressed as they are
    skipped: int = 0  # records of tables whose text is null or blank; of parallel text, pairs with such a side


@contextmanager
def readable(name: str) -> Iterator[None]:
    """What the system does not let us read in here becomes a UserError; `name` stands where it names no file."""
    if is_address(name):
        with reachable(name):
            yield
        return
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or name}: cannot be read ({error.strerror or error})") from None


def kind(path: Path) -> str:
    """The suffix that says how a file is read, compression aside: one of KINDS, or "" for a file that is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def find(place: str) -> list[Path]:
    """The files that `place` (a file, a folder with all below it, or a glob) stands for, in a fixed order.

    It may be behind an address: s3://bucket/books, hf://datasets/ORG/NAME/*.parquet.

    Raises:
        UserError: nothing is there, or nothing of a known kind.
        OSError: a folder cannot be listed.
    """
    if not place.strip():
        raise UserError("the corpus is an empty name; allowed: sotu, a file, a folder, a glob, hf:NAME[:CONFIG]")
    path = path_of(place)
    known = f"known are {', '.join(KINDS)}, each plain, {' or '.join(PACKED)}"
    if is_address(place):
        found = below(place, pattern=glob.has_magic(place))
        if not found:
            raise UserError(f"{place}: nothing is there")
    elif path.is_dir():
        found = _below(path)
    elif path.exists():
        if not kind(path):
            raise UserError(f"{place}: unknown suffix {''.join(path.suffixes[-2:])!r}; {known}")
        found = [path]
    elif glob.has_magic(place):
        found = [match for match in map(Path, glob.glob(str(path), recursive=True)) if match.is_file()]
        if not found:
            raise UserError(f"{place}: this glob matches no file")
    else:
        raise UserError(f"{place}: {missing(path)}")
    files = sorted((match for match in found if kind(match)), key=str if is_address(place) else None)
    if not files:
        raise UserError(f"{place}: no file of a known kind among {len(found)}; {known}")
    if is_address(place):  # which holds files alone
        return files
    for path in files:
        if not path.is_file():  # a pipe would be read once and hang
            raise UserError(f"{path}: {'neither a file nor a folder' if path.exists() else 'a link to nothing'}")
    return files


def _below(top: Path) -> list[Path]:
    def stop(error: OSError) -> None:  # os.walk would pass over a folder that it may not read
        raise error

    found = []
    for folder, folders, names in os.walk(top, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return found


def missing(path: Path) -> str:
    """The end of a message about a path where nothing is: the nearest names."""
    if not path.parent.is_dir():
        return f"there is no folder {str(path.parent)!r}"
    there = ["sotu", *(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))]
    close = difflib.get_close_matches(path.name, there)
    hint = nearest(path.name, close) if close else "; a data set of the Hugging Face Hub is written hf:NAME[:CONFIG]"
    return f"there is no such file or folder{hint}"


def fingerprint(files: list[Path], *rules: str) -> tuple[str, int]:
    """A hash of the files' kinds, bytes and order and of `rules`, as hex, and the bytes in all.

    Names, folders and times do not enter: the same text gives the same fingerprint wherever it lies on this machine.
    """
    total = sum(path.stat().st_size for path in files)
    return fingerprint_of(identities(files, total), *rules), total


def fingerprint_of(identities: Iterable[bytes], *rules: str) -> str:
    """The fingerprint of files with these identities."""
    whole = hashlib.blake2b("\0".join(rules).encode(), digest_size=16)
    for identity in identities:
        whole.update(identity)
    return whole.hexdigest()


def identities(files: list[Path], total: int) -> Iterator[bytes]:
    """Of every file its kind and a hash of its bytes; of a remote one, of what its store says instead of them."""
    unseen = nullcontext(lambda n: None)
    with progress("checking the corpus", total, "B") if total > HASH_SHOWN else unseen as advance:
        for path in files:
            one = hashlib.blake2b()
            said = mark(path) if is_address(path) else None
            if said is not None:
                one.update(f"{path.stat().st_size} {said}".encode())
            else:
                with path.open("rb") as file:
                    for block in _plain(file):
                        one.update(block)
                        advance(len(block))
            yield "".join(path.suffixes[-2:]).encode() + one.digest()


def blocks(path: Path, tally: Tally) -> Iterator[bytes]:
    """The unpacked bytes of a file, some megabytes at a time.

    Raises:
        UserError: compressed data that is cut off or damaged.
    """
    packing = path.suffix.lower()
    done = 0
    with path.open("rb") as file:
        try:
            for block in {".gz": _gzip, ".zst": _zst}.get(packing, _plain)(file):
                tally.bytes_read += file.tell() - done  # a sum, as two files may be read by turns
                done = file.tell()
                yield block
        except EOFError:
            raise UserError(f"{path}: this {packing} file is cut off; compress or fetch it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}: not a sound {packing} file ({error})") from None


def _plain(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        yield from _plain(unpacked)


def _zst(file: BinaryIO) -> Iterator[bytes]:
    """Frame by frame by hand: zstandard's own stream reader takes a file that is cut off for a whole one."""
    from zstandard import ZstdDecompressor, ZstdError

    frame = None
    while packed := file.read(ZST_BLOCK):
        while packed:
            frame = frame or ZstdDecompressor(max_window_size=2**31).decompressobj()
            try:
                unpacked = frame.decompress(packed)
            except ZstdError as error:
                raise zlib.error(str(error)) from None
            if unpacked:
                yield unpacked
            packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError


def decoded(path: Path, tally: Tally) -> Iterator[str]:
    """The text of a file in blocks: UTF-8, without its byte-order mark, line ends as a newline.

    Raises:
        UserError: a byte that is not UTF-8, or a NUL byte, with its offset in the unpacked file.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, held, begun = 0, "", False
    for block in blocks(path, tally):
        nul = block.find(0)
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block if nul < 0 else block[:nul])
        except UnicodeDecodeError as error:
            at = error.start - waiting
            raise UserError(f"{path}: byte {offset + at} is not UTF-8{_looks(block, max(at, 0))}") from None
        if nul >= 0:
            raise UserError(f"{path}: NUL at byte {offset + nul}{_looks(block, nul)}")
        offset += len(block)
        if text and not begun:
            text, begun = text.removeprefix("\ufeff"), True
        text = held + text
        held = "\r" if text.endswith("\r") else ""  # the other half of this line end may open the next block
        text = text[: len(text) - len(held)]
        yield text.replace("\r\n", "\n") if "\r" in text else text
    if waiting := len(decoder.getstate()[0]):
        raise UserError(
            f"{path}: ends at byte {offset} inside a character of which it has {waiting} bytes; is it cut off?"
        )
    if held:
        yield held


def _looks(block: bytes, at: int) -> str:
    """A guess, for the end of a message, at what a file that is not UTF-8 is."""
    for start, what in (
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
        (b"\x1f\x8b", "gzip: name it .gz"),
        (b"\x28\xb5\x2f\xfd", "Zstandard: name it .zst"),
        (b"PAR1", "Parquet: name it .parquet"),
    ):
        if at < 8 and block.startswith(start):
            return f"; it looks like {what}"
    around = block[max(at - 200, 0) : at + 200]
    if around[0::2].count(0) * 5 > len(around) * 2 or around[1::2].count(0) * 5 > len(around) * 2:
        return "; it looks like UTF-16: convert it with iconv -f UTF-16 -t UTF-8"
    if any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in around):
        return "; it looks binary"
    return "; it looks like Latin-1 or Windows-1252: convert it with iconv -f WINDOWS-1252 -t UTF-8"
