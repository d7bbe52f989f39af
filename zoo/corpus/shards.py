"""A tokenized corpus on disk, read through memory maps, and its two splits.

A folder holds token.bin, flags.bin, documents.bin, sentences.bin, unigram.bin and meta.json (counts, and the size of
every file). zoo/corpus/encoding.py writes it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

META = "meta.json"
FORMAT = 2  # of the folder; another number is another cache


@dataclass(frozen=True)
class Tokens:
    """One split. N tokens, D documents, S sentences; V ids of the tokenizer.

    A document ends with the token `eod` where the tokenizer has one; its flags are 0.
    """

    token: np.ndarray  # [N] uint16 or uint32
    flags: np.ndarray  # [N] uint8, WORD_START and SENTENCE_START of zoo/corpus/starts.py
    documents: np.ndarray  # [D + 1] int64, the token each starts at, and N
    sentences: np.ndarray  # [S + 1] int64, the token each starts at, and N; a document starts one
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
    """What keeps a folder from being a whole cache, or None."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            return f"its format is {meta['format']}"
        for name, size in meta["files"].items():
            if (found := (folder / name).stat().st_size) != size:
                return f"{name} has {found:,} bytes instead of {size:,}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


class Store:
    """All tokens of a source. meta: what was counted when it was made; cut: where the last 10% begin, or None."""

    def __init__(self, folder: Path):
        self.meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        self.cut: tuple[int, int] | None = tuple(self.meta["cut"]) if self.meta["cut"] else None  # token, byte
        self._token = _mapped(folder / "token.bin", self.meta["dtype"])
        self._flags = _mapped(folder / "flags.bin", "uint8")
        self._documents = _mapped(folder / "documents.bin", "int64")
        self._sentences = _mapped(folder / "sentences.bin", "int64")
        self._unigram = np.fromfile(folder / "unigram.bin", np.int64).reshape(2, -1)  # before the cut, and after it

    def whole(self) -> Tokens:
        """All of it as one split."""
        size, unigram = self.meta["bytes"], self._unigram.sum(0)
        return Tokens(self._token, self._flags, self._documents, self._sentences, size, unigram)

    def split(self) -> tuple[Tokens, Tokens]:
        """The training and the validation split; `cut` must not be None."""
        assert self.cut is not None
        token, byte = self.cut
        documents, sentences = _cut(self._documents, token), _cut(self._sentences, token)
        parts = (slice(0, token), slice(token, None))
        sizes = (byte, self.meta["bytes"] - byte)
        train, valid = (
            Tokens(self._token[part], self._flags[part], documents[n], sentences[n], sizes[n], self._unigram[n])
            for n, part in enumerate(parts)
        )
        return train, valid


def _mapped(file: Path, dtype: str) -> np.ndarray:
    return np.asarray(np.memmap(file, dtype, mode="r"))


def _cut(offsets: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets that end at `at`, and those from there on, counted from there; what lies across it is in both."""
    first = int(np.searchsorted(offsets, at))
    if offsets[first] == at:
        return offsets[: first + 1], offsets[first:] - at
    return np.append(offsets[:first], at), np.append(0, offsets[first:] - at)
