"""Kills a run again and again, and compares what it comes to with a run that was left alone.

    .venv/bin/python scripts/torture.py [gpt2-nano] [--kills 30] [--seed 0] [--data TEXT] [--set KEY=VALUE ...]

Every process is killed with SIGKILL and the next one resumes the run: at a random moment, while it starts, while it
writes a checkpoint, when that gets its name and old ones are deleted, while it evaluates. A run that comes to its end
before all kills are done is compared and begun anew. Weights, slots, the other files and the lines of metrics.jsonl
without timings must be equal bit by bit; exit code 1 and the differences where they are not.
"""

import argparse
import collections
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SETTINGS = {
    "train.updates": 300,
    "train.warmup_updates": 20,
    "train.checkpoint_every": 5,
    "train.keep_checkpoints": 2,
    "train.evaluate_every": 20,
    "train.evaluate_tokens": 8192,
}
PATIENCE = 300.0  # seconds for a process to come to a moment; a start compiles


class Life:
    """A process that trains a run, and what can be seen of it from outside."""

    def __init__(self, command: list[str], run: Path):
        self.run, self.checkpoints, self.metrics = run, run / "checkpoints", run / "metrics.jsonl"
        self.begin, self.born = time.monotonic(), time.time()
        self.log = run.with_suffix(".log").open("ab")
        self.process = subprocess.Popen([*command, "--out", str(run), "--resume"], stderr=self.log, stdout=self.log)

    @property
    def age(self) -> float:
        return time.monotonic() - self.begin

    @property
    def writes(self) -> bool:
        """A checkpoint is being written or deleted."""
        return self.checkpoints.is_dir() and any(path.name.startswith(".") for path in self.checkpoints.iterdir())

    @property
    def trains(self) -> bool:
        """It has come as far as to cut metrics.jsonl back, or has written to it."""
        return self.metrics.exists() and self.metrics.stat().st_mtime > self.born

    @property
    def last_line(self) -> dict | None:
        """The last whole line of metrics.jsonl."""
        text = self.metrics.read_text() if self.trains else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return json.loads(whole[-1]) if whole else None

    def evaluates(self, every: int) -> bool:
        """The last update is to be evaluated, and is not yet."""
        line = self.last_line
        return line is not None and line["split"] == "train" and line["step"] % every == 0

    def until(self, come: Callable[[], bool]) -> None:
        """Waits for a moment, or for the process's end."""
        while self.process.poll() is None and not come():
            if self.age > PATIENCE:
                sys.exit(f"{PATIENCE:.0f} s were too short for a moment to come; see {self.log.name}")
            time.sleep(0.001)

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= until)

    def kill(self, every: int) -> str | None:
        """Kills the process; returns what it was doing, None where it had come to the run's end before."""
        self.process.kill()
        code = self.process.wait()
        self.log.close()
        if code == 0:
            return None
        if code != -9:
            sys.exit(f"exit code {code}; see {self.log.name}")
        if not self.trains:
            return "starting"
        if self.writes:
            return "writing or deleting a checkpoint"
        return "evaluating" if self.evaluates(every) else "training"


class Torment:
    """The moments at which lives end, drawn by a seed."""

    def __init__(self, seed: int, start: float, update: float, every: int):
        self.draws = random.Random(seed)
        self.start, self.update, self.every = start, update, every
        self.coming: list[Callable[[Life], None]] = []

    def wait(self, life: Life) -> None:
        """Returns when the next moment has come."""
        if not self.coming:
            self.coming = [self.any_time, self.starting, self.writing, self.naming, self.evaluating, self.any_time]
            self.draws.shuffle(self.coming)
        self.coming.pop()(life)

    def any_time(self, life: Life) -> None:
        life.sleep(self.draws.uniform(0, self.start + 40 * self.update))

    def starting(self, life: Life) -> None:
        life.sleep(self.draws.uniform(0, self.start))

    def writing(self, life: Life) -> None:
        life.until(lambda: life.trains)
        for _ in range(self.draws.randint(1, 3)):
            life.until(lambda: not life.writes)
            life.until(lambda: life.writes)
        life.sleep(self.draws.uniform(0, 0.05))

    def naming(self, life: Life) -> None:
        life.until(lambda: life.trains)
        life.until(lambda: life.writes)
        life.until(lambda: not life.writes)

    def evaluating(self, life: Life) -> None:
        life.until(lambda: life.evaluates(self.every))
        life.sleep(self.draws.uniform(0, 0.1))


def differences(one: Path, other: Path) -> Iterator[str]:
    """What two runs do not have in common, in words; timings apart."""

    def contents(run: Path) -> dict[str, Path]:
        files = (path for path in sorted(run.rglob("*")) if path.is_file() and "tensorboard" not in path.parts)
        return {str(path.relative_to(run)): path for path in files}

    def untimed(file: Path) -> list[dict]:
        lines = map(json.loads, file.read_text().splitlines())
        return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]

    ones, others = contents(one), contents(other)
    for name in sorted(ones.keys() ^ others.keys()):
        yield f"only {one if name in ones else other} has {name}"
    for name in sorted(ones.keys() & others.keys()):
        a, b = ones[name], others[name]
        if name == "environment.json" or a.read_bytes() == b.read_bytes():
            continue
        if name == "metrics.jsonl":
            pairs = zip(untimed(a), untimed(b), strict=False)
            apart = next((pair for pair in pairs if pair[0] != pair[1]), None)
            if apart is not None:
                yield f"{name}: {apart[0]} and {apart[1]}"
            elif len(untimed(a)) != len(untimed(b)):
                yield f"{name}: {len(untimed(a))} and {len(untimed(b))} lines"
        elif name.endswith(".safetensors"):
            x, y = load_file(a), load_file(b)
            unequal = [key for key in x.keys() & y.keys() if not np.array_equal(x[key], y[key])]
            yield f"{name}: {len(unequal)} of {len(x)} tensors, {sorted(unequal)[:4]}"
        else:
            yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="gpt2-nano")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data", help="what is trained on; default: the recipe's corpus")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="beside the settings here")
    arguments = parser.parse_args()

    settings = SETTINGS | dict(pair.split("=", 1) for pair in arguments.set)
    command = [sys.executable, "-m", "zoo", "pretrain", arguments.recipe]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command += [] if arguments.data is None else ["--data", arguments.data]
    room = Path(tempfile.mkdtemp(prefix="torture-"))
    whole, victim = room / "whole", room / "victim"
    begin = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - begin:5.0f} s  {line}", flush=True)

    tell(f"{arguments.recipe} left alone, in {room} ...")
    subprocess.run([*command, "--stop-at", "1", "--out", str(room / "first")], check=True)  # prepares the corpus
    shutil.rmtree(room / "first")
    life = Life(command, whole)
    life.until(lambda: life.last_line is not None)
    start = life.age
    life.until(lambda: False)
    seconds = life.age
    every = int(settings["train.evaluate_every"])
    life.kill(every)
    update = (seconds - start) / int(settings["train.updates"])
    tell(f"it took {seconds:.0f} s, {start:.1f} s of them to its first update")

    torment = Torment(arguments.seed, start, update, every)
    met: collections.Counter[str] = collections.Counter()
    runs, at = 0, time.monotonic()
    try:
        while True:
            life = Life(command, victim)
            if met.total() < arguments.kills:
                torment.wait(life)
            else:
                life.until(lambda: False)
            doing = life.kill(every)
            if doing is not None:
                met[doing] += 1
                left = (time.monotonic() - at) / met.total() * (arguments.kills - met.total())
                tell(f"kill {met.total()} of {arguments.kills}: {doing}; {left:.0f} s left, and the run's rest")
                continue
            runs += 1
            if found := list(differences(whole, victim)):
                print("\n".join(found))
                sys.exit(f"the run is not what it is when left alone; both are in {room}")
            if met.total() == arguments.kills:
                break
            shutil.rmtree(victim)
    finally:
        life.process.kill()
    shutil.rmtree(room)
    shown = ", ".join(f"{count} {doing}" for doing, count in met.most_common())
    tell(f"{met.total()} kills ({shown}) in {runs} runs: all equal to the run that was left alone")


if __name__ == "__main__":
    main()
