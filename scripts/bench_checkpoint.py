"""What saving costs training, and how soon a checkpoint is loaded: GPT-2 small, 4 rows x 512 random tokens an update.

    .venv/bin/python scripts/bench_checkpoint.py [--saves 3] [--folder FOLDER]

A save holds training up by what the updates beside it take beyond their usual time, which is measured in between.
`zoo.load` runs in a process of its own that has imported TensorFlow; the files are read from the
disk, since they are thrown out of the page cache before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from zoo.registry import recipe
from zoo.train import checkpoint, run
from zoo.train.bench import workload
from zoo.train.saver import Saver

ROWS, TOKENS = 4, 512
WARM_UPDATES, USUAL_UPDATES = 2, 5
LOAD = """
import sys, time, tensorflow, zoo
begin = time.perf_counter()
zoo.load(sys.argv[1])
print(time.perf_counter() - begin)
"""


def loading(where: Path, cached: bool) -> float:
    """Seconds of `zoo.load` in a fresh process."""
    for file in where.rglob("*.*"):
        if not cached and file.is_file():
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", LOAD, str(where)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk that is measured; default: the one of temporary files")
    arguments = parser.parse_args()

    work = workload(recipe("gpt2-small"), ROWS, TOKENS)
    engine, saver = work.engine, Saver()
    number = 0

    def update() -> float:
        nonlocal number
        number += 1
        return work.run(number)[1]

    for _ in range(WARM_UPDATES):
        update()
    usual = [update() for _ in range(USUAL_UPDATES)]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        run.write_recipe(folder, work.recipe)
        run.write_environment(folder, corpus={})
        beside, writing = [], []  # seconds and number of the updates beside a save; seconds of the save itself

        def save(step: int, weights: dict, slots: dict, memory: dict) -> None:
            begin = time.perf_counter()
            checkpoint.save(folder, step, weights, slots, memory, {"tokens": step * ROWS * TOKENS})
            checkpoint.drop(folder, work.recipe.train, {})
            writing.append(time.perf_counter() - begin)

        for _ in range(arguments.saves):
            begin = time.perf_counter()
            saver.begin(number, partial(save, number, *engine.state()))
            taken = [time.perf_counter() - begin, update()]
            while saver.busy:
                taken.append(update())
            saver.wait()
            beside.append((sum(taken), len(taken) - 1))
            usual += [update(), update()]
        one = statistics.median(usual)
        stall = statistics.median(seconds - updates * one for seconds, updates in beside)
        newest = next(iter(checkpoint.found(folder).values()))
        size = sum(file.stat().st_size for file in newest.iterdir())
        print(f"an update                    {one:6.2f} s (from {min(usual):.2f} to {max(usual):.2f})")
        print(f"a save, {size / 1e9:.2f} GB, takes      {statistics.median(writing):6.2f} s")
        print(f"training is held up by       {stall:6.2f} s, {stall / one:.2f} of an update", flush=True)
        print(f"zoo.load from the disk       {loading(folder, cached=False):6.2f} s")
        print(f"zoo.load from the page cache {loading(folder, cached=True):6.2f} s")


if __name__ == "__main__":
    main()
