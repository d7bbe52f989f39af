"""What was measured of finished runs (zoo/evaluations.py), as tables in which nothing stands beside what it cannot be
compared with."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from zoo.report.record import Group, Record, members
from zoo.report.tables import INTERVAL, Measured, Row, Table, of_runs, over_seeds

LIKELIHOOD, PSEUDO, LOSSES = "likelihood", "pseudo-likelihood", "losses"
ABOUT = {
    LIKELIHOOD: "These models give the text a probability; perplexity and bits are that of the text itself.",
    PSEUDO: "These models predict each token from both sides. The product of such predictions is no probability of the"
    " text, so that it cannot be compared with a likelihood and has a table of its own.",
    LOSSES: "In nats a prediction; another objective predicts something else.",
}


class Suite(NamedTuple):
    """Minimal pairs: all of them, by phenomenon, by paradigm."""

    whole: Table
    phenomena: Table
    paradigms: Table


def texts(groups: Sequence[Group]) -> list[Table]:
    """For every text a table of each objective's losses, one of likelihoods, one of pseudo-likelihoods."""
    found = {record.label: record.evaluation.get("text", {}) for record in members(groups)}
    made = []
    for name in _names(found.values()):
        parts = {one.label: _kinds(found[one.label].get(name, {}), one) for one in members(groups)}
        titles = {LIKELIHOOD: LIKELIHOOD, PSEUDO: PSEUDO}
        titles = {f"{LOSSES} of {one.recipe.objective['name']}": LOSSES for one in members(groups)} | titles
        for title, kind in titles.items():
            made.append(
                of_runs(
                    f"{name}: {title}", ABOUT[kind], groups, lambda one, of=title, by=parts: by[one.label].get(of, {})
                )
            )
    return [table for table in made if table.rows]


def _kinds(measured: Measured, record: Record) -> dict[str, Measured]:
    """The numbers of one measurement by the table that they belong to, each with the update it was taken after."""
    parts: dict[str, dict] = {}
    tasks = record.objective.scales
    for key, value in measured.items():
        name = key.removesuffix(INTERVAL)
        if name.startswith("pseudo_"):
            kind = PSEUDO
        elif name.startswith("bits_per_") or "perplexity" in name or name == "stride":
            kind = LIKELIHOOD
        else:
            kind = f"{LOSSES} of {record.recipe.objective['name']}"
        if name != "step" and [name] != [*tasks]:  # the only task is the loss
            parts.setdefault(kind, {})[key] = value
    return {kind: {**part, "after update": measured["step"]} for kind, part in parts.items()}


def suites(groups: Sequence[Group]) -> list[Suite]:
    """Every suite of minimal pairs. Which of two sentences is likelier to a model is comparable between all models."""
    found = {record.label: record.evaluation.get("suite", {}) for record in members(groups)}
    columns = {"accuracy": "accuracy", "interval": f"accuracy{INTERVAL}", "pairs": "pairs", "score": "compared by"}
    columns |= {"step": "after update"}

    def whole(name: str) -> Table:
        def overall(record: Record) -> Measured:
            one = found[record.label].get(name, {})
            return {title: one[key] for key, title in columns.items() if key in one}

        about = "The share of pairs of which the model finds the good sentence likelier; by chance 50%."
        return of_runs(f"{name}: minimal pairs", about, groups, overall)

    def parts(name: str, what: str, key: str) -> Table:
        each = {group.label: [found[one.label].get(name, {}).get(key) for one in group.records] for group in groups}
        return _by_part(f"{name}: every {what}", what, {label: [*filter(None, those)] for label, those in each.items()})

    return [
        Suite(whole(name), parts(name, "phenomenon", "phenomena"), parts(name, "paradigm", "paradigms"))
        for name in _names(found.values())
    ]


def _by_part(title: str, what: str, accuracies: dict[str, list[dict[str, Measured]]]) -> Table:
    """A row for each part of a suite, a column for each group."""
    measured = {label: each for label, each in accuracies.items() if each}
    rows = []
    for name in _names(one for each in measured.values() for one in each):
        of_part = [[one[name] for one in each if name in one] for each in measured.values()]
        numbers = [
            [{"accuracy": p["accuracy"], f"accuracy{INTERVAL}": p["interval"]} for p in each] for each in of_part
        ]
        rows.append(Row([name, *(over_seeds(each, "accuracy") for each in numbers)]))
    return Table(title, "", [what, *measured], rows)


def _names(found: Iterable[Measured]) -> Collection[str]:
    """The keys of all, each once, in their order."""
    return dict.fromkeys(key for each in found for key in each)
