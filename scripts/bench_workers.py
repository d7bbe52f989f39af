"""What the engine for several workers costs one worker, which shares its updates with nobody.

    .venv/bin/python scripts/bench_workers.py [RECIPE ...] [--turns 3]

`zoo bench` of the same work in processes of their own, in turns: as `zoo pretrain` trains alone, and as the only worker
of a cluster (MultiWorkerMirroredStrategy, its coordination service, its variables). Writes its table into
docs/performance.md.
"""

import argparse
import json
import statistics
import sys

from peers import in_turns, machine, publish

NAMES = ("gpt2-nano", "bert-nano")
ALONE, IN_CLUSTER = "alone", "cluster"


def measure(name: str, how: str) -> None:
    """In this process: prints what `zoo bench --json` does."""
    from zoo.registry import recipe
    from zoo.train import bench
    from zoo.train.cluster import Cluster
    from zoo.train.launch import local_workers

    if how == IN_CLUSTER:
        address = local_workers(1)[0]["ZOO_WORKERS"]
        bench.cluster = lambda: Cluster((address,), 0, "bench_workers")
    print(json.dumps(bench.bench(recipe(name))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=NAMES, metavar="RECIPE", help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--as", dest="how", choices=(ALONE, IN_CLUSTER), help="measure one in this process")
    given = parser.parse_args()
    if given.how is not None:
        measure(given.recipes[0], given.how)
        return
    lines = [
        f"{machine()}; medians of {given.turns} turns",
        "",
        "| | alone, tokens/s | the only worker of a cluster | share |",
        "|---|---|---|---|",
    ]
    for name in given.recipes:
        commands = {how: [sys.executable, __file__, name, "--as", how] for how in (ALONE, IN_CLUSTER)}
        found = in_turns(commands, given.turns)
        alone, together = (statistics.median(each["tokens_per_second"] for each in found[how]) for how in commands)
        lines.append(f"| {name} | {alone:,.0f} | {together:,.0f} | {together / alone:.1%} |")
    publish("workers", "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
