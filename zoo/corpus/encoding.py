"""Text into a part of a tokenized corpus: bundles of it encoded by several threads at once, written in order.

Not more than a few bundles are in memory, whatever the size of the corpus or of a document.
"""

import hashlib
import json
import os
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.corpus.shards import FEW_DOCUMENTS, FORMAT, PART
from zoo.corpus.sources import Piece, Source
from zoo.corpus.starts import CONTEXT, SENTENCE_START, WORD_START
from zoo.corpus.tokenizer import Tokenizer, slices
from zoo.disk import flush
from zoo.errors import UserError

RULE = 3  # words, sentences, where long texts are cut: another number is another cache for the same text

SLICE = 1 << 12  # characters: such texts are encoded a tenth faster than those of 50 KB, which leave the caches
BUNDLE = 1 << 18  # characters that one thread encodes at a time: some 25 MB of its memory
BUNDLE_TEXTS = 1 << 13
MARK_WORDS = 64  # words between the places where a text without sentences may be cut
THREADS = 16  # more would wait for each other: lists of ids are made under the interpreter's lock
CHUNK = 1 << 20  # documents whose marks are looked up at a time


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
    source: Source, pieces: Iterator[Piece], tokenizer: Tokenizer, folder: Path, about: Mapping[str, Any]
) -> None:
    """Fills an empty folder with all that zoo/corpus/shards.py says of a part, part.json last, with `about` in it.

    pieces: of the source, as they come from it.

    Raises:
        UserError: there is not one word in the text.
    """
    dtype = "uint16" if tokenizer.size <= 1 << 16 else "uint32"
    hashes: array[int] = array("Q")
    unigram = np.zeros(tokenizer.size, np.int64)
    tokens = size = words = unknown = documents = sentences = opened = 0
    with ExitStack() as stack:
        names = ("token", "flags", "documents", "sentences", "mark_tokens", "mark_bytes")
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in names}
        files["documents"].write(np.int64(0).tobytes())
        for part in _in_order(tokenizer, dtype, _bundles(pieces, hashes), min(os.cpu_count() or 1, THREADS)):
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
            unigram += np.bincount(part.token, minlength=len(unigram))
            documents, sentences = documents + len(ends), sentences + len(starts)
            tokens, size = tokens + len(part.token), size + part.bytes
            words, unknown = words + part.words, unknown + part.unknown
        files["sentences"].write(np.int64(tokens).tobytes())
    if not (words and sentences):
        raise UserError(f"{source.name}: there is not one word in it")
    if documents >= FEW_DOCUMENTS:
        _keep_marks_of_documents(folder)
    unigram.tofile(folder / "unigram.bin")
    np.sort(np.frombuffer(hashes, np.uint64)).tofile(folder / "hashes.bin")
    counts = {"tokens": tokens, "bytes": size, "words": words, "documents": documents, "sentences": sentences}
    meta = {"format": FORMAT, "dtype": dtype, **about, **counts, "skipped": source.tally.skipped, "unknown": unknown}
    meta["files"] = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / PART).write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for file in (*folder.iterdir(), folder):
        flush(file)


def _keep_marks_of_documents(folder: Path) -> None:
    """Of all marks the first of each document: where there are many documents, a split is cut between them."""
    marks = {unit: folder / f"mark_{unit}.bin" for unit in ("tokens", "bytes")}
    all_marks = {unit: np.memmap(file, np.int64, mode="r") for unit, file in marks.items()}
    begin, tokens = np.memmap(folder / "documents.bin", np.int64, mode="r")[:-1], all_marks["tokens"]
    for unit, file in marks.items():
        kept = folder / "kept.bin"
        with kept.open("wb") as out:
            for done in range(0, len(begin), CHUNK):
                at = np.searchsorted(tokens, begin[done : done + CHUNK])
                out.write(all_marks[unit][np.minimum(at, len(tokens) - 1)].tobytes())
        kept.replace(file)
