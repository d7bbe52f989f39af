"""How well labels were found, with intervals that hold the truth in 95 of 100 samples.

Shapes: N examples, C labels, S samples, K pairs of a label and a guess that occur.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.use.minimal_pairs import Accuracy

SAMPLES = 1000  # of the bootstrap
ENDS = (2.5, 97.5)  # percentiles

Span = tuple[int, int, str]


class Measure(NamedTuple):
    """A number between 0 and 1 (mcc: -1 and 1), and its interval."""

    value: float
    low: float
    high: float


def share(right: int, of: int) -> Measure:
    """How many were right, with Wilson's interval."""
    found = Accuracy("", right, of)
    return Measure(found.share, *found.interval)


def of_labels(gold_N: np.ndarray, guess_N: np.ndarray, count: int) -> dict[str, Measure]:
    """accuracy (Wilson's interval), macro_f1, mcc, and of two labels f1, that of the second; the rest by bootstrap.

    gold, guess: the numbers of labels, below `count`. macro_f1 is the mean over the labels that occur in either; mcc is
    Matthews' coefficient, of several labels as Gorodkin 2004 has it, and 0 where one label alone occurs in either.
    """
    size = len(gold_N)
    cell_K, often_K = np.unique(gold_N * count + guess_N, return_counts=True)
    samples = np.random.default_rng(0).multinomial(size, often_K / size, SAMPLES)
    often_SK = np.concatenate([often_K[None], samples])  # the first is what was found
    one = np.eye(count)
    gold_SC, guess_SC = often_SK @ one[cell_K // count], often_SK @ one[cell_K % count]
    right_SC = often_SK @ (one[cell_K // count] * one[cell_K % count])

    right_S = right_SC.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1_SC = 2 * right_SC / (gold_SC + guess_SC)
        apart_S = (size**2 - (gold_SC**2).sum(axis=1)) * (size**2 - (guess_SC**2).sum(axis=1))
        mcc_S = (right_S * size - (gold_SC * guess_SC).sum(axis=1)) / np.sqrt(apart_S)
    macro_S = np.nansum(f1_SC, axis=1) / np.isfinite(f1_SC).sum(axis=1)
    found = {"accuracy": share(int(right_S[0]), size)}
    if count == 2:
        found["f1"] = _measure(np.nan_to_num(f1_SC[:, 1]))
    return found | {"macro_f1": _measure(macro_S), "mcc": _measure(np.nan_to_num(mcc_S))}


def of_tags(gold: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]) -> dict[str, Measure]:
    """accuracy of tags, and f1, precision and recall of the entities that they mark; by bootstrap of sentences."""
    counts: dict[str, list[int]] = {"right": [], "words": []}
    entities = marks_entities({tag for tags in gold for tag in tags})
    if entities:
        counts |= {"hits": [], "gold": [], "guess": []}
    for wanted, found in zip(gold, guess, strict=True):
        counts["right"].append(sum(a == b for a, b in zip(wanted, found, strict=True)))
        counts["words"].append(len(wanted))
        if entities:
            there, seen = spans(wanted), spans(found)
            counts["hits"].append(len(there & seen))
            counts["gold"].append(len(there))
            counts["guess"].append(len(seen))
    draw, size, found_NK = np.random.default_rng(0), len(gold), np.array(list(counts.values())).T
    samples = [draw.multinomial(size, np.full(size, 1 / size)) @ found_NK for _ in range(SAMPLES)]
    sums = dict(zip(counts, np.array([found_NK.sum(axis=0), *samples]).T, strict=True))

    def ratio(of: np.ndarray, by: np.ndarray) -> Measure:
        return _measure(of / np.maximum(by, 1))

    measured = {"accuracy": ratio(sums["right"], sums["words"])}
    if entities:
        measured["f1"] = ratio(2 * sums["hits"], sums["gold"] + sums["guess"])
        measured["precision"] = ratio(sums["hits"], sums["guess"])
        measured["recall"] = ratio(sums["hits"], sums["gold"])
    return measured


def _measure(found_S: np.ndarray) -> Measure:
    low, high = np.percentile(found_S[1:], ENDS)
    return Measure(float(found_S[0]), float(low), float(high))


def marks_entities(tags: set[str]) -> bool:
    """Whether tags are O, B-KIND and I-KIND."""
    return "O" in tags and all(tag == "O" or tag[:2] in ("B-", "I-") for tag in tags)


def spans(tags: Sequence[str]) -> set[Span]:
    """The entities that tags mark: first word, the word after the last, kind.

    An I- after another kind or after none begins an entity of its own, as in the script of CoNLL-2000 (conlleval).
    """
    found: set[Span] = set()
    begin, kind = 0, None
    for place, tag in enumerate([*tags, "O"]):
        mark, _, of = tag.partition("-")
        if kind is not None and (mark != "I" or of != kind):
            found.add((begin, place, kind))
            kind = None
        if mark != "O" and kind is None:
            begin, kind = place, of
    return found
