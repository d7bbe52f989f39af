"""What a cluster would make of a recipe: time, efficiency and memory under data parallelism, with the arithmetic.

    .venv/bin/python scripts/plan_cluster.py gpt2-small --workers 8 --gbps 100 --tflops 150 [--memory 80]

A worker is a device that does `--tflops` of matrix products for real (its peak times the MFU that `zoo bench` tells),
and whose link moves `--gbps` in each direction. Gradients are reduced in a ring after the last backward pass, as the
engine does it: nothing of that is hidden behind computing. The result is a model, not a measurement.
"""

import argparse
import math

from zoo import accounting
from zoo.errors import UserError
from zoo.progress import duration
from zoo.registry import recipe as find_recipe
from zoo.schema import Recipe

ENOUGH = 0.8  # efficiency below which more workers are poorly spent


def compute_seconds(recipe: Recipe, workers: int, flops: float) -> float:
    """Of the worker with the most rows, which all others wait for."""
    rows = -(-recipe.rows_per_update // workers)
    return rows * recipe.row_tokens * accounting.flops(recipe).per_token / flops


def reduce_seconds(recipe: Recipe, workers: int, bytes_per_second: float) -> float:
    """A ring: each worker sends and gets 2 (W - 1) / W of the gradient (Patarasuk and Yuan 2009)."""
    return 2 * (workers - 1) / workers * accounting.sent_bytes(recipe) * accounting.params(recipe) / bytes_per_second


def efficiency(recipe: Recipe, workers: int, flops: float, bytes_per_second: float) -> float:
    """The speed of so many workers, by that of one, by their number."""
    together = compute_seconds(recipe, workers, flops) + reduce_seconds(recipe, workers, bytes_per_second)
    return compute_seconds(recipe, 1, flops) / (workers * together)


def most_workers(recipe: Recipe, flops: float, bytes_per_second: float) -> int:
    """The most workers, as a power of two, that stay above ENOUGH."""
    powers = (1 << n for n in range(recipe.rows_per_update.bit_length()))
    return max(w for w in powers if w == 1 or efficiency(recipe, w, flops, bytes_per_second) >= ENOUGH)


def plan(recipe: Recipe, workers: int, gbps: float, tflops: float, memory_gb: float | None) -> list[str]:
    """The lines that are printed."""
    flops, link = tflops * 1e12, gbps * 1e9 / 8
    number, per_token = accounting.params(recipe), accounting.flops(recipe).per_token
    rows, tokens, updates = recipe.rows_per_update, recipe.row_tokens, recipe.train.updates
    most_rows = -(-rows // workers)
    compute, reduce = compute_seconds(recipe, workers, flops), reduce_seconds(recipe, workers, link)
    step, good = compute + reduce, efficiency(recipe, workers, flops, link)
    half = recipe.train.precision != "float32"
    needed = sum(term.value for term in accounting.memory(recipe, 1, half))
    lines = [
        f"{recipe.name}, {workers} workers: {rows} rows x {tokens} tokens an update, {most_rows} rows a worker at most",
        f"computing   {most_rows} x {tokens} tokens x {accounting.size(per_token, 'FLOP')}"
        f" / {accounting.size(flops, 'FLOP')}/s = {duration(compute)}",
        f"reducing    2 x {workers - 1} / {workers} x {accounting.sent_bytes(recipe)} bytes x {number:,}"
        f" / {accounting.size(link, 'B')}/s = {duration(reduce)}",
        f"an update   {duration(compute)} + {duration(reduce)} = {duration(step)}, efficiency {good:.0%}",
        f"all of it   {updates:,} updates x {duration(step)} = {duration(updates * step)}"
        f" ({rows * tokens / step:,.0f} tokens/s)",
        f"memory      {accounting.size(needed, 'B')} a device with one row at once, whatever the number of workers",
    ]
    if memory_gb is not None and needed > memory_gb * 1e9:
        lines.append(f"not enough: data parallelism keeps all weights on each device, and {memory_gb:g} GB are less")
    if workers > rows:
        lines.append(f"not enough: {workers - rows} workers have no row; larger updates, or parallel layers")
    if good < ENOUGH:
        best = most_workers(recipe, flops, link)
        lines.append(f"not enough: below {ENOUGH:.0%}; {best} is the most with which it stays above")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--gbps", type=float, required=True, help="of a worker's link, gigabits a second")
    parser.add_argument("--tflops", type=float, required=True, help="of a worker, as reached and not as sold")
    parser.add_argument("--memory", type=float, help="of a worker, GB")
    given = parser.parse_args()
    for name in ("workers", "gbps", "tflops", "memory"):
        value = getattr(given, name)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{name} is {value}; it must be above 0")
    try:
        recipe = find_recipe(given.recipe)
    except UserError as error:
        parser.error(str(error))
    print("\n".join(plan(recipe, given.workers, given.gbps, given.tflops, given.memory)))


if __name__ == "__main__":
    main()
