"""What `zoo curves` prints: the reference curves that come with the zoo, and a run beside one of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UserError
from zoo.report.listing import table
from zoo.report.plot_text import Curve, has_braille, plot
from zoo.report.reference import Comparison, Losses, Reference, references

if TYPE_CHECKING:
    from rich.console import Console

HEAD = ("NAME", "UPDATES", "SEEDS", "TRAINING", "VALIDATION", "TRAINED ON", "DATE")
ROWS, HEIGHT = 8, 16  # of the training loss in a table; of a plot


def listing() -> list[str]:
    """A line for every reference curve: its last losses in nats, and what it was trained on."""
    rows: list[tuple[str, ...]] = [HEAD]
    for one in references().values():
        losses, made = next(iter(one.seeds.values())), one.made
        last = f"{losses.train[-1]:.3f}", f"{losses.valid[max(losses.valid)]:.3f}"
        seeds = ", ".join(map(str, one.seeds))
        rows.append((one.name, f"{one.recipe.train.updates:,}", seeds, *last, made["machine"], made["date"]))
    return table(rows, numbers=(1, 3, 4))


def told(shown: Reference | Comparison, console: "Console") -> None:
    """Prints a plot, a table and, of a run, the verdict."""
    curves = drawn(shown)
    lines = sum(not curve.points for curve in curves)
    one = shown if isinstance(shown, Reference) else shown.reference
    made = one.made
    versions = f"zoo {made['versions']['zoo']}, tensorflow {made['versions']['tensorflow']}"
    console.print(f"{one.name}: {made['command']}, {made['date']}, {made['machine']}, {versions}", markup=False)
    console.print(plot(curves, console.width, HEIGHT, "updates", braille=has_braille(console, lines)))
    console.print()
    console.print("\n".join(table(_rows(shown), numbers=range(4))), markup=False)
    if isinstance(shown, Comparison):
        console.print(f"\n{shown.run.name}: {shown.verdict}", markup=False, soft_wrap=True)


def drawn(shown: Reference | Comparison) -> list[Curve]:
    """The curves to plot: all seeds of a reference, or one of them and a run."""
    if isinstance(shown, Reference):
        named = {f"seed {seed}": losses for seed, losses in shown.seeds.items()}
    else:
        named = {f"reference {shown.reference.name}, seed {shown.seed}": shown.reference.seeds[shown.seed]}
        named[shown.run.name] = shown.losses
    curves = []
    for number, (name, losses) in enumerate(named.items()):
        curves.append(Curve(name, losses.at, losses.train, color=number))
        steps = sorted(losses.valid)
        valid = [losses.valid[step] for step in steps]
        curves.append(Curve("validation", np.array(steps), valid, points=True, color=number))
    return curves


def _rows(shown: Reference | Comparison) -> list[tuple[str, ...]]:
    """Some of the means, and all validation losses: of every seed, or of the reference and the run."""
    if isinstance(shown, Reference):
        columns, head = list(shown.seeds.values()), [f"SEED {seed}" for seed in shown.seeds]
    else:
        columns, head = [shown.reference.seeds[shown.seed], shown.losses], ["REFERENCE", "RUN", "DIFFERENCE"]
    rows: list[tuple[str, ...]] = [("UPDATE", *head, "")]
    at = columns[0].at
    for place in at[np.linspace(0, len(at) - 1, min(ROWS, len(at))).astype(int)].tolist():
        rows.append((f"{place:,}", *_cells([_mean(losses, place) for losses in columns], len(head)), "training"))
    for step in sorted({step for losses in columns for step in losses.valid}):
        rows.append((f"{step:,}", *_cells([losses.valid.get(step) for losses in columns], len(head)), "validation"))
    return rows


def _mean(losses: Losses, place: int) -> float | None:
    found = np.flatnonzero(losses.at == place)
    return float(losses.train[found[0]]) if len(found) else None


def _cells(values: list[float | None], count: int) -> list[str]:
    """As text; where there is a column more than values, it is the second less the first."""
    cells = ["" if value is None else f"{value:.3f}" for value in values]
    if count > len(values):
        first, second = values
        cells.append("" if first is None or second is None else f"{round(second - first, 3) + 0.0:+.3f}")  # not -0.000
    return cells


def draw(shown: Reference | Comparison, file: Path) -> None:
    """Writes the same curves as a PNG. UserError where the file cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="updates", ylabel="loss (nats a predicted token)")
    for curve in drawn(shown):
        label = None if curve.points else curve.name
        axes.plot(curve.x, curve.y, "o" if curve.points else "-", color=f"C{curve.color}", label=label)
    axes.legend(title="means of the training loss; dots: validation")
    axes.grid(alpha=0.3)
    try:
        figure.savefig(file, format="png")
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be written: {error.strerror}") from None
