"""Fast paths against the plain references beside them."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from zoo.kernels.chosen import for_chosen, reference_for_chosen
from zoo.kernels.cross_entropy import (
    cross_entropy,
    projected_cross_entropy,
    reference_cross_entropy,
    reference_projected,
)
from zoo.kernels.island import island
from zoo.kernels.matmul import matmul_transposed
from zoo.kernels.norm import layer_norm, reference_layer_norm
from zoo.kernels.random import RowNoise, drop, philox, reference_words, words
from zoo.kernels.top import BLOCK, reference_top_k, top_k

noise = np.random.Generator(np.random.Philox(2))


# --- random bits


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ("00000000 00000000 00000000 00000000", 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", 0x299F31D0A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_as_published(counter: str, key: int, expected: str) -> None:
    """The known answers of Random123 (kat_vectors, philox4x32 with 10 rounds)."""
    words_of = lambda line: np.array([[int(word, 16) for word in line.split()]], np.uint32)  # noqa: E731
    assert np.array_equal(philox(words_of(counter), key), words_of(expected))


@given(
    seed=st.integers(0, 2**63 - 1),
    update=st.integers(0, 2**31 - 1),
    first=st.integers(0, 2**33),
    rows=st.integers(1, 3),
    size=st.integers(1, 40),
    site=st.text(max_size=5),
)
def test_words_are_the_reference_s(seed: int, update: int, first: int, rows: int, size: int, site: str) -> None:
    got = words(seed, tf.constant(update, tf.int64), site, tf.constant(first, tf.int64), rows, size)
    assert np.array_equal(got.numpy(), reference_words(seed, update, site, first, rows, size))


def test_how_rows_are_split_changes_nothing() -> None:
    whole = words(3, 5, "site", 0, 7, 31).numpy()
    parts = [words(3, 5, "site", first, count, 31).numpy() for first, count in ((0, 2), (2, 1), (3, 4))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_update_and_first_are_tensors_to_a_graph() -> None:
    @tf.function
    def dropped(x: tf.Tensor, update: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        return drop(x, 0.5, RowNoise(0, update, first), "site")

    x, count = tf.ones([3, 7, 10]), lambda n: tf.constant(n, tf.int64)
    seen = {(u, f): dropped(x, count(u), count(f)).numpy().tobytes() for u in (0, 1) for f in (0, 3)}
    assert len(set(seen.values())) == 4
    assert dropped.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.5])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout(rate: float, dtype: str) -> None:
    x = tf.ones([3, 7, 1000], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = drop(x, rate, RowNoise(1, 2, 3), "site")
    assert y.dtype == dtype
    kept = y.numpy().astype(np.float32) != 0
    n = kept.size
    assert abs(kept.sum() - n * (1 - rate)) < 5 * math.sqrt(n * rate * (1 - rate))
    scale = 65536 / (65536 - round(rate * 65536))
    assert np.array_equal(y.numpy(), np.where(kept, np.float32(scale), 0).astype(y.numpy().dtype))
    assert np.array_equal(tape.gradient(y, x).numpy(), y.numpy())


def test_dropout_draws_are_of_a_kind_only_where_all_keys_are() -> None:
    """Rows, updates, sites and seeds are independent: two of them keep the same element as often as chance has it."""
    x = tf.ones([2, 20_000])

    def kept(seed: int = 0, update: int = 0, first: int = 0, site: str = "a", under: str = "b") -> np.ndarray:
        return drop(x, 0.5, RowNoise(seed, update, first).under(under), site).numpy() > 0

    base = kept()
    assert np.array_equal(base, kept())
    assert np.array_equal(base[1], kept(first=1)[0])
    others = [kept(seed=1), kept(update=1), kept(first=2), kept(site="c"), kept(under="c")]
    for other in [*(row for two in others for row in two), base[1]]:
        assert abs(np.mean(base[0] == other) - 0.5) < 5 * 0.5 / math.sqrt(20_000)


def test_no_noise_or_no_rate_is_no_dropout() -> None:
    x = tf.ones([2, 3])
    assert drop(x, 0.5, None, "site") is x
    assert drop(x, 0.0, RowNoise(0, 0, 0), "site") is x


# --- cross-entropy


def gradients(loss_of, logits: tf.Tensor, target: tf.Tensor, weight: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A loss and its gradient, scaled as the step scales it, from inside a graph."""

    @tf.function
    def run(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = loss_of(logits, target, weight)
            scaled = loss * 0.37
        return loss, tape.gradient(scaled, logits)

    loss, gradient = run(logits)
    assert loss.dtype == tf.float32
    assert gradient.dtype == logits.dtype
    return loss.numpy(), gradient.numpy().astype(np.float64)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 5e-3)])
def test_cross_entropy(dtype: str, tolerance: float) -> None:
    logits = tf.cast(noise.standard_normal((3, 7, 31)) * 8, dtype)
    target = tf.constant(noise.integers(0, 31, (3, 7)), tf.int32)
    weight = tf.constant(noise.random((3, 7)) * (noise.random((3, 7)) > 0.3), tf.float32)
    loss, gradient = gradients(cross_entropy, logits, target, weight)
    expected, expected_gradient = gradients(reference_cross_entropy, logits, target, weight)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert np.abs(gradient - expected_gradient).max() <= tolerance
    by_hand = -tf.nn.log_softmax(tf.cast(logits, tf.float64)).numpy()
    by_hand = np.take_along_axis(by_hand, target.numpy()[..., None], axis=-1)[..., 0]
    assert loss == pytest.approx(np.sum(by_hand * weight.numpy()), rel=1e-5)


def test_smoothed_labels() -> None:
    """The target keeps 0.9, and the 6 others share 0.1: written out, and the gradient is softmax less that."""
    logits = noise.standard_normal((5, 7)).astype(np.float32)
    target, weight = np.array([0, 6, 3, 3, 1]), np.array([1, 0, 2, 1, 0.5], np.float32)
    wanted = np.full((5, 7), 0.1 / 6)
    wanted[np.arange(5), target] = 0.9
    log_chance = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = (weight * -(wanted * log_chance).sum(axis=1)).sum()
    for kernel in (cross_entropy, reference_cross_entropy):
        with tf.GradientTape() as tape:
            tape.watch(tensor := tf.constant(logits))
            loss = kernel(tensor, tf.constant(target), tf.constant(weight), 0.1)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        slope = (np.exp(log_chance) - wanted) * weight[:, None]
        np.testing.assert_allclose(np.asarray(tape.gradient(loss, tensor)), slope, atol=1e-5)


def test_cross_entropy_of_far_logits_is_finite() -> None:
    logits, target = tf.constant([[3e4, -3e4, 0.0]]), tf.constant([1])
    loss, gradient = gradients(cross_entropy, logits, target, tf.ones([1]))
    assert loss == pytest.approx(6e4)
    assert gradient.tolist() == [[pytest.approx(0.37), pytest.approx(-0.37), 0.0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_cross_entropy_of_logits_that_never_are(
    dtype: str, tolerance: float, biased: bool, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13 rows, five at a time and of those two in a pass, with the gradients of everything."""
    monkeypatch.setattr("zoo.kernels.cross_entropy.LOGITS", 5 * 31 * tf.as_dtype(dtype).size)
    monkeypatch.setattr("zoo.kernels.cross_entropy.PASS", 2 * 31)
    x, table = (tf.cast(noise.standard_normal(shape), dtype) for shape in ((13, 8), (31, 8)))
    bias = tf.constant(noise.standard_normal(31), tf.float32) if biased else None
    target, weight = noise.integers(0, 31, 13).astype(np.int32), noise.random(13).astype(np.float32)
    found = []
    for loss_of in (projected_cross_entropy, reference_projected):

        @tf.function
        def run(loss_of: Any = loss_of) -> list[tf.Tensor]:
            tensors = [x, table, *([bias] if biased else [])]
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                loss = loss_of(x, table, bias, tf.constant(target), tf.constant(weight), smoothing)
                scaled = loss * 0.37
            return [loss, *tape.gradient(scaled, tensors)]

        found.append([value.numpy().astype(np.float64) for value in run()])
    for got, expected in zip(*found, strict=True):
        assert np.abs(got - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


# --- element-wise chains and matmuls


@pytest.mark.parametrize("approximate", [False, True])
def test_an_island_is_the_function_it_compiles(approximate: bool) -> None:
    def gelu(x: tf.Tensor) -> tf.Tensor:
        return ops.gelu(x, approximate=approximate)

    x, upstream = tf.constant(noise.standard_normal((3, 31)) * 3, tf.float32), noise.standard_normal((3, 31))
    results = []
    for function in (gelu, island(gelu)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        results.append((y.numpy(), tape.gradient(y, x, tf.constant(upstream, tf.float32)).numpy()))
    for plain, fast in zip(*results, strict=True):
        assert np.abs(plain - fast).max() < 1e-5


@pytest.mark.parametrize("shape", [(3, 5, 17), (1, 1, 2), (4, 130)])
def test_layer_norm_is_its_reference(shape: tuple[int, ...]) -> None:
    x = tf.constant(3 + 2 * noise.standard_normal(shape), tf.float32)
    scale, bias = (tf.constant(1 + noise.standard_normal(shape[-1]), tf.float32) for _ in range(2))
    upstream = tf.constant(noise.standard_normal(shape), tf.float32)
    results = []
    for function in (reference_layer_norm, layer_norm):
        with tf.GradientTape() as tape:
            tape.watch((x, scale, bias))
            y = function(x, scale, bias, 1e-5)
        results.append([y, *tape.gradient(y, (x, scale, bias), upstream)])
    for plain, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast.numpy(), plain.numpy(), rtol=1e-5, atol=1e-5)


def test_matmul_transposed() -> None:
    x, y = noise.standard_normal((3, 2, 7, 10)), noise.standard_normal((2, 5, 10))
    assert np.allclose(np.asarray(matmul_transposed(x, y)), x @ y.swapaxes(-1, -2))


def test_the_references_hold_on_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from TensorFlow the neutral functions take the plain way."""
    logits, target, weight = (
        tf.constant(noise.standard_normal((3, 31)), tf.float32),
        tf.constant([1, 2, 3]),
        tf.ones([3]),
    )
    x, row_noise = tf.ones([3, 7, 10]), RowNoise(0, 1, 2)

    def found() -> list[Any]:
        return [
            cross_entropy(logits, target, weight),
            projected_cross_entropy(x[0], tf.ones([31, 10]), None, tf.ones([7], tf.int32), tf.ones([7])),
            drop(x, 0.3, row_noise, "a"),
            matmul_transposed(x, x),
            layer_norm(x * tf.range(10.0), tf.ones([10]), tf.ones([10]), 1e-5),
        ]

    fast = found()
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    plain = found()
    assert island(math.sqrt) is math.sqrt
    for one, other in zip(fast, plain, strict=True):
        assert np.allclose(np.asarray(one), np.asarray(other), rtol=1e-6)


# --- some rows


@pytest.mark.parametrize("chosen", [[True, False, True], [False] * 3, [True] * 3])
def test_a_function_for_chosen_rows_is_the_function_where_they_are(chosen: list[bool]) -> None:
    """One that has several results too, in a graph, and in gradients."""
    x, y = tf.constant(noise.standard_normal((3, 7)), tf.float32), tf.constant([4, 5, 6])
    seen: list[int | None] = []

    def function(x_nD: tf.Tensor, y_n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seen.append(x_nD.shape[0])
        return tf.reduce_sum(tf.exp(x_nD), axis=-1), y_n + 1

    results = []
    for way in (for_chosen, reference_for_chosen):
        with tf.GradientTape() as tape:
            tape.watch(x)
            sums, places = tf.function(way)(function, tf.constant(chosen), x, y)
        results.append([sums, places, tf.convert_to_tensor(tape.gradient(sums, x))])
    for fast, plain in zip(*results, strict=True):
        assert fast.dtype == plain.dtype
        np.testing.assert_allclose(fast.numpy(), plain.numpy(), rtol=1e-6)
    assert seen == [None, 3]
    assert np.array_equal(results[0][1].numpy(), np.where(chosen, [5, 6, 7], 0))


# --- the largest of many


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 3), size=st.integers(1, 9 * BLOCK), k=st.integers(1, 12))
def test_the_largest_are_found_by_blocks_as_by_one_search(seed: int, rows: int, size: int, k: int) -> None:
    """Of equal numbers, of which there are many here, the first come first."""
    x = np.random.default_rng(seed).integers(-20, 20, (rows, size)).astype(np.float32)
    found, wanted = top_k(ops.convert_to_tensor(x), min(k, size)), reference_top_k(x, min(k, size))
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_a_module_may_look_as_if_it_were_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from zoo.kernels.startup import _absent

    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with _absent("colorsys", "sys"), pytest.raises(ImportError):
        import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_while_libraries_are_imported(enabled: bool) -> None:
    import gc

    from zoo.kernels.startup import _uncollected

    before, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if enabled else gc.disable)()
        with _uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() == frozen  # what others made is theirs to collect
    finally:
        (gc.enable if before else gc.disable)()
