"""The tasks of GLUE (Wang et al. 2019) that have classes: their columns, their labels, and what each is judged by.

Labels are written as in the files that its site hands out and takes back.
"""

from typing import NamedTuple

from zoo.errors import UserError, nearest

PREFIX = "glue:"
HUB = "hf:nyu-mll/glue"
BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")


class Glue(NamedTuple):
    """A task of GLUE; the labels stand in the order of the numbers that the Hub's data set has for them."""

    columns: tuple[str, ...]
    labels: tuple[str, ...] = BINARY
    measure: str = "accuracy"
    valid: str = "validation"
    valid_too: str | None = None  # a second validation split
    test: str = "test"  # whose labels are hidden


TASKS = {
    "cola": Glue(("sentence",), measure="mcc"),
    "sst2": Glue(("sentence",)),
    "mrpc": Glue(("sentence1", "sentence2"), measure="f1"),
    "qqp": Glue(("question1", "question2"), measure="f1"),
    "mnli": Glue(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        valid="validation_matched",
        valid_too="validation_mismatched",
        test="test_matched",
    ),
    "qnli": Glue(("question", "sentence"), ENTAILMENT),
    "rte": Glue(("sentence1", "sentence2"), ENTAILMENT),
    "wnli": Glue(("sentence1", "sentence2")),
}


def glue(place: str) -> Glue | None:
    """The task of `glue:NAME` or `glue:NAME:SPLIT`, None for any other place. UserError where there is no such task."""
    if not place.startswith(PREFIX):
        return None
    name = place.removeprefix(PREFIX).partition(":")[0]
    if name == "stsb":
        raise UserError(f"{place} asks for a number, not for a class; a regression cannot be trained here")
    if name not in TASKS:
        raise UserError(f"{place}: GLUE has no task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]


def split_of(place: str, split: str) -> str:
    """The place of one split of `glue:NAME`; one that names its split already stays as it is."""
    return place if ":" in place.removeprefix(PREFIX) else f"{place}:{split}"
