"""What lies around the matmuls of an update: the start, the batch, the sums of micro-batches.

    .venv/bin/python scripts/bench_update.py [--turns 5]

Start: seconds from the command `zoo pretrain gpt2-nano` to the first line of metrics.jsonl, in a new ZOO_HOME (its
corpus is tokenized first) and again; and what importing takes. Batch: the host's work beside the update it is for.
Accumulation: 8 micro-batches, their gradients summed, beside 8 passes whose gradients are dropped. Account: an update
of gpt2-small with parts left out. Both in turns in one process. Writes its tables into docs/performance.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import machine, publish, run

from zoo import accounting, recipe
from zoo.train.bench import Workload, workload

Pass = Callable[[], dict[str, Any]]  # every task's total

NANOS = ("gpt2-nano", "bert-nano", "xlnet-nano", "transformer-nano", "transformer-xl-nano")
PARTS = 8
IMPORTS = """
from zoo.kernels import startup
startup.alone = True  # as in a command
from zoo.train.start import start_backend
start_backend()
import zoo.train.step, zoo.train.session
"""


def start_seconds(room: Path, run_name: str) -> float:
    """From the command to the end of the first update."""
    out = room / run_name
    command = [sys.executable, "-m", "zoo", "pretrain", "gpt2-nano", "--out", str(out)]
    begin = time.perf_counter()
    environment, nowhere = {**os.environ, "ZOO_HOME": str(room / "home")}, subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere) as process:
        metrics = out / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                sys.exit(f"{' '.join(command)} ended before its first update")
            time.sleep(0.02)
        taken = time.perf_counter() - begin
        process.terminate()
    return taken


def import_seconds() -> float:
    """A Python that imports what training does."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - begin


def starts() -> list[str]:
    """Markdown."""
    with tempfile.TemporaryDirectory() as room:
        first = start_seconds(Path(room), "first")
        again = statistics.median(start_seconds(Path(room), f"run-{n}") for n in range(3))
    imports = statistics.median(import_seconds() for _ in range(3))
    return [
        "| from the command to | seconds |",
        "|---|---|",
        f"| the first update, in a new ZOO_HOME | {first:.1f} |",
        f"| the first update, later | {again:.1f} |",
        f"| all imports | {imports:.1f} |",
        "",
    ]


def batches() -> list[str]:
    """Markdown: what the host does for an update, of recipes whose updates are short."""
    lines = ["| | batch, ms | update, ms | share |", "|---|---|---|---|"]
    for name in NANOS:
        found = run([sys.executable, "-m", "zoo", "bench", name, "--json"])
        host, device = found["batch_seconds"], found["update_seconds"]
        lines.append(f"| {name} | {1000 * host:.1f} | {1000 * device:.0f} | {host / device:.1%} |")
    return [*lines, ""]


def passes_of(work: Workload) -> tuple[Pass, Pass]:
    """Forwards and backwards over one micro-batch: its gradient added to a sum, and its gradient alone."""
    import tensorflow as tf

    engine, update = work.engine, work.feed.update(0)
    batch, factors = update.batches[0], update.factors(engine.scales)
    tensors = {task: tf.constant(factor, tf.float32) for task, factor in factors.items()}
    number, first = (tf.constant(0, tf.int64) for _ in range(2))
    alone = tf.function(engine._backward, autograph=False)
    return lambda: engine.gradient(batch, factors, 0, 0), lambda: alone(batch, tensors, number, first)[1]


def seconds_of(one: Pass, times: int = 1) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        for total in one().values():
            float(total)  # waits for the device
    return time.perf_counter() - begin


def account(name: str, rows: int, tokens: int, turns: int) -> list[str]:
    """Markdown: what an update's time goes into, by leaving parts out, in turns in one process."""
    from zoo.kernels.probe import matmul_speed

    still = dict.fromkeys(("dropout", "attention_dropout", "inner_dropout", "final_dropout"), 0.0)
    work = workload(recipe(name), rows, tokens)
    alone, without = (passes_of(each)[1] for each in (work, workload(recipe(name, model=still), rows, tokens)))
    precision, taken, speeds = work.recipe.train.precision, [], []
    for turn in range(1 + turns):
        taken.append((sum(work.run(turn)), seconds_of(alone), seconds_of(without)))
        speeds.append(matmul_speed(precision).gflops * 1e9)
    whole, passes, plain = (statistics.median(part) for part in zip(*taken[1:], strict=True))
    products = accounting.flops(work.recipe).per_token * rows * tokens / max(speeds)
    parts = {
        f"matrix products, at {max(speeds) / 1e9:,.0f} GFLOP/s": products,
        "softmax, norms, activations, sums, copies; products below that rate": plain - products,
        "dropout": passes - plain,
        "clip and Adam": whole - passes,
        "an update": whole,
    }
    lines = [f"| {name}, {rows} x {tokens}, {precision} | seconds | share |", "|---|---|---|"]
    return [*lines, *(f"| {what} | {value:.2f} | {value / whole:.0%} |" for what, value in parts.items()), ""]


def accumulation(name: str, turns: int) -> list[str]:
    """Markdown: passes whose gradients are summed, beside passes alone."""
    work = workload(recipe(name))
    summed, alone = passes_of(work)
    taken = [(seconds_of(summed, PARTS), seconds_of(alone, PARTS)) for _ in range(1 + turns)][1:]
    sums, plain = (statistics.median(part) for part in zip(*taken, strict=True))
    return [
        f"| {name}, {PARTS} x {work.recipe.rows_per_update} rows | {plain:.2f} | {sums:.2f} | {sums / plain:.3f}x |"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    lines = [f"{machine()}\n", *starts(), *batches()]
    lines += [f"| | {PARTS} passes, s | summed, s | ratio |", "|---|---|---|---|"]
    lines += [*accumulation("gpt2-nano", turns), *accumulation("bert-nano", turns), ""]
    lines += account("gpt2-small", 4, 512, turns)
    publish("update", "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
