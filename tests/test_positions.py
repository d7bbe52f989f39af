"""Sinusoids and relative scores, against the formulas written out."""

import math

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.kernels.scores import Pairs, Products, relative_gather, relative_shift, total, total_gradient
from zoo.network.positions import distances, sinusoid

B, H, D = 3, 2, 10
noise = np.random.Generator(np.random.Philox(1))


def test_sinusoid() -> None:
    got = np.asarray(sinusoid(np.array([[0, 3], [5, 1]]), D))
    assert got.shape == (2, 2, D)
    for (b, t), place in np.ndenumerate([[0, 3], [5, 1]]):
        for i in range(D // 2):
            angle = place / 10000 ** (2 * i / D)
            assert got[b, t, [i, D // 2 + i]] == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)


def test_an_odd_width_has_one_more_sine() -> None:
    odd, even = np.asarray(sinusoid(np.arange(4), 7)), np.asarray(sinusoid(np.arange(4), 8))
    assert odd.shape == (4, 7)
    assert odd[:, 4:].any()
    assert even[:, 4:].any()


def by_distance(queries: int, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores by distance, and the same by key, with a loop: the queries are the last of the keys' places."""
    score = noise.standard_normal((B, H, queries, queries + keys)).astype(np.float32)
    column = {int(distance): n for n, distance in enumerate(np.asarray(distances(queries, keys)))}
    expected = np.empty((B, H, queries, keys), np.float32)
    for i in range(queries):
        for j in range(keys):
            expected[:, :, i, j] = score[:, :, i, column[keys - queries + i - j]]
    return score, expected


@pytest.mark.parametrize("queries, keys", [(7, 7), (5, 11), (1, 1), (1, 4)])
def test_relative_shift(queries: int, keys: int) -> None:
    score, expected = by_distance(queries, keys)
    assert np.array_equal(np.asarray(relative_shift(ops.convert_to_tensor(score), keys)), expected)


@pytest.mark.parametrize("queries, keys", [(7, 7), (5, 11)])
def test_relative_gather_takes_the_rows_that_the_shift_would(queries: int, keys: int) -> None:
    score, expected = by_distance(queries, keys)
    at = np.stack([noise.permutation(queries)[:3] for _ in range(B)]).astype(np.int32)
    rows = np.take_along_axis(score, at[:, None, :, None], axis=2)
    got = relative_gather(ops.convert_to_tensor(rows), ops.convert_to_tensor(queries - 1 - at), keys)
    assert np.array_equal(np.asarray(got), np.take_along_axis(expected, at[:, None, :, None], axis=2))


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_of_a_sum_is_the_one_that_a_tape_finds(anywhere: bool, dtype: str) -> None:
    """By shift, and for queries that stand anywhere, of which two stand at the ends of the row."""
    queries, keys = 5, 11

    def drawn(*shape: int) -> tf.Tensor:
        return tf.constant(noise.standard_normal((B, H, queries, *shape)), dtype)

    made = Products(drawn(keys), drawn(queries + keys), tf.cast(drawn(1), "float32"))
    first = tf.constant([noise.permutation(queries) for _ in range(B)], "int32") if anywhere else None
    pairs = Pairs(other=tf.constant(noise.random((B, queries, keys)) < 0.5), first=first)
    with tf.GradientTape() as tape:
        tape.watch(made)
        score = total(made, pairs)
    back = tf.cast(drawn(keys), "float32")
    for got, expected in zip(total_gradient(back, made, pairs), tape.gradient(score, made, back), strict=True):
        assert got.dtype == expected.dtype
        assert np.array_equal(got, tf.convert_to_tensor(expected))
