"""Labelled text from tables, CoNLL files and the Hub: texts, pairs of texts, or the words of sentences."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.corpus.documents import Columns, Record, column_names, lines, short, table_records
from zoo.corpus.files import PACKED, Tally, decoded, find, kind, readable
from zoo.corpus.glue import HUB, PREFIX, glue
from zoo.corpus.hub import open_split, records
from zoo.corpus.remote import is_data_set, path_of
from zoo.corpus.rows import generator
from zoo.errors import UserError, some

TASKS = ("classify", "pairs", "tag")
TEXTS = {  # the names that columns usually have, the likelier first
    "classify": (("text",), ("sentence",)),
    "pairs": (
        ("text_a", "text_b"),
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question", "sentence"),
        ("question1", "question2"),
    ),
    "tag": (("tokens",), ("words",)),
}
LABELS = {"classify": ("label",), "pairs": ("label",), "tag": ("tags", "ner_tags", "pos_tags", "labels")}
CONLL = (".conll", ".bio", ".iob2", ".txt", ".tsv")  # a word a line, its tag last, an empty line after a sentence


class Example(NamedTuple):
    """What is labelled: one text, two, or the words of a sentence."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]  # one; of words one each; none where they are not known


class Asked(NamedTuple):
    """Which task, and in which columns it stands; none = those with a usual name."""

    task: str
    text: Sequence[str] = ()
    label: str | None = None

    def columns(self, where: str, names: Sequence[str], *, labelled: bool) -> Columns:
        """The columns that are read, by the option that names them. UserError where they are not there."""
        count = len(TEXTS[self.task][0])
        if self.text and len(self.text) != count:
            raise UserError(f"--task {self.task} reads {count} columns of text; --text names {', '.join(self.text)}")
        texts = self._found(where, names, "--text", TEXTS[self.task], tuple(self.text))
        columns = {"--text" if n == 0 else "--text (second)": name for n, name in enumerate(texts)}
        if labelled:
            usual = tuple((name,) for name in LABELS[self.task])
            (columns["--label"],) = self._found(where, names, "--label", usual, (self.label,) if self.label else ())
        return columns

    def _found(
        self, where: str, names: Sequence[str], option: str, usual: tuple[tuple[str, ...], ...], asked: tuple[str, ...]
    ) -> tuple[str, ...]:
        for choice in (asked,) if asked else usual:
            if set(choice) <= set(names):
                return choice
        wanted = " and ".join(asked) if asked else " or ".join(" and ".join(choice) for choice in usual)
        raise UserError(f"{where}: no column {wanted}; it has {some(list(map(str, names)))} ({option} names a column)")


def read_examples(place: str, asked: Asked, *, labelled: bool = True) -> Iterator[Example]:
    """The examples of a file, folder or glob, of hf:NAME[:CONFIG[:SPLIT]] or glue:NAME[:SPLIT], one by one.

    labelled: else no label is read. Without SPLIT it is the training split.
    Raises UserError where it cannot be read, has no such column, or an example is none.
    """
    with readable(place):
        if is_data_set(place) or place.startswith(PREFIX):
            found = _from_hub(place, asked, labelled)
        elif asked.task == "tag" and _suffix(path_of(place)) in CONLL:
            found = _conll(path_of(place), labelled)
        else:
            found = (each for file in find(place) for each in _from_file(file, asked, labelled))
        count = 0
        for count, example in enumerate(found, 1):  # noqa: B007 -- it says whether there was any
            yield example
    if not count:
        raise UserError(f"{place}: there is no example in it")


def _from_file(file: Path, asked: Asked, labelled: bool) -> Iterator[Example]:
    if asked.task == "tag" and _suffix(file) in CONLL:
        yield from _conll(file, labelled)
        return
    if kind(file) not in (".csv", ".tsv", ".jsonl", ".parquet"):
        raise UserError(f"{file}: labels need a table; known are .csv, .tsv, .jsonl, .parquet")
    names = column_names(file)
    if names:
        columns = asked.columns(str(file), names, labelled=labelled)
        yield from _examples(table_records(file, columns, Tally()), asked, None, labelled)


def _from_hub(place: str, asked: Asked, labelled: bool) -> Iterator[Example]:
    task = glue(place)
    if task is not None:
        if len(task.columns) != len(TEXTS[asked.task][0]) or asked.task == "tag":
            raise UserError(f"{place} is not of --task {asked.task}; its columns are {', '.join(task.columns)}")
        asked = asked._replace(text=asked.text or task.columns)
        name, _, split = place.removeprefix(PREFIX).partition(":")
        where = f"{HUB}:{name}"
    else:
        name, _, rest = place.removeprefix("hf:").partition(":")
        config, _, split = rest.partition(":")
        where = f"hf:{name}:{config}" if config else f"hf:{name}"
    _, stream, names = open_split(where, split or "train")
    columns = asked.columns(place, names, labelled=labelled)
    classes = task.labels if task else _classes(stream.features, columns.get("--label"))
    stream = stream.select_columns(list(columns.values()))
    yield from _examples(records(place, columns, stream), asked, classes, labelled)


def _classes(features: Any, column: str | None) -> Sequence[str] | None:
    """What the numbers of a column stand for, where the data set says it."""
    feature = (features or {}).get(column)
    feature = getattr(feature, "feature", feature)  # of a list
    return getattr(feature, "names", None)


def _examples(
    table: Iterator[Record], asked: Asked, classes: Sequence[str] | None, labelled: bool
) -> Iterator[Example]:
    for where, values in table:
        texts, label = (values[:-1], values[-1]) if labelled else (values, ())
        if asked.task != "tag":
            read = tuple(_text(where, text) for text in texts)
            yield Example(read, (_label(where, label, classes),) if labelled else ())
            continue
        for name, given in (("--text", texts[0]), ("--label", label)):
            if not isinstance(given, list | tuple):
                raise UserError(f"{where}: {short(given)} is no list of words or tags ({name} names its column)")
        if labelled and len(texts[0]) != len(label):
            raise UserError(f"{where}: {len(texts[0])} words and {len(label)} tags")
        words = tuple(_text(where, word) for word in texts[0])
        yield Example(words, tuple(_label(where, tag, classes) for tag in label))


def _text(where: str, text: Any) -> str:
    if text is None:  # a table has it for a text that is empty
        return ""
    if not isinstance(text, str):
        raise UserError(f"{where}: the text is a {type(text).__name__} ({short(text)}), not a string")
    return text


def _label(where: str, label: Any, classes: Sequence[str] | None) -> str:
    if isinstance(label, float) and label.is_integer():  # a column of numbers in which one is missing
        label = int(label)
    if isinstance(label, bool | str):
        label = str(label).strip()
    elif isinstance(label, int):
        if classes and not 0 <= label < len(classes):
            raise UserError(f"{where}: its label is hidden ({label})")
        label = classes[label] if classes else str(label)
    elif label is not None:
        raise UserError(f"{where}: the label {short(label)} is no class; a regression cannot be trained here")
    if not label:
        raise UserError(f"{where}: it has no label")
    return label


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(PACKED[0]).removesuffix(PACKED[1])).suffix


def _conll(file: Path, labelled: bool) -> Iterator[Example]:
    """Words and their tags, a sentence an example."""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate((*lines(decoded(file, Tally())), ""), 1):
        word, *rest = line.split() or [""]
        if word and word != "-DOCSTART-":
            if labelled and not rest:
                raise UserError(f"{file}:{number}: {word!r} has no tag; a line is a word, white space, its tag")
            words.append(word)
            tags += rest[-1:] if labelled else []
        elif words:
            yield Example(tuple(words), tuple(tags))
            words, tags = [], []


def labels_of(where: str, examples: Sequence[Example]) -> list[str]:
    """All labels in order, numbers by their size. UserError where there is nothing to tell apart."""
    found = sorted({label for each in examples for label in each.labels})
    if len(found) < 2:
        raise UserError(f"{where}: at least two labels are needed, and all examples have {some(found) or 'none'}")
    return sorted(found, key=int) if all(label.isdecimal() for label in found) else found


def check_labels(where: str, examples: Sequence[Example], labels: Sequence[str]) -> None:
    """UserError where an example has a label that is none of these, which are those of training."""
    if unseen := sorted({label for each in examples for label in each.labels} - set(labels)):
        raise UserError(f"{where}: training has no example of the labels {some(unseen)}; it has {some(list(labels))}")


def part_off(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """The examples without a share of each label's (of words: of all), which come second; always the same ones."""
    order = generator(0, 0, "labelled.split").permutation(len(examples))
    strata: dict[str, list[int]] = {}
    for n in order.tolist():
        labels = examples[n].labels
        strata.setdefault(labels[0] if len(labels) == 1 else "", []).append(n)
    held = {n for each in strata.values() for n in each[: round(share * len(each))]}
    held = held or {max(strata.values(), key=len)[0]}
    return [e for n, e in enumerate(examples) if n not in held], [examples[n] for n in sorted(held)]


def reservoir(examples: Iterator[Example], most: int) -> tuple[list[Example], int]:
    """At most so many of the examples, each as likely as any other and always the same ones; and how many there were.

    Vitter 1985, algorithm R.
    """
    draw: np.random.Generator = generator(0, 0, "labelled.reservoir")
    kept: list[Example] = []
    count = 0
    for count, example in enumerate(examples, 1):
        if count <= most:
            kept.append(example)
        elif (at := int(draw.integers(count))) < most:
            kept[at] = example
    return kept, count
