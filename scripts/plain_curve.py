"""The fast paths learn what the plain ones do: the loss of 300 updates of gpt2-nano, by both.

    .venv/bin/python scripts/plain_curve.py

Trains the recipe with dropout twice on its own corpus, once with every fast path of zoo/kernels replaced by its plain
reference, and once more with another seed, for scale. Writes docs/plain_curve.png and the differences into
docs/performance.md.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from peers import ROOT, machine, publish

from zoo import pretrain, recipe
from zoo.sections import Adam
from zoo.train.start import start_backend

UPDATES = 300
PICTURE = ROOT / "docs/plain_curve.png"
DROPPED = {"dropout": 0.1, "attention_dropout": 0.1}


def plain_adam(adam: Adam, step: Any, weight: Any, m: Any, v: Any, gradient: Any, decay: bool) -> None:
    """Kingma & Ba 2015, Algorithm 1, as it is written, with decoupled decay."""
    import tensorflow as tf

    assert adam.correction == "exact"
    rate, number = step[0], tf.cast(step[1], tf.float32)
    m.assign(adam.beta1 * m + (1 - adam.beta1) * gradient)
    v.assign(adam.beta2 * v + (1 - adam.beta2) * tf.square(gradient))
    root = tf.sqrt(v / (1 - adam.beta2**number))
    change = (m / (1 - adam.beta1**number)) / (root + adam.epsilon)
    weight.assign_sub(rate * (change + (adam.weight_decay * weight if decay else 0.0)))


@contextmanager
def plain_paths() -> Iterator[None]:
    """Every fast path replaced by its reference."""
    from zoo.kernels import adam, attention, cross_entropy, norm
    from zoo.network import attention as network_attention
    from zoo.network import block, heads, layers

    with ExitStack() as stack:
        for where, name, reference in (
            (network_attention, "attend", attention.reference_attend),
            (heads, "projected_cross_entropy", cross_entropy.reference_projected),
            (heads, "cross_entropy", cross_entropy.reference_cross_entropy),
            (block, "island", lambda function: function),
            (layers, "layer_norm", norm.reference_layer_norm),
            (adam, "step", lambda adam, rate, count: (rate, count)),
            (adam, "apply", plain_adam),
        ):
            stack.enter_context(mock.patch.object(where, name, reference))
        yield


def losses(seed: int, plain: bool) -> np.ndarray:
    """Nats a token after every update."""
    found = recipe("gpt2-nano", model=DROPPED, train={"precision": "float32", "evaluate_every": None})
    with tempfile.TemporaryDirectory() as room, plain_paths() if plain else nullcontext():
        run = pretrain(found, out=Path(room) / "run", seed=seed, updates=UPDATES)
        return np.array([line["loss"] for line in run.history if line["split"] == "train"])


def draw(curves: dict[str, np.ndarray]) -> None:
    """The curves above, and their distances from the first below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True)
    update = np.arange(1, UPDATES + 1)
    (first, base), *others = curves.items()
    above.plot(update, base, label=first, linewidth=3, color="0.7")
    for (name, curve), color in zip(others, ("C0", "C3"), strict=True):
        above.plot(update, curve, label=name, linewidth=1, color=color)
        below.semilogy(update, np.abs(curve - base) + 1e-9, label=f"{name}, from {first}", linewidth=1, color=color)
    above.set_ylabel("loss, nats a token")
    below.set_ylabel("distance, nats")
    below.set_xlabel("update")
    for axes in (above, below):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    start_backend()
    curves = {
        "plain paths": losses(0, plain=True),
        "fast paths": losses(0, plain=False),
        "fast paths, another seed": losses(1, plain=False),
    }
    draw(curves)
    base, fast, other = curves.values()
    lines = [
        f"{UPDATES} updates of gpt2-nano with dropout 0.1, float32 ({machine()})\n",
        "| distance from the plain paths' loss, nats | largest | mean |",
        "|---|---|---|",
        *(
            f"| {name} | {np.abs(curve - base).max():.2g} | {np.abs(curve - base).mean():.2g} |"
            for name, curve in (("fast paths", fast), ("fast paths, another seed", other))
        ),
    ]
    publish("curve", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
