"""Services that follow a run: TensorBoard where it is installed, and those that `--track` names.

Each works in a thread of its own. One that fails or hangs, whenever it does, is dropped with a line of warning:
training goes on, and metrics.jsonl has everything.
"""

import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from zoo.disk import write_whole
from zoo.errors import UserError, nearest
from zoo.progress import say
from zoo.schema import Recipe

PROJECT = "zoo"
IDENTITY = "tracked_as.txt"  # in a run's folder: what services know it by, so that they go on with it
MOST_WAITING = 10_000  # lines that a tracker may be behind
CLOSE_SECONDS = 30.0  # that trackers have for the rest when training has ended, all together


class Tracker(Protocol):
    """What follows a run. Whatever it raises ends it, and nothing else."""

    def write(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""

    def close(self) -> None:
        """The run has ended, or is interrupted."""


class Tracked(NamedTuple):
    """What trackers know of a run."""

    folder: Path
    config: dict[str, Any]  # its recipe
    identity: str  # its own, and the same when it is resumed; empty where TensorBoard alone follows
    resumed: bool

    @property
    def name(self) -> str:
        return self.folder.absolute().name


def values(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl, as train/loss."""
    return {f"{line['split']}/{key}": value for key, value in line.items() if isinstance(value, float)}


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, run: Tracked):
        # TensorBoard would import TensorFlow where it is installed, and takes this as a sign to write files by itself.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
        self.writer = import_module("tensorboard.summary").Writer(str(run.folder / "tensorboard"))

    def write(self, line: dict[str, Any]) -> None:
        for key, value in values(line).items():
            self.writer.add_scalar(key, value, line["step"])

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """Weights & Biases; WANDB_MODE, WANDB_API_KEY and the like mean what they mean there."""

    def __init__(self, run: Tracked):
        about: dict[str, Any] = {"project": PROJECT, "name": run.name, "config": run.config, "dir": str(run.folder)}
        settings = {"console": "off"}  # what this process prints is its own
        self.run = import_module("wandb").init(**about, id=run.identity, resume="allow", settings=settings)

    def write(self, line: dict[str, Any]) -> None:
        self.run.log(values(line), step=line["step"])

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """Trackio: a data base on this machine, or what TRACKIO_SPACE_ID or TRACKIO_SERVER_URL name."""

    def __init__(self, run: Tracked):
        resume = "allow" if run.resumed else "never"  # it goes by names, and another run may have had this one
        with redirect_stdout(sys.stderr):  # where results go it would print how to look at them
            self.run = import_module("trackio").init(PROJECT, run.name, config=run.config, resume=resume, embed=False)

    def write(self, line: dict[str, Any]) -> None:
        self.run.log(values(line), step=line["step"])

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self.run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI or where it keeps its runs by default."""

    def __init__(self, run: Tracked):
        mlflow, self.entities = import_module("mlflow"), import_module("mlflow.entities")
        self.client = client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(PROJECT)
        experiment = client.create_experiment(PROJECT) if found is None else found.experiment_id
        tags = {"zoo.run": run.identity}
        if known := client.search_runs([experiment], f"tags.`zoo.run` = '{run.identity}'"):
            self.id = known[0].info.run_id
            client.update_run(self.id, "RUNNING")
        else:
            self.id = client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
            params = [self.entities.Param(key, str(value)) for key, value in _flat(run.config).items()]
            client.log_batch(self.id, params=params)

    def write(self, line: dict[str, Any]) -> None:
        now = int(time.time() * 1000)
        metrics = [self.entities.Metric(key, value, now, line["step"]) for key, value in values(line).items()]
        self.client.log_batch(self.id, metrics=metrics)

    def close(self) -> None:
        self.client.set_terminated(self.id)


def _flat(sections: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in sections.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


TRACKERS: dict[str, Callable[[Tracked], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
    "mlflow": MLflow,
}


def check(names: Iterable[str]) -> None:
    """Refuses trackers that do not exist or are not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track {name}: there is no such tracker{nearest(name, TRACKERS)}")
        if not _installed(name):
            raise UserError(f"--track {name}: it is not installed; pip install 'objective-zoo[{name}]'")


def _installed(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


class Trackers:
    """All that follow one run.

    told: the steps and splits of lines that were written before the run was resumed; trackers have them already.
    """

    def __init__(self, names: Iterable[str], folder: Path, recipe: Recipe, told: Iterable[tuple[int, str]] = ()):
        self.told, names = set(told), list(names)
        identity = _identity(folder) if names else ""
        run = Tracked(folder, recipe.model_dump(mode="json"), identity, bool(self.told))
        if _installed("tensorboard"):
            names.insert(0, "tensorboard")
        self.all = [_Beside(name, lambda start=TRACKERS[name]: start(run)) for name in dict.fromkeys(names)]

    def write(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl, for all of them; it waits for none."""
        if (line["step"], line["split"]) not in self.told:
            for tracker in self.all:
                tracker.write(line)

    def close(self) -> None:
        """Returns when all have ended, or have been given up."""
        end = time.monotonic() + CLOSE_SECONDS
        for tracker in self.all:
            tracker.finish()
        for tracker in self.all:
            tracker.join(max(0.0, end - time.monotonic()))


def _identity(folder: Path) -> str:
    file = folder / IDENTITY
    if not file.exists():
        write_whole(file, uuid.uuid4().hex[:16])
    return file.read_text(encoding="utf-8")


class _Beside:
    """A tracker in a thread of its own, which ends with the process."""

    def __init__(self, name: str, start: Callable[[], Tracker]):
        self.name, self.start, self.dropped = name, start, False
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self.thread = threading.Thread(target=self._follow, name=f"track-{name}", daemon=True)
        self.thread.start()

    def write(self, line: dict[str, Any] | None) -> None:
        if self.dropped:
            return
        try:
            self.lines.put_nowait(line)
        except queue.Full:
            self._drop(f"it is {MOST_WAITING:,} lines behind")

    def finish(self) -> None:
        """Lets it end when it has written what it was given."""
        self.write(None)

    def join(self, seconds: float) -> None:
        self.thread.join(0.0 if self.dropped else seconds)
        if self.thread.is_alive() and not self.dropped:
            self._drop(f"it did not end within {CLOSE_SECONDS:.0f} s")

    def _follow(self) -> None:
        try:
            tracker = self.start()
            while (line := self.lines.get()) is not None:
                tracker.write(line)
            tracker.close()
        except Exception as error:  # noqa: BLE001 -- a tracker may raise anything, and training goes on
            self._drop(f"{type(error).__name__}: {error}")

    def _drop(self, why: str) -> None:
        if self.dropped:  # one that hung may raise later
            return
        self.dropped = True
        say(f"warning: {self.name} no longer follows this run, which goes on ({' '.join(why.split())})")
