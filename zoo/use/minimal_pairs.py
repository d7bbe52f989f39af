"""Minimal pairs: of two sentences that differ in one thing, does a model find the good one likelier?

The files are those of BLiMP (Warstadt et al. 2020): JSON lines with `sentence_good` and `sentence_bad`, and where it is
known `UID`, the paradigm, and `linguistics_term`, the phenomenon it is of.
"""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.corpus.documents import json_lines, short
from zoo.corpus.files import Tally, decoded, find, kind, readable
from zoo.corpus.hub import configurations, open_hub, records
from zoo.corpus.remote import is_data_set, path_of
from zoo.errors import UserError, nearest

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

GOOD, BAD, PARADIGM, PHENOMENON = "sentence_good", "sentence_bad", "UID", "linguistics_term"
Z = 1.959964  # of the normal distribution, for an interval that holds the truth in 95 of 100 cases


class Pair(NamedTuple):
    """Two sentences, of which a model should find the first likelier."""

    good: str
    bad: str
    paradigm: str
    phenomenon: str


class Accuracy(NamedTuple):
    """Of how many pairs a model found the good sentence likelier; of `pairs`, so many were `right`."""

    name: str
    right: int
    pairs: int

    @property
    def share(self) -> float:
        return self.right / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """In which the share lies in 95 of 100 samples of pairs (Wilson 1927)."""
        n, p = self.pairs, self.share
        middle, width = p + Z * Z / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return float((middle - width) / (1 + Z * Z / n)), float((middle + width) / (1 + Z * Z / n))


class Phenomenon(NamedTuple):
    """What a model found of it, and of each paradigm that is of it."""

    whole: Accuracy
    paradigms: list[Accuracy]


class Judged(NamedTuple):
    """What a model found, in the order of the suite."""

    overall: Accuracy
    phenomena: list[Phenomenon]


def read_pairs(place: str) -> list[Pair]:
    """The pairs of a folder, a .zip, a .jsonl or hf:NAME[:CONFIG]; without a UID a pair's paradigm is its file's name.

    Raises:
        UserError: there are none, or a line is no pair.
    """
    with readable(place):
        pairs = [_pair(where, stem, record) for where, stem, record in _records(place)]
    if not pairs:
        raise UserError(f"{place}: there is no pair in it")
    return pairs


def _records(place: str) -> Iterator[tuple[str, str, Any]]:
    """Where each stands, the name of its file, and what JSON makes of it."""
    if is_data_set(place):
        columns = {key: key for key in (GOOD, BAD, PARADIGM, PHENOMENON)}
        for each in configurations(place):
            for where, values in records(each, columns, open_hub(each, columns)[1]):
                yield where, each.rpartition(":")[2], dict(zip(columns, values, strict=True))
        return
    path = path_of(place)
    if path.suffix.lower() == ".zip" and path.is_file():
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{place}: not a sound zip file")
            with zipfile.ZipFile(file) as packed:
                for name in sorted(packed.namelist()):
                    inside = Path(name)
                    if inside.suffix == ".jsonl" and not inside.name.startswith("."):  # macOS packs hidden ones beside
                        try:
                            text = packed.read(name).decode("utf-8")
                        except (UnicodeDecodeError, zipfile.BadZipFile) as error:
                            raise UserError(f"{place}: {name} cannot be read ({error})") from None
                        for where, record in json_lines(f"{place}: {name}", iter([text])):
                            yield where, inside.stem, record
        return
    for file in find(place):
        if kind(file) == ".jsonl":
            for where, record in json_lines(str(file), decoded(file, Tally())):
                yield where, file.name.partition(".")[0], record


def _pair(where: str, stem: str, record: Any) -> Pair:
    if not isinstance(record, dict):
        raise UserError(f"{where}: {short(record)} is no JSON object with {GOOD} and {BAD}")
    for key in (GOOD, BAD):
        if key not in record:
            raise UserError(f"{where}: it has no {key!r}{nearest(key, map(str, record))}")
        if not isinstance(record[key], str) or not record[key].strip():
            raise UserError(f"{where}: {key} is {short(record[key])}, not a sentence")
    paradigm = str(record.get(PARADIGM, stem))
    return Pair(record[GOOD], record[BAD], paradigm, str(record.get(PHENOMENON, paradigm)))


def judge(model: "Loaded", pairs: Sequence[Pair], *, within_word: bool = False) -> Judged:
    """Which of the pairs a model gets right. within_word: as of zoo.use.score.

    Equal scores are wrong: 7 of BLiMP's 67,000 pairs are a sentence twice, which nobody gets right.
    """
    texts = sorted({text for pair in pairs for text in (pair.good, pair.bad)})
    nats = dict(zip(texts, model.score(texts, within_word=within_word).tolist(), strict=True))
    right: dict[str, dict[str, list[bool]]] = {}
    for pair in pairs:
        of = right.setdefault(pair.phenomenon, {}).setdefault(pair.paradigm, [])
        of.append(nats[pair.good] > nats[pair.bad])

    def counted(name: str, found: Iterable[list[bool]]) -> Accuracy:
        every = [one for each in found for one in each]
        return Accuracy(name, sum(every), len(every))

    phenomena = [
        Phenomenon(counted(name, of.values()), [counted(each, [found]) for each, found in of.items()])
        for name, of in right.items()
    ]
    return Judged(counted("overall", (found for of in right.values() for found in of.values())), phenomena)
