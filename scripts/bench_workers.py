"""What the engine for several workers costs one worker, which shares its updates with nobody.

    .venv/bin/python scripts/bench_workers.py [RECIPE ...] [--turns 30]

The same updates on random tokens in two processes: as `zoo pretrain` trains alone, and as the only worker of a cluster
(MultiWorkerMirroredStrategy, its coordination service, its variables). They take turns of a second or two, in changing
order, so that what a machine does over minutes meets both alike. Writes its table into docs/performance.md.
"""

import argparse
import statistics
import subprocess
import sys
from typing import Any

from peers import machine, publish

NAMES = ("gpt2-nano", "bert-nano")
ALONE, IN_CLUSTER = "alone", "cluster"
UPDATES = 3  # of a turn


def work(name: str, how: str) -> None:
    """In a process of its own: for every line that comes, some updates, and a line with their seconds."""
    from zoo.registry import recipe
    from zoo.train import bench
    from zoo.train.cluster import Cluster
    from zoo.train.launch import local_workers

    if how == IN_CLUSTER:
        address = local_workers(1)[0]["ZOO_WORKERS"]
        bench.cluster = lambda: Cluster((address,), 0, "bench_workers")
    workload, done = bench.workload(recipe(name)), 0
    print(workload.recipe.train.tokens_per_update, flush=True)
    for _ in sys.stdin:
        seconds = [workload.run(done + n)[1] for n in range(UPDATES)]
        done += UPDATES
        print(sum(seconds), flush=True)


def speeds(name: str, turns: int) -> dict[str, float]:
    """Tokens a second of both, from the median of their turns."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    workers: dict[str, Any] = {
        how: subprocess.Popen([sys.executable, __file__, name, "--as", how], **pipes) for how in (ALONE, IN_CLUSTER)
    }
    tokens, _ = (int(worker.stdout.readline()) for worker in workers.values())
    taken: dict[str, list[float]] = {how: [] for how in workers}
    for turn in range(1 + turns):  # in the first all is compiled
        for how in list(workers)[:: -1 if turn % 2 else 1]:
            print("go", file=workers[how].stdin)
            taken[how].append(float(workers[how].stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    return {how: UPDATES * tokens / statistics.median(seconds[1:]) for how, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=NAMES, metavar="RECIPE", help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--as", dest="how", choices=(ALONE, IN_CLUSTER), help="work for the other process")
    given = parser.parse_args()
    if given.how is not None:
        work(given.recipes[0], given.how)
        return
    lines = [f"{machine()}; medians of {given.turns} turns", ""]
    lines += ["| | alone, tokens/s | the only worker of a cluster | share |", "|---|---|---|---|"]
    for name in given.recipes:
        found = speeds(name, given.turns)
        share = found[IN_CLUSTER] / found[ALONE]
        lines.append(f"| {name} | {found[ALONE]:,.0f} | {found[IN_CLUSTER]:,.0f} | {share:.1%} |")
    publish("workers", "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
