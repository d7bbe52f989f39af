"""Learning rates, written out by hand."""

import pytest

from zoo.sections import Train
from zoo.train.schedule import learning_rate


def train(**changes):
    return Train(tokens_per_update=8, updates=100, learning_rate=2.0, warmup_updates=10, **changes)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt", "wsd"])
def test_warm_up_is_linear_and_reaches_the_peak(schedule):
    rates = [learning_rate(train(schedule=schedule), update) for update in range(11)]
    assert rates[:10] == pytest.approx([0.2 * (n + 1) for n in range(10)])
    assert rates[10] == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("schedule", "halfway", "last"),
    [
        ("constant", 2.0, 2.0),
        ("linear", 0.2 + 1.8 * 0.5, 0.2 + 1.8 / 90),
        ("cosine", 0.2 + 1.8 * 0.5, 0.2 + 1.8 * 0.000305),
        ("inverse_sqrt", 2.0 * (10 / 56) ** 0.5, 2.0 * (10 / 100) ** 0.5),
        ("wsd", 2.0, 0.2 + 1.8 * 0.1),
    ],
)
def test_after_the_warm_up(schedule, halfway, last):
    settings = train(schedule=schedule, final_share=0.1)
    assert learning_rate(settings, 55) == pytest.approx(halfway, rel=1e-3)
    assert learning_rate(settings, 99) == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_the_end_is_the_final_share(schedule):
    assert learning_rate(train(schedule=schedule, final_share=0.25), 100) == pytest.approx(0.5)


def test_without_a_warm_up_the_first_update_has_the_peak():
    assert learning_rate(Train(tokens_per_update=8, updates=5, learning_rate=3.0), 0) == 3.0
