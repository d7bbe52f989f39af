"""Numbers of words, as studies of how much text a model needs give them: 100K, 1M, 1.5M, 1B.

>>> read("1.5M"), read("1B"), label(1_500_000), label(1_000_000_000)
(1500000, 1000000000, '1.5M', '1000M')
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

SCALES = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}
NAME = "chck_"  # what BabyLM's revisions begin with: https://github.com/babylm/evaluation-pipeline-2025


def read(given: Any) -> Any:
    """The number that a text like 1.5M means; what is no text stays as it is. ValueError where it means none."""
    if not isinstance(given, str):
        return given
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", given.strip().upper())
    words = Fraction(found[1]) * SCALES[found[2]] if found else Fraction(1, 2)
    if words.denominator != 1:
        raise ValueError(f"{given!r} is no whole number of words such as 250000, 100K, 1M, 1.5M or 1B")
    return int(words)


def label(words: int) -> str:
    """The shortest text for a number, never in billions: BabyLM counts up to 1000M."""
    for unit in ("M", "K"):
        if words >= SCALES[unit]:
            return f"{words / SCALES[unit]:.12g}{unit}"
    return str(words)


def labels(budgets: Iterable[int]) -> str:
    """Several of them, for a message."""
    return ", ".join(map(label, budgets))


def name(words: int) -> str:
    """What the checkpoint at a budget is called: chck_1M."""
    return NAME + label(words)
