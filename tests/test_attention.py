"""Attention against the sum over keys written out, and what must hold where queries see nothing."""

import math
import sys

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import zoo.kernels.attention as kernel
from zoo.kernels.random import RowNoise
from zoo.network.attention import Attention
from zoo.network.names import named_weights
from zoo.network.positions import sinusoid

B, T, D, H = 3, 7, 10, 2
d = D // H
KINDS = {
    "absolute": {},
    "no biases": {"bias": False},
    "relative": {"bias": False, "relative": True},
    "segments": {"bias": False, "relative": True, "segments": True},
}
noise = np.random.Generator(np.random.Philox(3))


def drawn(*shape: int) -> np.ndarray:
    return noise.standard_normal(shape).astype(np.float32)


def attention(kind: str, **settings) -> Attention:
    """With every weight away from its default, biases too."""
    layer = Attention(D, H, **KINDS[kind], **settings)
    for weight in named_weights(layer).values():
        weight.assign(drawn(*weight.shape) * 0.5)
    return layer


def spelled_out(layer: Attention, x: np.ndarray, see: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The same one query, head and key at a time, in float64."""
    w = {name: np.asarray(weight, np.float64) for name, weight in named_weights(layer).items()}
    project = lambda name, x: x @ w[f"{name}.kernel"] + w.get(f"{name}.bias", 0.0)  # noqa: E731
    q, k, v = (project(name, x.astype(np.float64)).reshape(B, T, H, d) for name in "qkv")
    mixed = np.zeros((B, T, H, d))
    for b, i, h in np.ndindex(B, T, H):
        seen = np.flatnonzero(see[b, i])
        scores = []
        for j in seen:
            score = (q[b, i, h] + w.get("content_bias", np.zeros((H, d)))[h]) @ k[b, j, h]
            if "r.kernel" in w:
                r = np.asarray(sinusoid(np.array(i - j), D), np.float64) @ w["r.kernel"]
                score += (q[b, i, h] + w["position_bias"][h]) @ r.reshape(H, d)[h]
            if "segment" in w:
                score += (q[b, i, h] + w["segment_bias"][h]) @ w["segment"][int(other[b, i, j]), h]
            scores.append(score / math.sqrt(d))
        if scores:
            chance = np.exp(scores - np.max(scores))
            mixed[b, i, h] = (chance / chance.sum()) @ v[b, seen, h]
    return project("out", mixed.reshape(B, T, D))


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_over_keys(kind: str) -> None:
    layer, x = attention(kind), drawn(B, T, D)
    see, other = noise.random((B, T, T)) < 0.5, noise.random((B, T, T)) < 0.5
    see[1, 2] = False
    got = layer(x, see, other_BQK=other)
    assert np.abs(np.asarray(got) - spelled_out(layer, x, see, other)).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_matrix_all_see_all(kind: str) -> None:
    layer, x = attention(kind), drawn(B, T, D)
    everything = np.ones((B, T, T), bool)
    assert np.allclose(np.asarray(layer(x)), np.asarray(layer(x, everything)), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_queries_at_places_are_rows_of_the_whole(kind: str) -> None:
    """What blind queries do, given the content's own queries: the rows `at` of attention from everywhere."""
    layer, x = attention(kind), drawn(B, T, D)
    see, other = noise.random((B, T, T)) < 0.7, noise.random((B, T, T)) < 0.5
    at = np.stack([noise.permutation(T)[:4] for _ in range(B)]).astype(np.int32)
    rows = lambda whole: np.take_along_axis(whole, at[:, :, None], axis=1)  # noqa: E731
    keys = layer.keys(ops.convert_to_tensor(x))
    got = layer(rows(x), rows(see), keys, other_BQK=rows(other), at_BP=at)
    assert np.allclose(np.asarray(got), rows(np.asarray(layer(x, see, other_BQK=other))), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_who_sees_nothing_gets_nothing(kind: str, dtype: str) -> None:
    """Zeros, not the mean of everything; and no gradient, not one that is no number."""
    layer, x = attention(kind, dropout=0.1, dtype=dtype), tf.constant(drawn(B, T, D))
    see = np.ones((B, T, T), bool)
    see[:, 2] = False
    silent = np.zeros(D) if layer.out.bias is None else np.asarray(layer.lowered(layer.out.bias))
    with tf.GradientTape() as tape:
        tape.watch(x)
        blind = layer(x, see, noise=RowNoise(0, 0, 0))[:, 2]
    assert np.array_equal(np.asarray(blind), np.broadcast_to(silent, (B, D)))
    assert not np.asarray(tape.gradient(blind, x)).any()


def test_what_is_not_seen_weighs_nothing() -> None:
    """However large: not even a trace of an additive constant."""
    layer, x = attention("absolute"), drawn(B, T, D)
    see = np.tile(np.tri(T, dtype=bool), (B, 1, 1))
    changed = x.copy()
    changed[:, 4] = 1e4
    before, after = np.asarray(layer(x, see)), np.asarray(layer(changed, see))
    assert np.array_equal(before[:, :4], after[:, :4])
    assert not np.isclose(before[:, 4:], after[:, 4:]).all(axis=-1).any()


# --- tile by tile, and back


def gradients(layer: Attention, x: np.ndarray, before: np.ndarray, see: np.ndarray, **settings) -> list[np.ndarray]:
    """What comes out for the last tokens of [before, x], and gradients of the stream and of every weight."""
    weights = [weight.value for weight in named_weights(layer).values()]
    stream = tf.constant(np.concatenate([before, x], axis=1))
    upstream = np.random.default_rng(0).standard_normal(x.shape)

    @tf.function
    def run() -> list:
        with tf.GradientTape() as tape:
            tape.watch(stream)
            length, all_keys = x.shape[1], stream.shape[1]
            table = sinusoid(np.arange(all_keys - 1, -length - 1, -1), D)
            out = layer(stream[:, -length:], see, layer.keys(stream, table), noise=RowNoise(0, 1, 2), **settings)
            total = ops.sum(ops.cast(out, "float32") * ops.cast(upstream, "float32"))
        found = tape.gradient(total, [stream, *weights], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [ops.cast(out, "float32"), *map(tf.convert_to_tensor, found)]

    return [np.asarray(value) for value in run()]


def both_ways(monkeypatch: pytest.MonkeyPatch, *given, tile: int = 3, **settings) -> tuple[list, list]:
    """By `attend`, in tiles of so many queries, and by its reference."""
    monkeypatch.setattr(kernel, "QUERIES", tile)
    fast = gradients(*given, **settings)
    with monkeypatch.context() as patch:
        patch.setattr("zoo.network.attention.attend", kernel.reference_attend)
        return fast, gradients(*given, **settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remembered", [0, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_tiles_are_the_whole(kind: str, remembered: int, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, with dropout, several documents, and a row of padding that nobody sees or sees from."""
    layer, x, before = attention(kind, dropout=0.3), drawn(B, T, D), drawn(B, remembered, D)
    shape = (B, T, remembered + T)
    see = np.random.default_rng(1).random(shape) < 0.7
    see &= np.tri(T, remembered + T, remembered, dtype=bool) | (not causal)
    see[2] = False
    other = np.random.default_rng(2).random(shape) < 0.5
    fast, plain = both_ways(monkeypatch, layer, x, before, see, other_BQK=other, causal=causal)
    for got, expected in zip(fast, plain, strict=True):
        assert np.abs(got - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    assert all(np.abs(each).max() > 0 for each in fast)


def test_tiles_of_queries_at_places(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = attention("segments", dropout=0.3), drawn(B, T, D)
    see = np.random.default_rng(1).random((B, T, T)) < 0.7
    at = np.stack([np.random.default_rng(2).permutation(T) for _ in range(B)]).astype(np.int32)
    fast, plain = both_ways(monkeypatch, layer, x, drawn(B, 0, D), see, other_BQK=see, at_BP=at)
    for got, expected in zip(fast, plain, strict=True):
        assert np.abs(got - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_in_bfloat16_are_as_near_as_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near to float32, over four draws: the ratio of two rounding errors is itself a chance of some percent, and
    another one on processors that add in another order."""
    errors = np.zeros(2)
    for draw in range(4):
        monkeypatch.setattr(sys.modules[__name__], "noise", np.random.Generator(np.random.Philox(draw)))
        exact, low = attention(kind), attention(kind, dtype="mixed_bfloat16")
        for weight, same in zip(named_weights(low).values(), named_weights(exact).values(), strict=True):
            weight.assign(same.value)
        other = np.random.default_rng(draw).random((40, 30, 30)) < 0.5
        x, nothing, see = drawn(40, 30, D), drawn(40, 0, D), np.tile(np.tri(30, dtype=bool), (40, 1, 1))
        found = both_ways(monkeypatch, low, x, nothing, see, tile=8, causal=True, other_BQK=other)
        names = ["out", "stream", *named_weights(low)]
        true = gradients(exact, x, nothing, see, causal=True, other_BQK=other)
        chosen = [n for n, name in enumerate(names) if name != "k.bias"]  # its gradient is zero: it moves all scores
        for which, each in enumerate(found):
            errors[which] += np.mean([np.linalg.norm(each[n] - true[n]) / np.linalg.norm(true[n]) for n in chosen])
    near, nearest = errors
    assert near <= 1.02 * nearest


def test_what_nobody_sees_ahead_is_never_made() -> None:
    """200 causal queries after 50 keys, 128 at a time: the first read 50 + 128 keys, the rest all."""
    assert kernel.tiles(200, 250, causal=True) == [(0, 128, 178), (128, 200, 250)]
    assert kernel.tiles(200, 250, causal=False) == [(0, 128, 250), (128, 200, 250)]
