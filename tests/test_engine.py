"""Laws 4 and 5: an update is the same however its rows are split, and a task's loss is divided once."""

from functools import cache
from unittest import mock

import numpy as np
import pytest
from shrunk import FAMILIES, Bench

from zoo.train.schedule import learning_rate


@cache
def kept(name, micro_rows):
    """Compiling takes seconds, so tests share a bench and reset it.

    Adam's epsilon is so large that a gradient of rounding alone (1e-9, where others are 1e-2) is not scaled up.
    """
    return Bench(name, micro_rows, adam={"epsilon": 1e-6})


def bench_for(name, micro_rows):
    return kept(name, micro_rows).reset()


def short_way(bench, number):
    """An update of one micro-batch, whose gradients are not kept."""
    from zoo.train.replicas import to_device

    update, rate = bench.feed.update(number), learning_rate(bench.recipe.train, number)
    bench.engine.update(to_device(update.batches[0]), update.factors(bench.engine.scales), rate, number)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_does_not_depend_on_the_split(name):
    weights, totals, whole = bench_for(name, 8).sums(3)
    split_weights, split_totals, split = bench_for(name, 3).sums(3)
    assert split_weights == weights
    assert split_totals == pytest.approx(totals, rel=1e-5)
    norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in whole.values()))
    apart = np.sqrt(sum(np.sum((whole[name] - split[name]).astype(np.float64) ** 2) for name in whole))
    assert norm > 0
    assert apart <= 1e-6 * norm


@pytest.mark.parametrize("name", FAMILIES)
def test_training_does_not_depend_on_the_split(name):
    bench = bench_for(name, 8)
    whole, split = bench.train(4), bench_for(name, 3).train(4)
    summed_rates = sum(learning_rate(bench.recipe.train, n) for n in range(4))
    for key, value in whole.items():
        if not key.endswith("attend.k.bias"):  # their gradient is zero in exact arithmetic; Adam scales its rounding up
            assert np.abs(value - split[key]).max() <= 1e-3 * summed_rates, key


@pytest.mark.parametrize("name", [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
def test_one_micro_batch_takes_the_short_way_to_the_same_weights(name):
    expected = bench_for(name, 8).train(2)
    fused = bench_for(name, 8)
    for number in range(2):
        short_way(fused, number)
    for key, value in expected.items():
        np.testing.assert_allclose(fused.learner.weights[key].value.numpy(), value, atol=1e-6, err_msg=key)


@pytest.mark.slow
def test_engines_of_one_process_agree_bit_by_bit():
    _, totals, expected = bench_for("bert-base", 3).sums(0)
    for _ in range(4):
        _, again, gradients = Bench("bert-base", 3).sums(0)
        assert again == totals
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(gradient, expected[name], err_msg=name)


def test_dropout_is_on_and_new_in_every_update():
    bench = bench_for("gpt2-small", 8)
    batch = bench.feed.update(0).batches[0]
    from zoo.train.replicas import to_device

    tensors, factors = to_device(batch), {"causal": 1.0}
    first, again, later = (float(bench.engine.gradient(tensors, factors, n, 0)["causal"]) for n in (5, 5, 6))
    plain = float(bench.engine.evaluate(tensors)[0]["causal"])
    assert first == again
    assert len({first, later, plain}) == 3


def test_an_update_that_is_not_finite_is_skipped_and_so_are_all_later_ones():
    from zoo.train.replicas import to_device

    bench = bench_for("gpt2-small", 8)
    before = {name: weight.value.numpy() for name, weight in bench.learner.weights.items()}
    batch = to_device(bench.feed.update(0).batches[0])
    bench.engine.update(batch, {"causal": 1.0}, 1e-3, 4)
    healthy = {name: weight.value.numpy() for name, weight in bench.learner.weights.items()}
    assert any((before[name] != healthy[name]).any() for name in before)
    bench.engine.update(batch, {"causal": float("nan")}, 1e-3, 5)
    bench.engine.update(batch, {"causal": 1.0}, 1e-3, 6)
    assert int(bench.engine.failed.numpy()) == 5
    for name, weight in bench.learner.weights.items():
        np.testing.assert_array_equal(weight.value.numpy(), healthy[name])
    assert all(np.isfinite(slot.value.numpy()).all() for slot in bench.optimizer.slots.values())


def test_the_clip_bounds_the_norm_of_all_gradients_together():
    for clip in (None, 1e-3):
        bench = Bench("gpt2-small", 8, clip_norm=clip, adam={"beta1": 0.0, "beta2": 0.0, "epsilon": 1e6})
        _, _, gradients = bench.sums(0)
        norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gradients.values()))
        assert float(bench.engine.apply(1.0, 0)) == pytest.approx(norm, rel=1e-5)
        # With this epsilon an update is the clipped gradient / 1e6, and m holds the clipped gradient.
        slots = [slot.value.numpy() for name, slot in bench.optimizer.slots.items() if name.endswith(".m")]
        kept = np.sqrt(sum(np.sum(m.astype(np.float64) ** 2) for m in slots))
        assert kept == pytest.approx(norm if clip is None else clip, rel=1e-4)


def test_nothing_is_traced_twice():
    bench = bench_for("bert-base", 3)
    bench.train(3)
    assert bench.engine._part.experimental_get_tracing_count() == 1
    assert bench.engine._apply_sums.experimental_get_tracing_count() == 1
    whole = bench_for("gpt2-small", 8)
    for number in range(3):
        short_way(whole, number)
    assert whole.engine._whole.experimental_get_tracing_count() == 1


def test_no_update_asks_the_host_for_anything():
    whole, split = bench_for("gpt2-small", 8), bench_for("bert-base", 3)
    short_way(whole, 0)
    split.train(1)
    graphs = whole.engine._whole, split.engine._part, split.engine._apply_sums
    kinds = set()
    for graph in graphs:
        (trace,) = graph._list_all_concrete_functions()
        found = trace.graph.as_graph_def()
        kinds |= {node.op for node in [*found.node, *(n for f in found.library.function for n in f.node_def)]}
    assert "ResourceApplyAdam" in kinds
    assert not kinds & {"PyFunc", "EagerPyFunc", "PyFuncStateless", "PrintV2", "Assert", "IteratorGetNext"}


def test_nothing_is_read_from_the_device_before_the_update_is_done():
    from zoo.train.loop import Loop

    applied = []

    class Late(float):
        def __float__(self):
            assert applied, "read while micro-batches were still to come"
            return super().__float__()

    def apply(rate, number):
        applied.append(number)
        return Late(0.5)

    engine = mock.Mock(
        scales={"causal": 1.0},
        gradient=lambda batch, factors, number, first: {"causal": Late(first)},
        apply=apply,
    )
    bench = bench_for("gpt2-small", 3)
    loop = mock.Mock(session=mock.Mock(engine=engine), train=bench.recipe.train)
    assert Loop._compute(loop, bench.feed.update(0)) == ({"causal": 0 + 3 + 6}, 0.5)
    assert applied == [0]


@pytest.mark.parametrize(
    "name",
    [
        FAMILIES[0],
        *(pytest.param(name, marks=pytest.mark.slow) for name in (*FAMILIES[1:], "transformer-xl-wt103-base")),
    ],
)
def test_blocks_that_are_run_again_find_the_same_gradient(name):
    kept, again = Bench(name), Bench(name, remat=True)
    for number in range(2):  # a second time because of memories, which are empty at first
        weights, totals, expected = kept.sums(number)
        assert again.sums(number)[:2] == (weights, totals)
        found = again.engine.gradients
        for key, gradient in expected.items():
            np.testing.assert_allclose(found[key].numpy(), gradient, rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2-small", "xlnet-base", "transformer-xl-wt103-base"])
def test_an_update_that_is_compiled_whole_is_the_same(name):
    parts, whole = bench_for(name, 8), Bench(name, compile="whole")
    for number in range(2):
        weights, totals, expected = parts.sums(number)
        found_weights, found_totals, found = whole.sums(number)
        assert found_weights == weights
        assert found_totals == pytest.approx(totals, rel=1e-5)
        for key, gradient in expected.items():
            scale = np.abs(gradient).max()
            if not key.endswith("attend.k.bias"):  # zero in exact arithmetic
                np.testing.assert_allclose(found[key], gradient, atol=1e-5 * scale, err_msg=key)


def test_the_rows_of_a_short_micro_batch_score_nothing():
    bench = bench_for("bert-base", 3)
    last = bench.feed.update(0).batches[-1]
    assert len(last.stream.token) == 3
    assert not last.stream.doc[2].any()
    assert all(not places.weight[2].any() for places in last.tasks.values())


def test_bfloat16_is_close_to_float32():
    _, exact, gradients = bench_for("bert-base", 8).sums(0)
    _, rough, rough_gradients = Bench("bert-base", 8, precision="bfloat16").sums(0)
    assert rough == pytest.approx(exact, rel=1e-2)
    name = "blocks.1.inner.up.kernel"
    apart = np.linalg.norm(gradients[name] - rough_gradients[name]) / np.linalg.norm(gradients[name])
    assert 1e-4 < apart < 5e-2
