"""With what runs were made: where their recipes differ, their machines and corpora, and how to make them again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.report.record import Group, Record
from zoo.report.tables import NOTHING, Row, Table
from zoo.schema import Recipe
from zoo.train import run

RUNS_AS = {"zoo", "__main__.py"}  # what the command line is called where it started a run


def differences(groups: Sequence[Group]) -> Table:
    """The keys of recipes whose values differ, side by side, in the order of a recipe's sections."""
    recipes = {group.label: [_settings(one) for one in group.records] for group in groups}
    everything = [values for each in recipes.values() for values in each]
    keys = dict.fromkeys(key for values in everything for key in values)
    sections = [*Recipe.model_fields]
    rows = []
    for key in sorted(keys, key=lambda key: sections.index(key.partition(".")[0])):
        if len({values.get(key) for values in everything}) > 1:
            told = [dict.fromkeys(values.get(key, NOTHING) for values in each) for each in recipes.values()]
            rows.append(Row([key, *map(", ".join, told)]))
    return Table("", "", ["key", *recipes], rows)


def _settings(record: Record) -> dict[str, str]:
    return flat(record.recipe.model_dump(exclude={"name", "expect"}))


def facts(record: Record) -> dict[str, str]:
    """What environment.json says of a run's machine, code and corpus."""
    known = {key: value for key, value in record.environment.items() if key not in ("command", "given")}
    return flat(known)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values in words; what is not set is left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def commands(record: Record) -> list[tuple[str, str]]:
    """How a run was made, and how to make it again, for a shell in the folder where the report was asked for."""
    folder, told = record.folder, []
    if argv := record.environment.get("command"):
        started = ["zoo"] if Path(argv[0]).name in RUNS_AS else ["python", argv[0]]
        told.append(("It was started by", shlex.join([*started, *argv[1:]])))
    if record.recipe.data.corpus != run.MEMORY:
        again = ["zoo", "pretrain", str(folder / run.RECIPE), "--out", f"{folder}-again"]
        told.append(("The same from its resolved recipe", shlex.join(again)))
    if record.step < record.recipe.train.updates:
        told.append(("To continue it", run.continuing(folder, record.recipe, None)))
    return told
