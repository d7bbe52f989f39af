"""Labelled brackets of guessed trees against gold ones, counted as EVALB counts them with COLLINS.prm.

Source: Sekine and Collins 1997, EVALB; the parameters are those of Collins 1997. As there,

- tags are no brackets, and words that are tagged as punctuation are taken out before spans are counted;
- a constituent of punctuation alone is not counted, and a sentence of punctuation alone is skipped;
- TOP is not counted, functions and indices of labels do not matter, ADVP and PRT are one label;
- n gold and m guessed brackets of one label and span match min(n, m) times.
"""

from collections import Counter
from itertools import accumulate
from typing import NamedTuple

from zoo.corpus.trees import Tree, category, leaves, walk, words
from zoo.errors import UserError

PUNCTUATION = {",", ":", "``", "''", "."}
# Unlike COLLINS.prm, which names TOP alone: the roots that others write count as little.
UNCOUNTED = {*PUNCTUATION, "TOP", "ROOT", "S1", ""}
SAME = {"PRT": "ADVP"}

Spans = Counter[tuple[str, int, int]]  # label, words before it, words before its end


class Brackets(NamedTuple):
    """Sums over all sentences, and rates in 0 .. 1 of these sums (not means of sentences' rates)."""

    matched: int = 0
    gold: int = 0
    guessed: int = 0
    crossing: int = 0  # guessed brackets that cross a gold one, whatever their labels
    exact: int = 0  # sentences of which all brackets match
    sentences: int = 0  # those that have a word that is no punctuation

    @property
    def precision(self) -> float:
        return self.matched / max(self.guessed, 1)

    @property
    def recall(self) -> float:
        return self.matched / max(self.gold, 1)

    @property
    def f1(self) -> float:
        # 2pr / (p + r) with p = matched / guessed and r = matched / gold
        return 2 * self.matched / max(self.gold + self.guessed, 1)


def score(gold: list[Tree], guess: list[Tree]) -> Brackets:
    """Every guess against the gold tree of the same sentence; `trees.plain` has taken the empty elements off both.

    Raises:
        UserError: a sentence whose words differ, or not as many trees.
    """
    if len(gold) != len(guess):
        raise UserError(f"{len(guess)} guessed trees for {len(gold)} gold ones")
    each = [_sentence(number, *pair) for number, pair in enumerate(zip(gold, guess, strict=True), 1)]
    return Brackets(*map(sum, zip(*each, strict=True)))


def _sentence(number: int, gold: Tree, guess: Tree) -> Brackets:
    right, tried = words(gold), words(guess)
    if right != tried:
        raise UserError(f"sentence {number}: the guess has other words than the gold tree: {_differ(right, tried)}")
    # Unlike EVALB, which goes by each tree's own tags and gives a sentence up where these differ: the gold tags say
    # what is punctuation, since a guess may have none.
    counted = [leaf.label not in PUNCTUATION for leaf in leaves(gold)]
    if not any(counted):
        return Brackets()
    a, b = _spans(gold, counted), _spans(guess, counted)
    crossing = sum(
        count
        for (_, start, end), count in b.items()
        if any(first < start < last < end or start < first < end < last for _, first, last in a)
    )
    return Brackets((a & b).total(), a.total(), b.total(), crossing, a == b, 1)


def _spans(tree: Tree, counted: list[bool]) -> Spans:
    before = [0, *accumulate(counted)]  # counted words before each word
    spans, starts, at = Spans(), [], 0
    for node, opens in walk(tree):
        if not node.children:
            at += 1
        elif opens:
            starts.append(at)
        else:
            start, end, label = before[starts.pop()], before[at], category(node.label)
            if start < end and label not in UNCOUNTED:
                spans[SAME.get(label, label), start, end] += 1
    return spans


def _differ(right: list[str], tried: list[str]) -> str:
    for at, (one, other) in enumerate(zip(right, tried, strict=False), 1):
        if one != other:
            return f"word {at} is {other!r}, not {one!r}"
    return f"{len(tried)} words, not {len(right)}"
