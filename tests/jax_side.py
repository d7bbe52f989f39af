"""The JAX side of tests/test_jax.py: a process of its own, for Keras has one backend in each."""

import json
import sys
from typing import Any

from zoo.train.start import use_backend

UPDATES = 20
MESHES = ({"fsdp": 8}, {"data": 2, "fsdp": 2, "model": 2}, {"data": 4, "model": 2})


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


def divisible(name: str) -> Any:
    """A small recipe whose width and vocabulary 8 devices divide."""
    from shrunk import shrunk

    return shrunk(name, {"width": 32}).with_changes(tokenizer={"size": 104})


def held(names: str) -> dict[str, list[list[int]]]:
    """Bytes of weights and of slots on the first device, for every recipe and mesh."""
    import jax

    from zoo.train.optimizer import Optimizer
    from zoo.train.replicas_jax import Replicas
    from zoo.train.start import Learner, nominal_vocab
    from zoo.train.step_jax import Engine

    def bytes_of(variables: dict[str, Any]) -> int:
        shards = [shard for variable in variables.values() for shard in variable.value.addressable_shards]
        return sum(shard.data.nbytes for shard in shards if shard.device == jax.devices()[0])

    def on(name: str, mesh: dict[str, int]) -> list[int]:
        recipe = divisible(name).with_changes(mesh=mesh)
        learner = Learner(recipe, nominal_vocab(recipe), "float32")
        optimizer = Optimizer(recipe.train.adam, learner.weights)
        Engine(learner, optimizer, Replicas(recipe.mesh))
        return [bytes_of(learner.weights), bytes_of(optimizer.slots)]

    return {name: [on(name, mesh) for mesh in MESHES] for name in json.loads(names)}


def main(what: str, *arguments: str) -> None:
    use_backend("jax")
    print(json.dumps(globals()[what](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
