"""The table of `zoo checkpoints`."""

from pathlib import Path

from zoo import accounting
from zoo.registered import Registered, registered
from zoo.registry import recipe
from zoo.report.listing import table
from zoo.saved import read_facts
from zoo.train.run import read_recipe

HEAD = ("NAME", "KIND", "RECIPE", "PARAMETERS", "LOSS", "PLACE")
KINDS = ("registered", "shipped", "published")


def checkpoints() -> list[str]:
    """A line for every checkpoint that has a name: where it comes from, what it is, its validation loss."""
    found = sorted(registered().values(), key=lambda one: (KINDS.index(one.kind), one.name))
    return table([HEAD, *map(_row, found)], numbers=(3, 4))


def _row(found: Registered) -> tuple[str, ...]:
    if found.kind == "published":  # nothing of it is here
        return found.name, found.kind, found.name, f"{accounting.params(recipe(found.name)):,}", "", found.place
    folder = Path(found.place)
    own, facts = read_recipe(folder), read_facts(folder)
    loss = f"{facts['valid']['loss']:.3f}" if facts.get("valid") else ""
    size = accounting.count(accounting.weights(own, facts.get("absent", ())).values())
    place = "comes with the zoo" if found.kind == "shipped" else found.place
    return found.name, found.kind, own.name, f"{size:,}", loss, place
