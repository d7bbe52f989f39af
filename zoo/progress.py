"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere. Results never come this way."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

PLAIN_SECONDS = 10.0  # between two plain lines of the same work


def say(line: str) -> None:
    """One line for the person who watches. The work goes on where nobody does any more, or their disk is full."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        into_nothing(sys.stderr)


def into_nothing(stream: TextIO) -> None:
    """Whatever is still in this stream of the process, or comes later, is thrown away."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def printable(text: str) -> str:
    """The text without what would steer a terminal: a young model writes anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def duration(seconds: float) -> str:
    """A time a person can judge at a glance: 0.12 s, 42 s, 3.5 min, 7.1 h, 12 days, 3.4 years."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h"), (6.3e7, 86400, "days")):
        if seconds < limit:
            return f"{seconds / unit:.{0 if unit == 1 else 1}f} {name}"
    return f"{seconds / 31557600:.1f} years"


def amount(value: float) -> str:
    """A count with a metric prefix: 950, 12.2 M."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1000 if prefix == 'k' else limit):.1f} {prefix}"
    return f"{value:.0f} "


@contextmanager
def progress(what: str, total: float | None = None, unit: str = "") -> Iterator[Callable[[float], None]]:
    """Yields `advance(n)`; shows what is done of `total` (in `unit`), the rate and the time left."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task, done = bar.add_task(what, total=total, done=""), 0.0

            def advance(n: float) -> None:
                nonlocal done
                done += n
                bar.update(task, completed=done, done=f"{amount(done)}{unit}")

            yield advance
        return

    begin = last = time.monotonic()
    done = 0.0

    def advance_plainly(n: float) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last < PLAIN_SECONDS:
            return
        last = now
        of = left = ""
        if total:
            of = f" of {amount(total)}{unit} ({done / total:.0%})"
            left = f", {duration((now - begin) * (total - done) / done)} left" if done else ""
        say(f"{what}: {amount(done)}{unit}{of}{left}")

    yield advance_plainly
