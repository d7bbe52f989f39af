"""A tokenized corpus on disk or behind an address, read through memory maps, and its two splits.

A corpus is a folder with corpus.json (counts, the cut between the splits, what its parts are), unigram.bin and a folder
for each part. A part holds token.bin, flags.bin, documents.bin, sentences.bin; what joining it with others takes
(unigram.bin, hashes.bin, mark_tokens.bin, mark_bytes.bin); and part.json (counts, and the size of every file).
zoo/corpus/encoding.py writes a part, zoo/corpus/merge.py joins parts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.corpus.joined import Fetched, Joined, Late, Readable
from zoo.corpus.remote import is_address, sizes

CORPUS, PART = "corpus.json", "part.json"
FORMAT = 4  # of the folders; another number is another cache
FEW_DOCUMENTS = 20  # below this the validation split is cut inside a document
NUMBERS_BLOCK = 1 << 24  # bytes that are fetched at once of what is read as a whole


@dataclass(frozen=True)
class Tokens:
    """One split. N tokens, D documents, S sentences; V ids of the tokenizer.

    A document ends with the token `eod` where the tokenizer has one; its flags are 0.
    """

    token: Readable  # [N] uint16 or uint32
    flags: Readable  # [N] uint8, WORD_START, SENTENCE_START and SPACED_START of zoo/corpus/starts.py
    documents: np.ndarray  # [D + 1] int64, the token each starts at, and N
    sentences: np.ndarray | Late  # [S + 1] int64, the token each starts at, and N; a document starts one
    bytes: int  # of its text, as UTF-8
    unigram: np.ndarray  # [V] int64, how often each id occurs
    source: "Tokens | None" = None  # of parallel text: what these documents translate, document by document
    chosen: np.ndarray | None = None  # [n] int64, which of the documents are this split; None = all

    @property
    def unigram_entropy(self) -> float:
        """Nats a token: the loss of a model that knows nothing but how frequent each id is in this split."""
        share = self.unigram[self.unigram > 0] / self.unigram.sum()
        return float(-(share * np.log(share)).sum())


def damage(folder: Path) -> str | None:
    """What keeps a folder from being a whole corpus, or None."""
    try:
        meta = json.loads((folder / CORPUS).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            return f"its format is {meta['format']}"
        found = sizes(folder)
        for part in meta["parts"]:
            for name, size in part["files"].items():
                file = f"{part['name']}/{name}"
                if file not in found:
                    return f"{file} is missing"
                if found[file] != size:
                    return f"{file} has {found[file]:,} bytes instead of {size:,}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


class Store:
    """All tokens of a source. meta: what was counted when it was made; cut: where the last 10% begin, or None.

    cache: where what is fetched of remote parts is kept.
    """

    def __init__(self, folder: Path, cache: Path | None = None):
        self.meta: dict[str, Any] = json.loads((folder / CORPUS).read_text(encoding="utf-8"))
        self.cut: tuple[int, int] | None = tuple(self.meta["cut"]) if self.meta["cut"] else None  # token, byte
        parts = [OpenPart(folder / part["name"], part, cache) for part in self.meta["parts"]]
        self._token = joined([part.token() for part in parts], parts[0].meta["dtype"])
        self._flags = joined([part.flags() for part in parts], "uint8")
        self._documents = offsets([part.numbers("documents") for part in parts])
        self._sentences: np.ndarray | Late
        if len(parts) == 1 and not is_address(folder):
            self._sentences = parts[0].numbers("sentences")
        else:  # 80 GB of a terabyte of text, and most rows do not ask
            self._sentences = Late(lambda: offsets([part.numbers("sentences") for part in parts]))
        unigram = np.frombuffer((folder / "unigram.bin").read_bytes(), np.int64)
        self._unigram = unigram.reshape(2, -1)  # before the cut, and after it

    def whole(self) -> Tokens:
        """All of it as one split."""
        size, unigram = self.meta["bytes"], self._unigram.sum(0)
        return Tokens(self._token, self._flags, self._documents, self._sentences, size, unigram)

    def split(self) -> tuple[Tokens, Tokens]:
        """The training and the validation split; `cut` must not be None."""
        assert self.cut is not None
        token, byte = self.cut
        documents, sentences = _cut(self._documents, token), _cut_late(self._sentences, token)
        parts = (slice(0, token), slice(token, None))
        sizes = (byte, self.meta["bytes"] - byte)
        train, valid = (
            Tokens(self._token[part], self._flags[part], documents[n], sentences[n], sizes[n], self._unigram[n])
            for n, part in enumerate(parts)
        )
        return train, valid


class OpenPart:
    """The files of one part. meta: its part.json."""

    def __init__(self, folder: Path, meta: dict[str, Any], cache: Path | None = None):
        self.folder, self.meta, self.cache = folder, meta, cache

    def token(self) -> "np.ndarray | Fetched":
        return self._opened("token", self.meta["dtype"], self.meta["tokens"])

    def flags(self) -> "np.ndarray | Fetched":
        return self._opened("flags", "uint8", self.meta["tokens"])

    def numbers(self, name: str) -> np.ndarray:
        """A file of int64, all of it."""
        length = self.meta["files"][f"{name}.bin"] // 8
        found = self._opened(name, "int64", length, NUMBERS_BLOCK)
        return found if isinstance(found, np.ndarray) else found.take(np.arange(length))

    def _opened(self, name: str, dtype: str, length: int, *block: int) -> "np.ndarray | Fetched":
        file = self.folder / f"{name}.bin"
        if not is_address(file):
            return np.asarray(np.memmap(file, dtype, mode="r"))
        assert self.cache is not None
        return Fetched(file, dtype, length, self.meta["key"], self.cache, *block)


def joined(parts: "Sequence[np.ndarray | Fetched]", dtype: str) -> Readable:
    """Parts end to end."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], np.ndarray) else Joined(parts, dtype)


def offsets(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Offsets into parts, which end with their lengths, as offsets into the parts end to end."""
    if len(parts) == 1:
        return parts[0]
    base = np.cumsum([0, *(part[-1] for part in parts)])
    return np.concatenate([*(part[:-1] + base[n] for n, part in enumerate(parts)), base[-1:]])


def _cut(offsets: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets that end at `at`, and those from there on, counted from there; what lies across it is in both."""
    first = int(np.searchsorted(offsets, at))
    if offsets[first] == at:
        return offsets[: first + 1], offsets[first:] - at
    return np.append(offsets[:first], at), np.append(0, offsets[first:] - at)


def _cut_late(offsets: np.ndarray | Late, at: int) -> Sequence[np.ndarray | Late]:
    if isinstance(offsets, np.ndarray):
        return _cut(offsets, at)
    return [Late(lambda half=half: _cut(np.asarray(offsets), at)[half]) for half in (0, 1)]
