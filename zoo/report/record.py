"""What the folder of a run tells, whether the run has ended, goes on or has just begun; and what tells runs apart."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo import evaluations
from zoo.errors import UserError, nearest
from zoo.objective import Objective
from zoo.schema import Recipe
from zoo.train import checkpoint, run
from zoo.train.start import make_objective, nominal_vocab

SPLITS = ("train", "valid", "test")
SHORT = 8  # digits of a hash that are shown


class Record(NamedTuple):
    """A run as its folder tells it."""

    folder: Path
    label: str  # its folder's name, or its path where several have that name
    recipe: Recipe
    lines: dict[str, list[dict[str, Any]]]  # of metrics.jsonl, by their split
    environment: dict[str, Any]  # {} where it cannot be read
    evaluation: dict[str, dict[str, evaluations.Found]]  # as of zoo.evaluations.read
    sample: str | None
    tokenizer: str  # a hash of its tokenizers; "" where it has none
    faults: list[str]  # what should be in the folder and cannot be read

    @property
    def objective(self) -> Objective:
        """The objective, with the vocabulary that the recipe asks for."""
        return make_objective(self.recipe, nominal_vocab(self.recipe))

    @property
    def step(self) -> int:
        """The updates that are done."""
        return self.lines["train"][-1]["step"] if self.lines["train"] else 0

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if not self.step:
            return "no update yet"
        updates = self.recipe.train.updates
        return f"all {updates:,} updates" if self.step >= updates else f"at update {self.step:,} of {updates:,}"


class Group(NamedTuple):
    """Runs that are equal but for their seeds."""

    label: str
    records: list[Record]


def read(folders: Sequence[Path]) -> list[Record]:
    """The runs in these folders; the folder of a checkpoint stands for its run. UserError for one that holds none."""
    found = [_run_of(folder) for folder in folders]
    if len({folder.resolve() for folder in found}) < len(found):
        raise UserError("a run is given twice")
    names = [folder.resolve().name for folder in found]
    labels = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, found, strict=True)]
    return [_read(folder, label) for folder, label in zip(found, labels, strict=True)]


def _run_of(folder: Path) -> Path:
    if not folder.is_dir():
        runs = [recipe.parent.name for recipe in folder.parent.glob(f"*/{run.RECIPE}")]
        raise UserError(f"there is no folder {str(folder)!r}{nearest(folder.name, runs)}")
    if (folder / checkpoint.STATE).is_file():
        return folder.resolve().parent.parent
    return folder if folder.name.strip(".") else folder.resolve()  # `.` and `..` are no names


def _read(folder: Path, label: str) -> Record:
    recipe, environment, faults = run.read_recipe(folder), {}, []
    try:
        environment = run.read_environment(folder)
    except UserError as error:
        faults.append(str(error))
    files = [folder / name for name in run.TOKENIZERS.values() if (folder / name).is_file()]
    tokenizer = hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest() if files else ""
    lines: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for line in run.read_metrics(folder):
        if "averaged" not in line:  # of other weights than those of the update
            lines[line["split"]].append(line)
    kept, sample = evaluations.read(folder), run.Run(folder, []).sample
    return Record(folder, label, recipe, lines, environment, kept, sample, tokenizer, faults)


def grouped(records: Sequence[Record]) -> list[Group]:
    """Runs that are equal but for train.seed together, in the order of their first ones."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_but_seed(record), []).append(record)
    return [Group(", ".join(record.label for record in group), group) for group in groups.values()]


def members(groups: Sequence[Group]) -> list[Record]:
    """The runs of all groups, group by group."""
    return [record for group in groups for record in group.records]


def _but_seed(record: Record) -> str:
    """All that makes a run what it is, its seed apart; how rows are split and compiled changes no update."""
    recipe = record.recipe.model_dump(mode="json", exclude={"name": True, "train": {"seed", "micro_rows", "compile"}})
    started = record.environment.get("given", {}).get("init_from")
    return json.dumps([recipe, started, _corpus(record), record.tokenizer], sort_keys=True)


def _corpus(record: Record) -> str:
    return str(record.environment.get("corpus_fingerprint", ""))


def warnings(records: Sequence[Record]) -> list[str]:
    """Why numbers of these runs must not be compared: other text, or text cut into other tokens."""
    specs = [(one, one.recipe.tokenizer) for one in records]
    corpora = [(_corpus(one), one.recipe.data.corpus, one.label) for one in records]
    tokenizers = [(one.tokenizer, f"{spec.kind}, {spec.size:,} ids", one.label) for one, spec in specs]
    found = [*_differ("corpora", corpora), *_differ("tokenizers", tokenizers)]
    return [*(fault for record in records for fault in record.faults), *found]


def _differ(what: str, told: list[tuple[str, str, str]]) -> list[str]:
    """A warning where some runs have another `what`: (its hash, what it is, the run) of every run."""
    by_hash: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for digest, description, label in told:
        by_hash.setdefault(digest, []).append(label)
        shown.setdefault(digest, f"{description} ({digest[:SHORT]})" if digest else "not known")
    if len(by_hash) < 2:
        return []
    each = "; ".join(f"{shown[digest]}: {', '.join(labels)}" for digest, labels in by_hash.items())
    if len(by_hash.keys() - {""}) < 2:
        return [f"it is not known whether these runs have the same {what}: {each}"]
    return [f"these runs have different {what}, so that their losses are not comparable: {each}"]
