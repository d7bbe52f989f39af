"""The JAX side of tests/test_jax.py: a process of its own, for Keras has one backend in each."""

import json
import sys
from typing import Any

from zoo.train.start import start_backend, use_backend

UPDATES = 20
MESHES = ({"fsdp": 8}, {"data": 4, "model": 2}, {"data": 2, "fsdp": 2, "model": 2})


def losses(bench) -> list[dict[str, float]]:
    """Every task's mean loss, and the gradient's norm, in each of some updates."""
    from zoo.train.schedule import learning_rate

    found = []
    for number in range(UPDATES):
        weights, totals = bench.add(number)
        norm = bench.engine.apply(learning_rate(bench.recipe.train, number), number)
        found.append({task: total / weights[task] for task, total in totals.items()} | {"norm": float(norm)})
    return found


def equality(name: str, micro_rows: str, model: str, train: str = "{}") -> list[dict[str, float]]:
    from shrunk import Bench

    bench = Bench(name, int(micro_rows), json.loads(model), updates=UPDATES, **json.loads(train))
    found = losses(bench)
    weights, slots, _ = bench.engine.state()
    assert {value.dtype.name for value in (*weights.values(), *slots.values())} == {"float32"}
    return found


def bytes_on(device: Any, variables: dict[str, Any]) -> int:
    """What a device holds of some variables."""
    shards = [shard for variable in variables.values() for shard in variable.value.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


def on_mesh(name: str, mesh: str, micro_rows: str) -> dict[str, Any]:
    """The losses of a recipe whose sizes a mesh divides, over all devices there are, and how often it was compiled."""
    from shrunk import Bench

    from zoo.sections import Mesh
    from zoo.train.replicas_jax import Replicas

    sizes = {"width": 32, "heads": 4, "inner": 64}
    bench = Bench(name, int(micro_rows), sizes, replicas=Replicas(Mesh(**json.loads(mesh))), vocab=104, updates=UPDATES)
    found = losses(bench)
    engine = bench.engine
    return {
        "losses": found,
        "compiled": [function._cache_size() for function in (engine._part, engine._apply_sums)],
        "bytes": {
            str(device.id): bytes_on(device, bench.learner.weights) for device in engine.replicas.mesh.devices.flat
        },
        "parameters": bench.learner.count_params(),
    }


def emptied() -> list[float]:
    """The gradient's norm of an update, and of a second one for which nothing was summed."""
    from shrunk import Bench

    bench = Bench("gpt2-small", 3)
    bench.add(0)
    return [float(bench.engine.apply(0.0, number)) for number in (0, 0)]


def noise(*numbers: str) -> list[Any]:
    """The sum of what is drawn, and the last numbers; compiled, and equal for rows that are counted one by one."""
    import jax
    import numpy as np

    from zoo.kernels.random import words

    seed, update, first, rows, size = (int(number) for number in numbers)
    draw = jax.jit(lambda update, first: words(seed, update, "blocks.1.attend", first, rows, size))
    drawn = np.asarray(draw(np.uint32(update), np.uint32(first)))
    counted = draw(np.uint32(update), np.arange(first, first + rows, dtype=np.int32))
    assert np.array_equal(drawn, np.asarray(counted))
    return [int(drawn.astype(np.uint64).sum()), drawn[-1, -8:].tolist()]


def divisible(name: str) -> Any:
    """A small recipe whose width and vocabulary 8 devices divide."""
    from shrunk import shrunk

    return shrunk(name, {"width": 32}, vocab=104)


def held(names: str) -> dict[str, list[list[int]]]:
    """Bytes of weights and of slots on the first device, for every recipe and mesh."""
    import jax

    from zoo.train.optimizer import Optimizer
    from zoo.train.replicas_jax import Replicas
    from zoo.train.start import Learner, nominal_vocab
    from zoo.train.step_jax import Engine

    def on(name: str, mesh: dict[str, int]) -> list[int]:
        recipe = divisible(name).with_changes(mesh=mesh)
        learner = Learner(recipe, nominal_vocab(recipe), "float32")
        optimizer = Optimizer(recipe.train.adam, learner.weights)
        Engine(learner, optimizer, Replicas(recipe.mesh))
        return [bytes_on(jax.devices()[0], each) for each in (learner.weights, optimizer.slots)]

    return {name: [on(name, mesh) for mesh in MESHES] for name in json.loads(names)}


def attention(causal: str) -> dict[str, float]:
    """The largest differences between the fused function and the plain one, of what is mixed and of its gradients."""
    import jax
    import numpy as np
    from jax import numpy as jnp

    from zoo.kernels import attention as kernel
    from zoo.kernels.scores import Pairs, Scored

    rows, heads, tokens, width = 3, 2, 40, 16
    draw = np.random.Generator(np.random.Philox(1))
    q, k, v, upstream = (jnp.asarray(draw.standard_normal((rows, heads, tokens, width), np.float32)) for _ in range(4))
    length = np.array([40, 7, 0], np.int32)
    column = np.arange(tokens)
    real = column < length[:, None]
    see = real[:, :, None] & real[:, None]
    if causal == "causal":
        see &= column <= column[:, None]
    counted = upstream * real[:, None, :, None]  # what is made of padding is nobody's concern

    def found(length):
        def mixed(q, k, v):
            pairs = Pairs(jnp.asarray(see), length=length)
            return (
                kernel.attend(Scored(q, k), pairs, v, causal=causal == "causal", learns=True) * real[:, None, :, None]
            )

        y, back = jax.vjp(mixed, q, k, v)
        return y, *back(counted)

    called = []
    fused = kernel.flash_attention
    kernel.flash_attention = lambda *given: called.append(given) or fused(*given)
    pairs = zip(("mixed", "q", "k", "v"), found(jnp.asarray(length)), found(None), strict=True)
    return {name: float(jnp.abs(one - other).max()) for name, one, other in pairs} | {"called": len(called)}


def cross_entropy() -> list[float]:
    """How far the loss and its gradients are from plain operations', relative to the largest number, over all cases."""
    import jax
    import numpy as np

    from zoo.kernels.cross_entropy import projected_cross_entropy, reference_projected

    draw = np.random.default_rng(0)
    target, weight = draw.integers(0, 31, 13).astype(np.int32), draw.random(13).astype(np.float32)
    furthest = []
    for dtype in ("float32", "bfloat16"):
        x, table = (jax.numpy.asarray(draw.standard_normal(shape), dtype) for shape in ((13, 8), (31, 8)))
        found = []
        for bias in (None, jax.numpy.asarray(draw.standard_normal(31), "float32")):
            for smoothing in (0.0, 0.1):
                got, wanted = (
                    jax.value_and_grad(
                        lambda *given, of=of, s=smoothing: 0.37 * of(*given, target, weight, s), (0, 1, 2)
                    )(x, table, bias)
                    for of in (projected_cross_entropy, reference_projected)
                )
                for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
                    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
                    found.append(np.abs(one - other).max() / np.abs(other).max())
        furthest.append(max(found))
    return furthest


def main(what: str, *arguments: str) -> None:
    use_backend("jax")
    start_backend()
    print(json.dumps(globals()[what](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
