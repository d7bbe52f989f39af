"""Parts of a tokenized corpus joined into one: what was counted is added up, and the cut between the splits is found.

The parts stay where they are and are not copied: what joining writes is corpus.json and unigram.bin.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.corpus.joined import Readable
from zoo.corpus.remote import write
from zoo.corpus.shards import CORPUS, FEW_DOCUMENTS, PART, OpenPart, joined
from zoo.corpus.starts import SENTENCE_START

COUNTS = ("tokens", "bytes", "words", "documents", "sentences", "skipped", "unknown")
CHUNK = 1 << 22  # tokens that are counted at a time
HASHES = 1 << 26  # documents that are compared at a time: 0.5 GB of their hashes


def join(
    folder: Path, metas: Mapping[str, dict[str, Any]], cache: Path | None = None, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Makes a corpus of the parts of a folder, in this order; returns its corpus.json, with `about` in it.

    metas: the part.json of each (read_part), by its folder's name.
    """
    parts = [OpenPart(folder / name, meta, cache) for name, meta in metas.items()]
    first = parts[0].meta
    counts: dict[str, Any] = {key: sum(part.meta[key] for part in parts) for key in COUNTS}
    flags = joined([part.flags() for part in parts], "uint8")
    cut = _cut(parts, flags, counts["documents"], counts["bytes"])
    after = np.zeros(1, np.int64) if cut is None else _count_from(parts, cut[0])
    unigram = sum(part.numbers("unigram") for part in parts)
    (folder / "unigram.bin").write_bytes(np.stack(np.broadcast_arrays(unigram - after, after)).tobytes())
    made = {"format": first["format"], "dtype": first["dtype"], "cut": cut, **counts, **(about or {})}
    made["duplicates"] = _duplicates([part.numbers("hashes") for part in parts])
    # Without the identities of all files of the text, which part.json has.
    made["parts"] = [
        {"name": name, **{key: value for key, value in meta.items() if key != "identities"}}
        for name, meta in metas.items()
    ]
    write(folder / CORPUS, json.dumps(made, indent=1))
    return made


def read_part(folder: Path) -> dict[str, Any]:
    """The part.json of a part."""
    return json.loads((folder / PART).read_text(encoding="utf-8"))


def _cut(parts: Sequence[OpenPart], flags: Readable, documents: int, size: int) -> tuple[int, int] | None:
    """Token and byte where the last 10% begin: of the documents, or of the bytes where these are few."""
    base = {unit: np.cumsum([0, *(part.meta[unit] for part in parts)]) for unit in ("tokens", "bytes", "documents")}

    def marks(unit: str, *of: int) -> np.ndarray:
        """Where the corpus may be cut, in some of the parts."""
        found = [parts[n].numbers(f"mark_{unit}") + base[unit][n] for n in of]
        return np.concatenate(found)

    if documents >= FEW_DOCUMENTS:
        first = documents * 9 // 10
        n = int(np.searchsorted(base["documents"], first, side="right")) - 1
        tokens, places = marks("tokens", n), marks("bytes", n)
        mark = first - int(base["documents"][n])
        if parts[n].meta["documents"] < FEW_DOCUMENTS:  # then it has more marks than one a document
            mark = int(np.searchsorted(tokens, parts[n].numbers("documents")[mark] + base["tokens"][n]))
    else:
        tokens, places = marks("tokens", *range(len(parts))), marks("bytes", *range(len(parts)))
        late = int(np.searchsorted(places, -(-size * 9 // 10)))
        sentence = np.flatnonzero(flags.take(tokens[late:]) & SENTENCE_START)
        # A text without sentences there (all in lower case, say) is cut at a word; a short one at the last there is.
        mark = late + int(sentence[0]) if len(sentence) else late
    mark = min(mark, len(tokens) - 1)
    return (int(tokens[mark]), int(places[mark])) if tokens[mark] else None


def _count_from(parts: Sequence[OpenPart], cut: int) -> np.ndarray:
    """How often each id occurs from a token on."""
    vocabulary = len(parts[0].numbers("unigram"))
    counts, begin = np.zeros(vocabulary, np.int64), 0
    for part in parts:
        size = part.meta["tokens"]
        if cut <= begin:
            counts += part.numbers("unigram")
        elif cut < begin + size:
            token = part.token()
            for done in range(cut - begin, size, CHUNK):
                chunk = token.take(np.arange(done, min(done + CHUNK, size)))
                counts += np.bincount(chunk, minlength=vocabulary)
        begin += size
    return counts


def _duplicates(hashes: Sequence[np.ndarray]) -> int:
    """How many documents are like one before them; hashes: 64 bits of each, in rising order in each part."""
    hashes = [part.view(np.uint64) for part in hashes]
    count, done, top = sum(map(len, hashes)), 0, 1 << 64
    ranges = -(-count // HASHES)
    for number in range(ranges):
        low, high = (np.uint64(top * edge // ranges - (edge > 0)) for edge in (number, number + 1))
        # From above `low` (from 0 in the first range) up to `high`.
        stretches = [
            part[np.searchsorted(part, low, "right" if number else "left") : np.searchsorted(part, high, "right")]
            for part in hashes
        ]
        done += len(np.unique(np.concatenate(stretches)))
    return count - done
