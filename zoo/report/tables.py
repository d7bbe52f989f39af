"""Tables about runs: what each is and how far, its last losses; runs that differ in their seeds are also summed up."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

from zoo import accounting
from zoo.progress import amount
from zoo.report.record import SPLITS, Group, Record, members

NOTHING = "–"
INTERVAL = "_interval"  # ends the name of a number's interval: [low, high]

Measured = Mapping[str, Any]  # numbers and words by name


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
    return Table("", "", head, [Row(_told(record)) for record in members(groups)])


def _told(record: Record) -> list[str]:
    recipe, tokens = record.recipe, record.step * record.recipe.train.tokens_per_update
    rates = sorted(line["tokens_per_second"] for line in record.lines["train"] if "tokens_per_second" in line)
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
        train, valid, test = ([line for line in record.lines[split] if task in line] for split in SPLITS)
        last = {"train": train[-1][task]} if train else {}
        if valid:
            lowest = min(line[task] for line in valid)
            last |= {"validation": valid[-1][task], "after update": valid[-1]["step"], "lowest validation": lowest}
        return {**last, "test": test[-1][task]} if test else last

    return of_runs("", "", groups, found)


def of_runs(title: str, about: str, groups: Sequence[Group], found: Callable[[Record], Measured]) -> Table:
    """A row for every run that has something, and one for the seeds of a group; a column for each name."""
    measured = [[(record.label, numbers) for record in group.records if (numbers := found(record))] for group in groups]
    names = dict.fromkeys(name for group in measured for _, numbers in group for name in numbers)
    columns = [name for name in names if not name.endswith(INTERVAL)]
    rows = []
    for group in measured:
        rows += [Row([label, *(_number(numbers, column) for column in columns)]) for label, numbers in group]
        if len(group) > 1:
            each = [numbers for _, numbers in group]
            rows.append(Row([f"mean of {len(group)} seeds", *(over_seeds(each, name) for name in columns)], seeds=True))
    return Table(title, about, ["run", *(name.replace("_", " ") for name in columns)], rows)


def over_seeds(each: Sequence[Measured], name: str) -> str:
    """A number of one run with its interval; of several the mean, and from where to where they go.

    Words and counts have no mean: they are listed.
    """
    if len(each) == 1:
        return _number(each[0], name)
    values = [numbers[name] for numbers in each if name in numbers]
    if len({*values}) < 2 or not all(isinstance(value, float) for value in values):
        return ", ".join(dict.fromkeys(shown(name, value) for value in values)) or NOTHING
    return f"{shown(name, mean(values))} ({shown(name, min(values))} to {shown(name, max(values))})"


def _number(numbers: Measured, name: str) -> str:
    if name not in numbers:
        return NOTHING
    told, interval = shown(name, numbers[name]), numbers.get(f"{name}{INTERVAL}")
    return told if interval is None else f"{told} [{', '.join(shown(name, bound) for bound in interval)}]"


def shown(name: str, value: Any) -> str:
    """A measured value in as many digits as it deserves."""
    if isinstance(value, str):
        return value
    if name == "accuracy":
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{1 if abs(value) >= 100 else 3}f}"
