"""Text into a folder of tokens: bundles of it encoded by several threads at once, written in order.

Not more than a few bundles are in memory, whatever the size of the corpus or of a document.
"""

import hashlib
import json
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.corpus.shards import FORMAT, META
from zoo.corpus.sources import Piece
from zoo.corpus.starts import CONTEXT, SENTENCE_START, WORD_START
from zoo.corpus.tokenizer import Tokenizer, slices
from zoo.disk import flush
from zoo.errors import UserError

RULE = 2  # words, sentences, where long texts are cut: another number is another cache for the same text

SLICE = 1 << 12  # characters: such texts are encoded a tenth faster than those of 50 KB, which leave the caches
BUNDLE = 1 << 18  # characters that one thread encodes at a time: some 25 MB of its memory
BUNDLE_TEXTS = 1 << 13
MARK_WORDS = 64  # words between the places where a text without sentences may be cut
FEW_DOCUMENTS = 20  # below this the validation split is cut inside a document
CHUNK = 1 << 22  # tokens that are counted at a time


class Bundle(NamedTuple):
    """Consecutive texts of about BUNDLE characters; `before` is what stands before them in the same document."""

    texts: list[str]
    opens: list[bool]  # a document starts with it
    ends: list[bool]  # a document ends with it
    before: str


def _bundles(pieces: Iterator[Piece], hashes: "array[int]") -> Iterator[Bundle]:
    """The texts in bundles; the 64-bit hash of each document is added to `hashes`."""
    bundle, length = Bundle([], [], [], ""), 0
    digest = hashlib.blake2b(digest_size=8)
    for piece, following in pairwise(chain(pieces, [Piece("", True)])):
        digest.update(piece.text.encode())
        if following.starts_document:
            hashes.append(int.from_bytes(digest.digest(), "little"))
            digest = hashlib.blake2b(digest_size=8)
        opens, parts = piece.starts_document, list(slices(piece.text, SLICE))
        for number, text in enumerate(parts, 1):
            bundle.texts.append(text)
            bundle.opens.append(opens)
            bundle.ends.append(following.starts_document and number == len(parts))
            opens, length = False, length + len(text)
            if length >= BUNDLE or len(bundle.texts) == BUNDLE_TEXTS:
                yield bundle
                before = "" if bundle.ends[-1] else "".join(bundle.texts[-2:])[-CONTEXT:]
                bundle, length = Bundle([], [], [], before), 0
    if bundle.texts:
        yield bundle


class Part(NamedTuple):
    """A bundle as tokens, with `eod` after each document."""

    token: np.ndarray  # [n] uint16 or uint32
    flags: np.ndarray  # [n] uint8
    ends: np.ndarray  # [documents that end here] int64, the token after each
    mark_tokens: np.ndarray  # [m] int64, places where a split may be cut: sentences, and a word now and then
    mark_bytes: np.ndarray  # [m] int64, the byte of the bundle where they lie
    bytes: int
    words: int
    unknown: int


def _encode(tokenizer: Tokenizer, dtype: str, bundle: Bundle) -> Part:
    ids, flags, begin, counts, words, size = tokenizer.encode_pieces(bundle.texts, bundle.opens, bundle.before)
    unknown = np.count_nonzero(ids == tokenizer.special["unk"]) if "unk" in tokenizer.special else 0
    word_starts = np.flatnonzero(flags & WORD_START)
    marks = np.union1d(np.flatnonzero(flags & SENTENCE_START), word_starts[::MARK_WORDS])
    mark_bytes, ends = begin[marks], np.cumsum(counts)[bundle.ends]
    if "eod" in tokenizer.special:
        marks += np.searchsorted(ends, marks, side="right")
        ids, flags = np.insert(ids, ends, tokenizer.special["eod"]), np.insert(flags, ends, 0)
        ends = ends + np.arange(1, len(ends) + 1)
    return Part(ids.astype(dtype), flags, ends, marks, mark_bytes, size, words, int(unknown))


def _in_order(tokenizer: Tokenizer, dtype: str, bundles: Iterator[Bundle], threads: int) -> Iterator[Part]:
    pool, running = ThreadPoolExecutor(threads), deque[Future[Part]]()
    try:
        for bundle in bundles:
            running.append(pool.submit(_encode, tokenizer, dtype, bundle))
            if len(running) > threads + 1:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def write(
    pieces: Iterator[Piece], name: str, tokenizer: Tokenizer, folder: Path, threads: int, skipped: Callable[[], int]
) -> None:
    """Fills an empty folder with all that zoo/corpus/shards.py reads, meta.json last.

    skipped: how many records were left out, once all have been read.

    Raises:
        UserError: there is not one word in the text.
    """
    dtype = "uint16" if tokenizer.size <= 1 << 16 else "uint32"
    hashes: array[int] = array("Q")
    tokens = size = words = unknown = documents = sentences = opened = 0
    with ExitStack() as stack:
        names = ("token", "flags", "documents", "sentences", "mark_tokens", "mark_bytes")
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in names}
        files["documents"].write(np.int64(0).tobytes())
        for part in _in_order(tokenizer, dtype, _bundles(pieces, hashes), threads):
            if tokens == opened and len(part.flags):
                part.flags[0] |= SENTENCE_START  # a document whose first texts gave no token
            ends = part.ends + tokens
            ends = ends[np.diff(ends, prepend=opened) > 0]  # one that has no token is none
            opened = ends[-1] if len(ends) else opened
            starts = np.flatnonzero(part.flags & SENTENCE_START) + tokens
            files["token"].write(part.token.tobytes())
            files["flags"].write(part.flags.tobytes())
            files["documents"].write(ends.tobytes())
            files["sentences"].write(starts.tobytes())
            files["mark_tokens"].write((part.mark_tokens + tokens).tobytes())
            files["mark_bytes"].write((part.mark_bytes + size).tobytes())
            documents, sentences = documents + len(ends), sentences + len(starts)
            tokens, size = tokens + len(part.token), size + part.bytes
            words, unknown = words + part.words, unknown + part.unknown
        files["sentences"].write(np.int64(tokens).tobytes())
    if not (words and sentences):
        raise UserError(f"{name}: there is not one word in it")
    cut = _cut(folder, documents, size)
    first = cut[0] if cut else tokens
    _count(folder, dtype, tokenizer.size, first, tokens - first)
    for file in ("mark_tokens", "mark_bytes"):
        (folder / f"{file}.bin").unlink()
    meta = {"format": FORMAT, "dtype": dtype, "cut": cut, "tokens": tokens, "bytes": size, "words": words}
    meta |= {"skipped": skipped(), "unknown": unknown, "documents": documents, "sentences": sentences}
    meta["duplicates"] = len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64)))
    meta["files"] = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for file in (*folder.iterdir(), folder):
        flush(file)


def _cut(folder: Path, documents: int, size: int) -> tuple[int, int] | None:
    """Token and byte where the last 10% begin: of the documents, or of the bytes where these are few."""
    tokens, places = (np.memmap(folder / f"mark_{unit}.bin", np.int64, mode="r") for unit in ("tokens", "bytes"))
    if documents >= FEW_DOCUMENTS:
        first = np.memmap(folder / "documents.bin", np.int64, mode="r")[documents * 9 // 10]
        mark = int(np.searchsorted(tokens, first))
    else:
        flags = np.memmap(folder / "flags.bin", np.uint8, mode="r")
        late = int(np.searchsorted(places, -(-size * 9 // 10)))
        sentence = np.flatnonzero(flags[tokens[late:]] & SENTENCE_START)
        # A text without sentences there (all in lower case, say) is cut at a word; a short one at the last there is.
        mark = late + int(sentence[0]) if len(sentence) else late
    mark = min(mark, len(tokens) - 1)
    return (int(tokens[mark]), int(places[mark])) if tokens[mark] else None


def _count(folder: Path, dtype: str, vocabulary: int, *splits: int) -> None:
    """Writes how often each id occurs in each of the splits; they are so many tokens long."""
    counts = np.zeros((len(splits), vocabulary), np.int64)
    with (folder / "token.bin").open("rb") as file:
        for split, tokens in enumerate(splits):
            for done in range(0, tokens, CHUNK):
                chunk = np.fromfile(file, dtype, min(CHUNK, tokens - done))
                counts[split] += np.bincount(chunk, minlength=vocabulary)
    counts.tofile(folder / "unigram.bin")
