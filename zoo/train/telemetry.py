"""What a run tells: metrics.jsonl, the trackers that follow it, and the display of whoever watches."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from zoo.progress import PLAIN_SECONDS, amount, duration, say
from zoo.train.run import METRICS
from zoo.train.trackers import Trackers

SMOOTHING = 0.9  # of the seconds a micro-batch takes, for the rate and the time left


class Metrics:
    """Appends one JSON object a line, and passes it on to trackers."""

    def __init__(self, folder: Path, trackers: Trackers):
        self.file = (folder / METRICS).open("a", encoding="utf-8")
        self.trackers = trackers

    def write(self, line: dict[str, Any]) -> None:
        """One line, on the disk at once so that others can follow."""
        self.trackers.write(line)
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()
        self.trackers.close()


class Display:
    """The progress of training: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(
        self, updates: int, start: int, tokens_per_update: int, baselines: str, advice: Callable[[float], str | None]
    ):
        self.updates = updates
        self.tokens_per_update = tokens_per_update
        self.tokens = float(start * tokens_per_update)
        self.baselines = baselines
        self.advice = advice  # what to say at a rate in tokens a second, if anything
        self.seconds_per_token: float | None = None
        self.losses = "first update: compiling"
        self.last_time = self.last_line = time.monotonic()
        self.first = True
        self.bar: Any = None

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        """Shows the bar while the block runs."""
        with ExitStack() as stack:
            if sys.stderr.isatty():
                from rich.console import Console
                from rich.progress import BarColumn, Progress, TextColumn

                columns = (
                    TextColumn("{task.percentage:>4.1f}%"),
                    BarColumn(20),
                    TextColumn("{task.description}", markup=False),
                )
                self.bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), refresh_per_second=4))
                self.task = self.bar.add_task("", total=self.updates * self.tokens_per_update, completed=self.tokens)
            yield self

    def micro_batch(self, tokens: float) -> None:
        """One micro-batch of `tokens` went through; the first, which compiles, does not count for the rate."""
        now = time.monotonic()
        took, self.last_time = (now - self.last_time) / tokens, now
        if self.first:
            self.first, self.losses = False, "first update"
        elif self.seconds_per_token is None:
            self.seconds_per_token = took
            if (line := self.advice(1 / took)) is not None:
                self.tell(line)
        else:
            self.seconds_per_token = SMOOTHING * self.seconds_per_token + (1 - SMOOTHING) * took
        self.tokens += tokens
        self._refresh(now)

    def tell(self, line: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self.bar is not None:
            self.bar.console.print(line, highlight=False)
        else:
            say(line)

    def evaluating(self, rows: int, of: int) -> None:
        """Rows of the validation split went through."""
        now = time.monotonic()
        text = f"evaluating: row {rows} of {of}"
        if self.bar is not None:
            self.bar.update(self.task, description=text)
        elif now - self.last_line >= PLAIN_SECONDS:
            self.last_line = now
            say(text)

    def pause(self) -> None:
        """Forgets the time since the last micro-batch (an evaluation or a checkpoint took it)."""
        self.last_time = time.monotonic()

    def update(self, line: dict[str, Any], tasks: list[str]) -> None:
        """One update is done."""
        parts = [f"{task} {line[task]:.3f}" for task in tasks] if len(tasks) > 1 else []
        self.losses = f"loss {line['loss']:.3f}" + (f" ({', '.join(parts)})" if parts else "")

    @property
    def seconds_left(self) -> float | None:
        """The time the remaining tokens take at the present rate."""
        if self.seconds_per_token is None:
            return None
        return max(0.0, self.updates * self.tokens_per_update - self.tokens) * self.seconds_per_token

    def _refresh(self, now: float) -> None:
        if self.bar is None and now - self.last_line < PLAIN_SECONDS:
            return
        rate = left = ""
        if self.seconds_per_token:
            rate = f", {1 / self.seconds_per_token:,.0f} tokens/s"
        if self.seconds_left is not None:
            left = f", {duration(self.seconds_left)} left"
        done, of = self.tokens / self.tokens_per_update, self.updates
        at = f"{done:.0f}" if done >= 100 or done.is_integer() else f"{done:.2f}"
        text = f"update {at} of {of}: {self.losses} [{self.baselines}], {amount(self.tokens)}tokens{rate}{left}"
        if self.bar is not None:
            self.bar.update(self.task, completed=self.tokens, description=text)
        else:
            self.last_line = now
            say(text)
