"""A run's metrics.jsonl, read as it grows: every line once, however long the file is."""

import json
import time
from array import array
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from zoo.errors import UserError
from zoo.registry import read_sections
from zoo.train.run import METRICS, RECIPE, SAMPLE

BLOCK = 1 << 23  # bytes that are read at once
TAIL = 64  # bytes before the place that was read up to, by which a file is known again
RECENT = 50  # updates whose rate counts
QUIET = 60.0  # seconds after which a run that has all its updates counts as finished without a sample


class Plan(NamedTuple):
    """What a run's recipe says of its length, and what it learns."""

    updates: int
    tokens_per_update: int
    objective: str | None  # its name: losses of two objectives measure two things


class Followed:
    """What is known of a run, by what its folder holds."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / METRICS
        self.plan: Plan | None = None
        self._start_over()

    def _start_over(self) -> None:
        self.read_bytes, self.tail = 0, b""
        self.steps, self.losses = array("q"), array("d")  # of updates
        self.rates: deque[float] = deque(maxlen=RECENT)  # tokens a second
        self.evaluated: dict[int, dict[str, Any]] = {}  # lines of the validation split, by update
        self.age: float | None = None  # seconds since something was written

    def read(self) -> None:
        """Takes in what is new. A file that was cut back or written again is read from its start."""
        self.plan = self.plan or _plan(self.folder / RECIPE)
        try:
            with self.file.open("rb") as file:
                file.seek(max(0, self.read_bytes - len(self.tail)))
                if file.read(len(self.tail)) != self.tail:
                    self._start_over()
                    file.seek(0)
                self._take_all(file)
            self.age = time.time() - self.file.stat().st_mtime
        except FileNotFoundError:
            self._start_over()
        except OSError as error:
            raise UserError(f"{self.file} cannot be read: {error.strerror}") from None

    def _take_all(self, file: Any) -> None:
        rest = b""
        while block := file.read(BLOCK):
            *lines, rest = (rest + block).split(b"\n")  # the last may be whole another time
            for line in lines:
                self._take(line)
                self.read_bytes += len(line) + 1
            if lines:
                self.tail = (lines[-1] + b"\n")[-TAIL:]

    def _take(self, text: bytes) -> None:
        try:
            line = json.loads(text)
            step, split, loss = int(line["step"]), line["split"], float(line["loss"])
        except (ValueError, LookupError, TypeError):
            return  # cut off when a machine went down
        if split == "valid":
            self.evaluated[step] = line
        if split != "train":
            return
        while self.steps and self.steps[-1] >= step:  # it goes on from an earlier update
            self.evaluated.pop(self.steps.pop(), None)
            self.losses.pop()
        self.steps.append(step)
        self.losses.append(loss)
        if "tokens_per_second" in line:
            self.rates.append(line["tokens_per_second"])

    @property
    def name(self) -> str:
        return self.folder.absolute().name

    @property
    def objective(self) -> str:
        """Its name; empty where the recipe has none."""
        return self.plan.objective or "" if self.plan else ""

    @property
    def step(self) -> int:
        """Updates done."""
        return self.steps[-1] if self.steps else 0

    @property
    def rate(self) -> float | None:
        """Tokens a second, of late."""
        return median(self.rates) if self.rates else None

    @property
    def seconds_left(self) -> float | None:
        """Until the schedule ends, at this rate and without evaluations."""
        if self.plan is None or not self.rate:
            return None
        return max(0, self.plan.updates - self.step) * self.plan.tokens_per_update / self.rate

    @property
    def sample(self) -> str | None:
        """What the trained model wrote; None before the schedule's end."""
        try:
            return (self.folder / SAMPLE).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    @property
    def finished(self) -> bool:
        """Whether its schedule has ended: its last update is evaluated, and there is the sample that comes last."""
        if self.plan is None or self.step < self.plan.updates or self.plan.updates not in self.evaluated:
            return False
        return self.sample is not None or (self.age or 0.0) > QUIET


def _plan(recipe: Path) -> Plan | None:
    """None where there is no recipe, or none that says this: a run may be watched that nothing here could train."""
    try:
        sections = read_sections(recipe)
        train, objective = sections["train"], sections.get("objective", {})
        return Plan(int(train["updates"]), int(train["tokens_per_update"]), objective.get("name"))
    except (UserError, LookupError, TypeError, ValueError, AttributeError):
        return None
