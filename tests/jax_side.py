"""The JAX side of tests/test_jax.py: a process of its own, for Keras has one backend in each."""

import json
import sys

from zoo.train.start import start_backend, use_backend

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
