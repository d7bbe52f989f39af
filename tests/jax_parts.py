"""The JAX side of tests/test_jax_checkpoints.py: a process of its own, for Keras has one backend in each.

python tests/jax_parts.py FOLDER save ... trains on meshes of 8 devices and saves; read ... goes on from what was saved.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from zoo.train.start import use_backend

MESHES = {"data": {"data": 8}, "fsdp": {"fsdp": 8}, "mixed": {"data": 2, "fsdp": 2, "model": 2}}
NAME, SIZES = "gpt2-small", {"width": 32, "heads": 4, "inner": 64}  # that the meshes divide
BEFORE, AFTER = 2, 3  # updates that are done when it is saved, and then


def losses(bench: Any, first: int, count: int) -> list[float]:
    """The loss of each of some updates; with dropout."""
    from zoo.train.schedule import learning_rate

    found = []
    for number in range(first, first + count):
        weights, totals = bench.add(number)
        bench.engine.apply(learning_rate(bench.recipe.train, number), number)
        found.append(totals["causal"] / weights["causal"])
    return found


def bench_of(**how: Any) -> Any:
    from shrunk import Bench

    return Bench(NAME, 8, SIZES, vocab=104, updates=10, **how)


def gone_on(bench: Any, folder: Path) -> list[float]:
    """The losses that follow a saved state."""
    from zoo.train import checkpoint

    weights, slots, _, _ = checkpoint.load(checkpoint.folder_of(folder, BEFORE))
    bench.engine.restore(weights, slots)
    return losses(bench, BEFORE, AFTER)


def save(folder: Path) -> dict[str, Any]:
    """Of every mesh what was fetched and read, and the losses that follow, here and from what each of them saved."""
    from zoo.sections import Mesh
    from zoo.train import checkpoint, layout
    from zoo.train.replicas_jax import Replicas

    benches, found = {}, {}
    for name, mesh in MESHES.items():
        benches[name] = bench = bench_of(replicas=Replicas(Mesh(**mesh)))
        losses(bench, 0, BEFORE)
        with joined() as whole:
            state = bench.engine.state()
        after = losses(bench, BEFORE, AFTER)  # before it is written, as beside training
        share = (0, 1) if bench.engine.cut else None
        checkpoint.save(folder / name, BEFORE, *state, {}, share)
        parts = {
            each: layout.parts(each, tuple(weight.shape), bench.engine.replicas.sizes)
            for each, weight in bench.learner.weights.items()
        }
        found[name] = {
            "after": after,
            "whole": whole,
            "fetched": sorted(value.size for values in state for value in values.values()),
            "sizes": sorted(
                prod(weight.shape) // parts[each]
                for each, weight in bench.learner.weights.items()
                for _ in range(3 * parts[each])  # the weight and its two slots
            ),
            "cut": {each: count for each, count in parts.items() if count > 1},
        }
    for name, bench in benches.items():
        with read_in_parts() as found[name]["read"]:
            found[name]["from"] = {other: gone_on(bench, folder / other) for other in MESHES}
    return found


def read(folder: Path) -> dict[str, list[float]]:
    """The losses on all devices there are, from what each mesh saved."""
    bench = bench_of()
    return {name: gone_on(bench, folder / name) for name in MESHES}


@contextmanager
def joined() -> Iterator[list[int]]:
    """How many numbers each array has that comes to the host from several devices while the block runs."""
    from jax._src.array import ArrayImpl

    found, value = [], ArrayImpl._value

    def fetched(array: Any) -> Any:
        found.append(array.size)
        return value.fget(array)

    ArrayImpl._value = property(fetched)
    try:
        yield found
    finally:
        ArrayImpl._value = value


@contextmanager
def read_in_parts() -> Iterator[list[tuple[str, float]]]:
    """Which share of a weight or slot is read at once while the block runs; nothing may be asked for whole."""
    from zoo.tensors import CutTensors, TensorFile

    found, kept = [], (CutTensors.part, CutTensors.__getitem__, TensorFile.__getitem__)

    def part(file: CutTensors, name: str, index: tuple[slice, ...]) -> Any:
        value = kept[0](file, name, index)
        found.append((name.removesuffix(".m").removesuffix(".v"), value.size / prod(file.shapes[name])))
        return value

    CutTensors.part, CutTensors.__getitem__, TensorFile.__getitem__ = part, None, None
    try:
        yield found
    finally:
        CutTensors.part, CutTensors.__getitem__, TensorFile.__getitem__ = kept


if __name__ == "__main__":
    use_backend("jax")
    print(json.dumps({"save": save, "read": read}[sys.argv[2]](Path(sys.argv[1]))))
