"""What was measured of runs, as tables: kinds of measures apart, and runs that differ in their seeds together."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

from zoo import accounting
from zoo.progress import amount
from zoo.report.record import Group, Record
from zoo.train.evaluation import MEASURES

LIKELIHOOD = "likelihood"
PSEUDO = "pseudo-likelihood"
LOSSES = "losses"
WHY = {
    LIKELIHOOD: "These models give a text a probability, so that perplexity and bits are of the text itself.",
    PSEUDO: "These models predict a token from both sides. The sum of such predictions is no probability of the text, so"
    " it must not be compared with a likelihood; it stands in a table of its own.",
}
NOTHING = "–"

Measured = Mapping[str, Any]  # numbers by name; beside one may stand its interval, `NAME_interval`: [low, high]


class Row(NamedTuple):
    """A line of a table; its first cell is its heading. seeds: it sums up the rows above it."""

    cells: list[str]
    seeds: bool = False


class Table(NamedTuple):
    """A table with a heading; about: what must be known to read it."""

    title: str
    about: str
    head: list[str]
    rows: list[Row]


def overview(groups: Sequence[Group]) -> Table:
    """What every run is, how far it is, and what it took."""
    head = ["run", "recipe", "objective", "seed", "parameters", "state", "tokens", "compute", "tokens/s"]
    return Table("", "", head, [Row(_run(record)) for group in groups for record in group.records])


def _run(record: Record) -> list[str]:
    recipe, tokens = record.recipe, record.step * record.recipe.train.tokens_per_update
    rates = sorted(line["tokens_per_second"] for line in record.split("train") if "tokens_per_second" in line)
    return [
        record.label,
        recipe.name,
        recipe.objective["name"],
        str(recipe.train.seed),
        f"{accounting.params(recipe):,}",
        record.progress,
        amount(tokens).strip(),
        accounting.size(accounting.flops(recipe).per_token * tokens, "FLOP"),
        f"{rates[len(rates) // 2]:,.0f}" if rates else NOTHING,
    ]


def losses(groups: Sequence[Group], task: str) -> Table:
    """The last losses of a task, of all runs that have it."""

    def found(record: Record) -> Measured:
        if task not in record.objective.scales:
            return {}
        train, valid = ([line for line in record.split(split) if task in line] for split in ("train", "valid"))
        last = {"train": train[-1][task]} if train else {}
        if valid:
            lowest = min(line[task] for line in valid)
            last |= {"validation": valid[-1][task], "after update": valid[-1]["step"], "lowest validation": lowest}
        return last

    return _table("", "", groups, found)


def texts(groups: Sequence[Group]) -> list[Table]:
    """What was measured on texts: for every text a table of each objective's losses, one of likelihoods, one of
    pseudo-likelihoods."""
    names = dict.fromkeys(name for record in _all(groups) for name in record.evaluation.get("text", {}))
    made = []
    for name in names:
        measured = {record.label: record.evaluation.get("text", {}).get(name, {}) for record in _all(groups)}
        kinds = {label: kinds_of(found) for label, found in measured.items()}
        objectives = dict.fromkeys(record.recipe.objective["name"] for record in _all(groups))
        for objective in objectives:
            made.append(
                _table(
                    f"{name}: losses of {objective}",
                    "In nats a prediction.",
                    groups,
                    lambda one, of=objective, kinds=kinds: (
                        kinds[one.label][LOSSES] if one.recipe.objective["name"] == of else {}
                    ),
                )
            )
        for kind in (LIKELIHOOD, PSEUDO):
            made.append(
                _table(f"{name}: {kind}", WHY[kind], groups, lambda one, of=kind, kinds=kinds: kinds[one.label][of])
            )
    return [table for table in made if table.rows]


def kinds_of(found: Measured) -> dict[str, dict[str, Any]]:
    """One measurement's numbers by kind; an interval goes where its number goes, the update everywhere."""
    parts: dict[str, dict[str, Any]] = {LOSSES: {}, LIKELIHOOD: {}, PSEUDO: {}}
    for key, value in found.items():
        name = key.removesuffix("_interval")
        if name.startswith("pseudo_"):
            parts[PSEUDO][key] = value
        elif name in MEASURES or name.endswith("perplexity"):
            parts[LIKELIHOOD][key] = value
        elif name != "step":
            parts[LOSSES][key] = value
    step = {"after update": found["step"]} if "step" in found else {}
    return {kind: {**part, **step} if part else {} for kind, part in parts.items()}


def suites(groups: Sequence[Group]) -> list[tuple[Table, Table, Table]]:
    """For every suite of minimal pairs: all pairs, the phenomena, the paradigms."""
    names = dict.fromkeys(name for record in _all(groups) for name in record.evaluation.get("suite", {}))
    return [
        (
            _table(f"{name}: minimal pairs", "", groups, lambda one, name=name: _overall(_suite(one, name))),
            _parts(groups, name, "phenomenon", "phenomena"),
            _parts(groups, name, "paradigm", "paradigms"),
        )
        for name in names
    ]


def _suite(record: Record, name: str) -> Measured:
    return record.evaluation.get("suite", {}).get(name, {})


def _overall(found: Measured) -> Measured:
    shown = {"accuracy": "accuracy", "interval": "accuracy_interval", "pairs": "pairs", "score": "compared by"}
    shown |= {"step": "after update"}
    return {shown[key]: value for key, value in found.items() if key in shown}


def _parts(groups: Sequence[Group], suite: str, what: str, key: str) -> Table:
    """The accuracy of each part of a suite, a column for each group."""
    measured = {group.label: [_suite(one, suite).get(key, {}) for one in group.records] for group in groups}
    measured = {label: [found for found in each if found] for label, each in measured.items()}
    measured = {label: each for label, each in measured.items() if each}
    names = dict.fromkeys(name for each in measured.values() for found in each for name in found)
    rows = []
    for name in names:
        cells = [name]
        for each in measured.values():
            parts = [found[name] for found in each if name in found]
            several = [{"accuracy": part["accuracy"], "accuracy_interval": part["interval"]} for part in parts]
            cells.append(_over_seeds(several, "accuracy") if len(several) > 1 else _shown(*several, "accuracy"))
        rows.append(Row(cells))
    return Table(f"{suite}: every {what}", "", [what, *measured], rows)


def _all(groups: Sequence[Group]) -> list[Record]:
    return [record for group in groups for record in group.records]


def _table(title: str, about: str, groups: Sequence[Group], found: Callable[[Record], Measured]) -> Table:
    """A row for every run that has something, and one for the seeds of a group; a column for each name."""
    measured = [[(record.label, numbers) for record in group.records if (numbers := found(record))] for group in groups]
    names = dict.fromkeys(name for group in measured for _, numbers in group for name in numbers)
    columns = [name for name in names if not name.endswith("_interval")]
    rows = []
    for group in measured:
        rows += [Row([label, *(_shown(numbers, column) for column in columns)]) for label, numbers in group]
        if len(group) > 1:
            each = [numbers for _, numbers in group]
            rows.append(
                Row([f"mean of {len(group)} seeds", *(_over_seeds(each, name) for name in columns)], seeds=True)
            )
    return Table(title, about, ["run", *(name.replace("_", " ") for name in columns)], rows)


def _shown(numbers: Measured, name: str) -> str:
    """A number, with the interval where it has one."""
    if name not in numbers:
        return NOTHING
    interval = numbers.get(f"{name}_interval")
    told = shown(name, numbers[name])
    return told if interval is None else f"{told} [{', '.join(shown(name, bound) for bound in interval)}]"


def _over_seeds(each: Sequence[Measured], name: str) -> str:
    """The mean over seeds, and from where to where they go."""
    values = [numbers[name] for numbers in each if isinstance(numbers.get(name), int | float)]
    if not values:
        return NOTHING
    low, high = min(values), max(values)
    if low == high:
        return shown(name, low)
    return f"{shown(name, mean(values))} ({shown(name, low)} to {shown(name, high)})"


def shown(name: str, value: Any) -> str:
    """A measured value in as many digits as it deserves."""
    if isinstance(value, str):
        return value
    if name == "accuracy":
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) >= 1000 else f"{value:.3f}"


def differences(groups: Sequence[Group]) -> Table:
    """The keys of recipes whose values differ, side by side."""
    flattened = {
        group.label: [_flat(one.recipe.model_dump(exclude={"name"})) for one in group.records] for group in groups
    }
    keys = dict.fromkeys(key for each in flattened.values() for flat in each for key in flat)
    rows = []
    for key in keys:
        cells = [", ".join(dict.fromkeys(flat.get(key, NOTHING) for flat in each)) for each in flattened.values()]
        if len({*cells}) > 1 or any(len({flat.get(key) for flat in each}) > 1 for each in flattened.values()):
            rows.append(Row([key, *cells]))
    return Table("", "", ["key", *flattened], rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values as YAML would have them; what is not set is left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def facts(record: Record) -> list[tuple[str, str]]:
    """What environment.json says of a run's machine, code and corpus."""
    known = {key: value for key, value in record.environment.items() if key not in ("command", "given")}
    return list(_flat(known).items())
