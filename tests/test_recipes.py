"""Every recipe there is trains; every objective there is can be learned by heart."""

import numpy as np
import pytest
from shrunk import FAMILIES, STILL, Bench

from zoo.registry import recipe, recipes
from zoo.schema import merged


@pytest.mark.parametrize(
    "name", [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in recipes()]
)
def test_two_updates_start_near_chance(name):
    bench = Bench(name)
    chance = bench.learner.objective.chance()
    for number in range(2):
        weights, totals, gradients = bench.sums(number)
        norm = float(bench.engine.apply(1e-3, number))
        assert np.isfinite(norm)
        assert norm > 0
        if number == 0:
            means = {task: total / weights[task] for task, total in totals.items()}
            assert means == pytest.approx(chance, rel=0.05)
    assert all(np.isfinite(weight.value.numpy()).all() for weight in bench.learner.weights.values())
    assert set(gradients) == set(bench.learner.weights)


def test_the_families_have_every_objective():
    """So that what is tested on them is tested on all objectives."""
    assert {recipe(name).objective["name"] for name in recipes()} == {
        recipe(name).objective["name"] for name in FAMILIES
    }


@pytest.mark.parametrize("name", [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
def test_four_rows_are_learned_by_heart(name):
    from zoo.train.replicas import to_device

    bench = Bench(name, micro_rows=4, model=STILL, clip_norm=1.0)
    update = bench.feed.update(0)
    batch, weights = to_device(update.batches[0]), {t: p.weight.sum() for t, p in update.batches[0].tasks.items()}
    factors = {task: 1 / weight for task, weight in weights.items()}
    for number in range(200):
        bench.engine.update(batch, factors, 3e-3, number)
    totals, _ = bench.engine.evaluate(batch, bench.engine.memory)  # rows that go on from nothing, in their direction
    left = {task: float(total) / weights[task] for task, total in totals.items()}
    assert all(left[task] < 0.1 * nats for task, nats in bench.learner.objective.chance().items()), left


def test_a_child_keeps_what_it_does_not_change():
    parent, child = recipe("gpt2-small"), recipe("gpt2-medium")
    assert child.train.adam == parent.train.adam
    assert child.tokenizer == parent.tokenizer
    assert (child.model.width, child.model.context) == (1024, 1024)


def test_another_objective_replaces_the_settings_of_the_first():
    below = {"objective": {"name": "masked", "rate": 0.3}, "tokenizer": {"specials": {"pad": "<pad>"}, "size": 5}}
    above = {"objective": {"name": "causal"}, "tokenizer": {"specials": {"eod": "<eod>"}}}
    assert merged(below, above) == {
        "objective": {"name": "causal"},
        "tokenizer": {"specials": {"eod": "<eod>"}, "size": 5},
    }
    assert merged(below, {"objective": {"rate": 0.2}})["objective"] == {"name": "masked", "rate": 0.2}
