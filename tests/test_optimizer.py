"""The fused Adam against the papers' arithmetic, and what is decayed."""

import numpy as np
import pytest

from zoo.sections import Adam
from zoo.train.optimizer import Optimizer, decays


@pytest.mark.parametrize("correction", ["none", "exact", "folded"])
def test_three_updates_equal_the_reference(correction):
    import keras

    from zoo.kernels.adam import reference

    # A large epsilon, so that its placement shows.
    settings = Adam(beta1=0.8, beta2=0.9, epsilon=1e-2, correction=correction, weight_decay=0.1)
    draws = np.random.default_rng(0)
    values = {name: draws.normal(size=(7, 5)).astype(np.float32) for name in ("a.kernel", "a.bias")}
    weights = {name: keras.Variable(value) for name, value in values.items()}
    optimizer = Optimizer(settings, weights)
    slots = {name: (np.zeros((7, 5)), np.zeros((7, 5))) for name in values}
    for count in (1, 2, 3):
        gradients = {name: draws.normal(size=(7, 5)).astype(np.float32) for name in values}
        optimizer.apply({n: keras.ops.convert_to_tensor(g) for n, g in gradients.items()}, 0.05, count)
        for name, gradient in gradients.items():
            decay = name == "a.kernel"
            values[name], *slots[name] = reference(settings, values[name], *slots[name], gradient, 0.05, count, decay)
    for name, value in values.items():
        np.testing.assert_allclose(weights[name].value.numpy(), value, rtol=1e-5, atol=1e-6)
        for slot, expected in zip("mv", slots[name], strict=True):
            np.testing.assert_allclose(optimizer.slots[f"{name}.{slot}"].value.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_the_corrections_differ_where_the_papers_do():
    from zoo.kernels.adam import reference

    one, zero = np.ones(1), np.zeros(1)
    steps = {}
    for correction in ("none", "exact", "folded"):
        settings = Adam(beta1=0.9, beta2=0.99, epsilon=0.5, correction=correction)
        steps[correction] = float(-reference(settings, zero, zero, zero, one, 1.0, 1, False)[0][0])
    # m = 0.1, v = 0.01, so m / (sqrt(v) + e), 1 / (1 + e), and sqrt(0.01) / 0.1 times the first.
    assert steps == pytest.approx({"none": 0.1 / 0.6, "exact": 1 / 1.5, "folded": 0.1 / 0.6})


@pytest.mark.parametrize(
    ("name", "decayed"),
    [
        ("blocks.0.attend.q.kernel", True),
        ("blocks.0.attend.q.bias", False),
        ("blocks.0.attend_norm.scale", False),
        ("embed.token.table", True),
        ("blocks.0.attend.content_bias", True),
        ("head.bias", False),
    ],
)
def test_decay_by_role(name, decayed):
    assert decays(name) == decayed
