"""The view of `zoo watch`: where runs are, their losses, what they say."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zoo.errors import UserError, nearest
from zoo.progress import duration, printable
from zoo.report.followed import Followed
from zoo.report.plot_text import AXIS, Curve, binned, has_braille, plot

if TYPE_CHECKING:
    from rich.console import RenderableType

HEAD = ("RUN", "UPDATE", "TOKENS/S", "LEFT", "LOSS", "VALIDATION", "BITS/BYTE")
RECENT = 20  # updates whose mean loss is shown
SAMPLE_LINES = 8
SECONDS = 1.0  # between two looks
LEAST_PLOT = 8  # rows
SILENT = 60.0  # seconds without a line after which that is said


def follow(folders: Sequence[Path]) -> None:
    """Shows runs until all have finished; once, where nobody watches. UserError where a folder is not there."""
    for folder in folders:
        if not folder.is_dir():
            beside = [str(path) for path in folder.parent.glob("*/")]
            raise UserError(f"there is no run {str(folder)!r}{nearest(str(folder), beside)}")
    runs, console = [Followed(folder) for folder in folders], Console(highlight=False)
    seen = partial(_seen, runs, console)
    watched = console.is_terminal and not console.is_dumb_terminal
    last = seen()
    if watched and not all(run.finished for run in runs):
        live = Live(last, console=console, screen=True, auto_refresh=False)
        try:  # a `with` would leave the terminal as it is where a signal comes while it is entered
            live.start(refresh=True)
            while not all(run.finished for run in runs):
                time.sleep(SECONDS)
                last = seen()
                live.update(last, refresh=True)
        finally:
            live.stop()
    console.print(last)


def _seen(runs: Sequence[Followed], console: Console) -> "RenderableType":
    for run in runs:
        run.read()
    return view(runs, console, console.width, console.height - 1)


def view(runs: Sequence[Followed], console: Console, width: int, height: int) -> "RenderableType":
    """A table of the runs, their curves, and what those that have ended wrote, in about `height` lines."""
    samples = [(run.name, run.sample) for run in runs]
    written = [_sample(name, text, width) for name, text in samples if text]
    below = sum(len(text.plain.splitlines()) + 1 for text in written)
    begun = [run for run in runs if run.steps]
    unit = "tokens" if all(run.plan for run in begun) else "updates"
    alike: dict[str, list[Followed]] = {}  # losses of two objectives measure two things
    for run in begun:
        alike.setdefault(run.objective, []).append(run)
    plots = alike or {"": []}
    rows = max(LEAST_PLOT, (height - len(runs) - below - 2) // len(plots) - 3)
    drawn = []
    for objective, group in plots.items():
        curves = _curves(group, width, unit, named=len(begun) > 1)
        text = plot(curves, width, rows, unit, braille=has_braille(console, len(begun)))
        drawn.append(Text(f"{objective}\n").append(text) if len(plots) > 1 else text)
    return Group(_table(runs), *(part for text in (*drawn, *written) for part in (Text(), text)))


def _table(runs: Sequence[Followed]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for run in runs:
        table.add_row(*map(Text, _row(run)))
    return table


def _row(run: Followed) -> tuple[str, ...]:
    if not run.steps:
        return run.name, "", "", "not begun", "", "", ""
    update = f"{run.step:,}" + (f"/{run.plan.updates:,}" if run.plan else "")
    rate = f"{run.rate:,.0f}" if run.rate else ""
    loss = f"{np.mean(run.losses[-RECENT:]):.3f}"
    return run.name, update, rate, _left(run), loss, *_validation(run)


def _left(run: Followed) -> str:
    if run.finished:
        return "finished"
    if run.age is not None and run.age > SILENT:
        return f"silent {duration(run.age)}"
    return "" if run.seconds_left is None else duration(run.seconds_left)


def _validation(run: Followed) -> tuple[str, str]:
    if not run.evaluated:
        return "", ""
    line = run.evaluated[max(run.evaluated)]
    bits = f"{line['bits_per_byte']:.3f}" if "bits_per_byte" in line else ""
    return f"{line['loss']:.3f}", bits


def _curves(runs: Sequence[Followed], width: int, unit: str, named: bool) -> list[Curve]:
    """Of every run its training loss, a mean for every place across, and the losses that were evaluated."""
    curves = []
    for number, run in enumerate(runs):
        scale = run.plan.tokens_per_update if run.plan and unit == "tokens" else 1
        steps, losses = np.array(run.steps, np.float64), np.array(run.losses)
        name = run.name if named else "training"
        curves.append(Curve(name, *binned(steps * scale, losses, 2 * (width - AXIS)), color=number))
        evaluated = sorted(run.evaluated)
        if evaluated:
            valid = [run.evaluated[step]["loss"] for step in evaluated]
            curves.append(Curve("validation", np.array(evaluated) * scale, valid, points=True, color=number))
    return curves


def _sample(name: str, text: str, width: int) -> Text:
    lines = [part for line in printable(text).strip().splitlines() for part in wrap(line, width) or [""]]
    more = ["..."] if lines[SAMPLE_LINES:] else []
    return Text("\n".join([f"{name} wrote:", *lines[:SAMPLE_LINES], *more]))
