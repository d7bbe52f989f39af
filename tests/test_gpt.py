"""The first GPT: the softmax of its loss covers the rows of positions, and nothing else of it does."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from shrunk import STILL, Bench

from zoo.batch import Places
from zoo.kernels.random import RowNoise
from zoo.network.network import Network
from zoo.network.reader import Reader
from zoo.sections import Model

D, C, V, N = 10, 7, 31, 13  # width, context, vocabulary, places that predict
MODEL = Model(width=D, layers=1, heads=2, context=C, norm="post", head_positions=True)
draw = np.random.default_rng(0)
HIDDEN = draw.normal(size=(1, N, D)).astype(np.float32)
PLACES = Places(None, draw.integers(0, V, (1, N)).astype(np.int32), draw.random((1, N)).astype(np.float32))


def network(compute_dtype: str = "float32") -> Network:
    built = Network(MODEL, V, compute_dtype)
    for embedding in (built.embed.token, built.embed.position):
        assert embedding is not None
        embedding.table.assign(draw.normal(size=embedding.table.shape))
    return built


def rows(built: Network) -> np.ndarray:
    """[V + C, D] float64: what the softmax is over."""
    tables = (built.embed.token, built.embed.position)
    return np.concatenate([np.asarray(one.table) for one in tables if one is not None]).astype(np.float64)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores - scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def plain_loss(hidden: np.ndarray, places: Any, table: np.ndarray) -> float:
    found = log_softmax(hidden.astype(np.float64) @ table.T)
    return -float((places.weight * np.take_along_axis(found, places.target[..., None], axis=-1)[..., 0]).sum())


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_over_tokens_and_positions(training: bool) -> None:
    built = network()
    reader = Reader(built, noise=RowNoise(0, 0, 0) if training else None)
    loss = float(reader.token_loss(tf.constant(HIDDEN), PLACES))
    assert loss == pytest.approx(plain_loss(HIDDEN, PLACES, rows(built)), rel=1e-5)
    assert loss != pytest.approx(plain_loss(HIDDEN, PLACES, rows(built)[:V]), rel=1e-2)


def test_the_gradient_reaches_the_positions_through_the_softmax() -> None:
    built = network()
    assert built.embed.position is not None
    with tf.GradientTape() as tape:
        loss = Reader(built).token_loss(tf.constant(HIDDEN), PLACES)
    found = tape.gradient(loss, [built.embed.token.table.value, built.embed.position.table.value])
    error = np.exp(log_softmax(HIDDEN.astype(np.float64) @ rows(built).T))
    error -= np.eye(V + C)[PLACES.target]
    wanted = np.einsum("bnr,bnd->rd", PLACES.weight[..., None] * error, HIDDEN)
    np.testing.assert_allclose(np.concatenate([np.asarray(one) for one in found]), wanted, atol=1e-4)
    assert np.abs(wanted[V:]).max() > 0.1


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_logits_are_of_tokens_alone(compute_dtype: str) -> None:
    built = network(compute_dtype)
    scores, logits = built.scores(HIDDEN).score, built.logits(HIDDEN)
    assert (scores.shape, scores.dtype) == ((1, N, V + C), compute_dtype)
    assert (logits.shape, logits.dtype) == ((1, N, V), "float32")
    np.testing.assert_allclose(tf.cast(scores, tf.float32)[..., :V], logits, atol=0.05)


def test_a_place_where_a_position_scores_highest_is_not_guessed_right() -> None:
    built = network()
    assert built.embed.position is not None
    best = np.argmax(np.asarray(built.scores(HIDDEN).score)[..., :V], axis=-1).astype(np.int32)
    reader = Reader(built)
    reader.token_loss(tf.constant(HIDDEN), PLACES._replace(target=best))
    ahead = np.argmax(np.asarray(built.scores(HIDDEN).score), axis=-1) < V
    assert 0 < ahead.sum() < N
    assert float(reader.right) == pytest.approx(float(PLACES.weight[ahead].sum()))


def test_two_updates() -> None:
    """From chance, which counts the positions, on; the five that no token has are learned from the softmax alone."""
    bench = Bench("gpt", model={**STILL, "context": 29})
    assert bench.learner.objective.chance() == {"causal": math.log(101 + 29)}
    batch = bench.feed.update(0).batches[0]
    hidden, places = np.asarray(bench.learner.network.read(batch.stream)), batch.tasks["causal"]
    wanted = plain_loss(hidden, places, rows(bench.learner.network))
    weights, first, gradients = bench.sums(0)
    assert first["causal"] == pytest.approx(wanted, rel=1e-5)
    assert first["causal"] / weights["causal"] == pytest.approx(math.log(101 + 29), rel=0.01)
    assert gradients["embed.position.table"].shape == (29, 20)
    assert (gradients["embed.position.table"][24:] != 0).any(axis=-1).all()
    assert all(np.isfinite(weight).all() for weight in bench.train(2).values())
    assert bench.sums(0)[1]["causal"] < first["causal"]
