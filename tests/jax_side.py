"""The JAX side of tests/test_jax.py: a process of its own, for Keras has one backend in each."""

import json
import sys

from zoo.train.start import use_backend

UPDATES = 20


def losses(bench) -> list[dict[str, float]]:
    """Every task's mean loss, and the gradient's norm, in each of some updates."""
    from zoo.train.schedule import learning_rate

    found = []
    for number in range(UPDATES):
        weights, totals = bench.add(number)
        norm = bench.engine.apply(learning_rate(bench.recipe.train, number), number)
        found.append({task: total / weights[task] for task, total in totals.items()} | {"norm": float(norm)})
    return found


def equality(name: str, micro_rows: str, model: str) -> list[dict[str, float]]:
    from shrunk import Bench

    return losses(Bench(name, int(micro_rows), json.loads(model), updates=UPDATES))


def main(what: str, *arguments: str) -> None:
    use_backend("jax")
    print(json.dumps(globals()[what](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
