"""A vocabulary in bins, against the equations written out word by word."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from shrunk import Bench

from zoo.batch import Places, Stream
from zoo.network.adaptive import AdaptiveHead, Tail
from zoo.network.embedding import Embed
from zoo.network.initial import draw
from zoo.network.names import named_weights
from zoo.network.network import Network
from zoo.network.reader import Reader
from zoo.network.shapes import shapes
from zoo.sections import Model

N, D, V = 29, 66, 53
CUTOFFS = (7, 18, 37)
KINDS = {1: (D, D, D, D), 4: (66, 16, 4, 1)}  # div_val: the widths of the bins
noise = np.random.Generator(np.random.Philox(6))


def network(div_val: int = 1, **changed: Any) -> Network:
    """With every weight away from its start; scores differ by a few nats."""
    shape: dict[str, Any] = {"width": D, "layers": 1, "heads": 2, "context": 8, "head_bias": True}
    built = Network(Model(**{**shape, "cutoffs": CUTOFFS, "div_val": div_val, **changed}), V, seed=None)
    scatter(built)
    return built


def scatter(layer: keras.layers.Layer) -> None:
    generator = np.random.Generator(np.random.Philox(7))
    for weight in named_weights(layer).values():
        weight.assign(generator.standard_normal(weight.shape) * weight.shape[-1] ** -0.5)


def drawn(rows: int = N) -> np.ndarray:
    return noise.standard_normal((rows, D)).astype(np.float32)


class Spelled:
    """The same in float64, one word after the other."""

    def __init__(self, built: Network):
        self.w = {name: np.asarray(weight, np.float64) for name, weight in named_weights(built).items()}
        self.size = built.vocab_size
        self.ends = (0, *built.model.cutoffs, self.size)
        self.narrow = built.model.div_val > 1

    def bin(self, word: int) -> int:
        return sum(word >= cutoff for cutoff in self.ends[1:-1])

    def row(self, word: int) -> np.ndarray:
        b = self.bin(word)
        if not self.narrow:
            return self.w["embed.token.table"][word]
        return self.w[f"embed.token.tables.{b}.table"][word - self.ends[b]]

    def embedding(self, word: int) -> np.ndarray:
        projected = self.row(word)
        return projected @ self.w[f"embed.token.projections.{self.bin(word)}.kernel"] if self.narrow else projected

    def score(self, hidden: np.ndarray, word: int) -> float:
        b = self.bin(word)
        if self.narrow:
            hidden = (
                hidden @ self.w["head.projection.kernel"]
                if b == 0
                else hidden @ self.w[f"embed.token.projections.{b}.kernel"].T
            )
        return hidden @ self.row(word) + self.w["head.bias"][word]

    def log_chances(self, hidden: np.ndarray) -> np.ndarray:
        """[V] of one hidden state [D]."""
        projected = hidden @ self.w["head.projection.kernel"] if self.narrow else hidden
        clusters = self.w["head.clusters.table"] @ projected + self.w["head.clusters.bias"]
        words = np.array([self.score(hidden, word) for word in range(self.size)])
        bins = [words[first:end] for first, end in zip(self.ends, self.ends[1:], strict=False)]
        all_first = log_sum(np.concatenate([bins[0], clusters]))
        tails = [cluster - all_first + tail - log_sum(tail) for cluster, tail in zip(clusters, bins[1:], strict=True)]
        return np.concatenate([bins[0] - all_first, *tails])


def log_sum(score: np.ndarray) -> float:
    return float(np.log(np.exp(score).sum()))


# --- the equations


@pytest.mark.parametrize("div_val", KINDS)
def test_log_probabilities(div_val: int) -> None:
    built, hidden = network(div_val), drawn()
    expected = np.stack([Spelled(built).log_chances(each) for each in hidden.astype(np.float64)])
    got = np.asarray(built.logits(hidden))
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 1e-5
    assert np.abs(np.exp(got.astype(np.float64)).sum(axis=-1) - 1).max() < 1e-6
    shaped = np.asarray(built.logits(hidden.reshape(1, N, D)))
    assert np.array_equal(shaped, got[None])


@pytest.mark.parametrize("div_val", KINDS)
def test_the_loss(div_val: int) -> None:
    built, hidden = network(div_val), drawn()
    target, weight = noise.integers(0, V, N).astype(np.int32), noise.random(N).astype(np.float32)
    weight[::3] = 0
    chances = np.stack([Spelled(built).log_chances(each) for each in hidden.astype(np.float64)])
    expected = -(weight * chances[np.arange(N), target]).sum()
    assert float(built.scores(hidden).loss(target, weight)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("div_val", KINDS)
def test_embeddings(div_val: int) -> None:
    built = network(div_val)
    words = np.arange(V).reshape(1, -1)
    expected = np.stack([Spelled(built).embedding(word) for word in range(V)])
    assert np.abs(np.asarray(built.embed.token(words))[0] - expected).max() < 1e-5


@settings(max_examples=20)
@given(st.data())
def test_any_bins_make_a_distribution(data: st.DataObject) -> None:
    """Of any cutoffs, tails of a single word too."""
    size = data.draw(st.integers(2, 60))
    cutoffs = tuple(sorted(data.draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=4))))
    model = Model(width=16, layers=1, heads=1, context=1, head_bias=data.draw(st.booleans()), cutoffs=cutoffs)
    model = model.model_copy(update={"div_val": data.draw(st.integers(1, 2))})
    embed, head = Embed(model, size), AdaptiveHead(model, size)
    scatter(embed)
    scatter(head)
    hidden, target = drawn(5)[:, :16], np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=5, max_size=5)))
    scores = head.scores(hidden, embed.token)
    log_chance = np.asarray(scores.logits(), np.float64)
    assert log_chance.shape == (5, size)
    assert np.abs(np.exp(log_chance).sum(axis=-1) - 1).max() < 1e-6
    loss = scores.loss(target.astype(np.int32), np.ones(5, np.float32))
    assert float(loss) == pytest.approx(-log_chance[np.arange(5), target].sum(), rel=1e-5, abs=1e-6)
    assert np.array_equal(np.asarray(scores.likeliest()), log_chance.argmax(axis=-1))


# --- the fast way


TARGETS = {
    "of all bins": noise.integers(0, V, N),
    "of two bins": np.where(np.arange(N) % 2, 3, 20),
    "of the shortlist": noise.integers(0, 7, N),
    "of one tail": noise.integers(18, 37, N),
}


@pytest.mark.parametrize("div_val", KINDS)
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_the_fast_loss_is_that_of_every_bin_for_every_token(
    dtype: str, tolerance: float, targets: str, div_val: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In gradients too, and where places weigh nothing."""
    model = Model(width=D, layers=1, heads=2, context=8, head_bias=True, cutoffs=CUTOFFS, div_val=div_val)
    built = Network(model, V, dtype)
    for name, weight in named_weights(network(div_val)).items():
        named_weights(built)[name].assign(weight)
    weights = {name: weight.value for name, weight in named_weights(built).items() if not name.startswith("blocks.")}
    target, weight = tf.constant(TARGETS[targets], tf.int32), noise.random(N).astype(np.float32)
    weight[::4] = 0
    hidden = tf.constant(drawn())

    def run() -> tuple[float, dict[str, np.ndarray]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([hidden, *weights.values()])
            loss = built.scores(hidden).loss(target, weight)
            scaled = loss * 0.37
        found = tape.gradient(scaled, {"hidden": hidden, **weights}, unconnected_gradients="zero")
        return float(loss), {name: np.asarray(tf.convert_to_tensor(each)) for name, each in found.items()}

    fast, fast_gradients = run()
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    plain, plain_gradients = run()
    assert fast == pytest.approx(plain, rel=tolerance / 10)
    assert not fast_gradients["hidden"][::4].any()
    for name, gradient in plain_gradients.items():
        assert np.abs(fast_gradients[name] - gradient).max() <= tolerance * max(np.abs(gradient).max(), 0.1), name
    touched = {name for name, gradient in plain_gradients.items() if gradient.any()}
    assert {"hidden", "head.bias", "head.clusters.bias"} <= touched


def test_a_tail_is_read_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a loss at the places of its own words that weigh something, to find the likeliest where its cluster leads."""
    built, hidden = network(), drawn()
    read: list[int] = []
    plain = Tail.scores
    monkeypatch.setattr(Tail, "scores", lambda self, hidden: read.append(int(hidden.shape[0])) or plain(self, hidden))
    scores, target = built.scores(hidden), TARGETS["of all bins"].astype(np.int32)
    weight = (np.arange(N) % 3 > 0).astype(np.float32)
    scores.loss(target, weight)
    inside = [(target >= first) & (target < end) for first, end in zip(CUTOFFS, (*CUTOFFS[1:], V), strict=True)]
    assert read == [int((each & (weight > 0)).sum()) for each in inside]
    read.clear()
    scores.likeliest()
    log_chance = np.asarray(scores.logits())
    expected, best = [], log_chance[:, : CUTOFFS[0]].max(axis=1)
    for first, end in zip(CUTOFFS, (*CUTOFFS[1:], V), strict=True):
        cluster = np.log(np.exp(log_chance[:, first:end]).sum(axis=1))
        expected.append(int((cluster > best).sum()))
        best = np.maximum(best, log_chance[:, first:end].max(axis=1))
    assert read[:3] == expected
    assert 0 < sum(expected) < 3 * N


@pytest.mark.parametrize("div_val", KINDS)
def test_what_is_guessed_right_is_counted_over_the_whole_vocabulary(div_val: int) -> None:
    built, hidden = network(div_val), 3 * drawn(400).reshape(4, 100, D)  # far apart, so that every bin has a best word
    best = np.asarray(built.logits(hidden)).argmax(axis=-1)
    assert {int(b) for b in np.unique(np.digitize(best, CUTOFFS))} == {0, 1, 2, 3}
    assert np.array_equal(np.asarray(built.scores(hidden).likeliest()), best)
    target = np.where(noise.random(best.shape) < 0.5, best, noise.integers(0, V, best.shape)).astype(np.int32)
    weight = noise.random(best.shape).astype(np.float32)
    reader = Reader(built)
    reader.token_loss(hidden, Places(None, target, weight))
    assert float(reader.right) == pytest.approx(float(weight[best == target].sum()), rel=1e-5)


# --- parameters


# Dai et al. 2019, WikiText-103: 267,735 words with cutoffs 20,000, 40,000 and 200,000, no biases in attention.
WORDS, BINS = 267_735, (20_000, 40_000, 200_000)
BASE = {"width": 410, "layers": 16, "heads": 10, "inner": 2100}
LARGE = {"width": 1024, "layers": 18, "heads": 16, "inner": 4096, "div_val": 4}
SIZES = {
    # table, bias, three clusters with a bias each; 16 blocks of 5 projections, inner, 2 norms; one pair of biases
    "base": ({**BASE, "tied_biases": True}, 151_107_538),
    "base, untied": (BASE, 151_107_538 + 15 * 2 * 410),
    # Tables 20,000 x 1024 + 20,000 x 256 + 160,000 x 64 + 67,735 x 16 = 36,923,760; their projections
    # (1024 + 256 + 64 + 16) x 1024 = 1,392,640 and the head's own 1024 x 1024 = 1,048,576; biases 267,735 and clusters
    # 3 x 1024 + 3. A block: 5 x 1024 x 1024, biases 2 x 1024, inner 2 x 1024 x 4096 + 4096 + 1024, norms 4 x 1024
    # = 13,642,752.
    "large": (LARGE, 36_923_760 + 1_392_640 + 1_048_576 + 267_735 + 3_075 + 18 * 13_642_752),
}


@pytest.mark.parametrize("name", SIZES)
def test_transformer_xl_has_the_parameters_of_the_release(name: str) -> None:
    shape, expected = SIZES[name]
    shape = {"context": 150, "norm": "post", "positions": "relative", "attention_bias": False, **shape}
    model = Model(**shape, head_bias=True, cutoffs=BINS)
    assert sum(map(math.prod, shapes(model, WORDS).values())) == expected
    assert expected in (151_107_538, 151_119_838, 285_205_322)


def test_the_start_of_projections_and_clusters() -> None:
    model = Model(width=D, layers=1, heads=2, context=8, cutoffs=CUTOFFS, div_val=4, projection_std=0.01)
    for name in ("embed.token.projections.2.kernel", "head.projection.kernel"):
        assert draw(model, 0, name, (300, 400)).std() == pytest.approx(0.01, rel=0.02)
        same = draw(model.model_copy(update={"projection_std": None}), 0, name, (300, 400))
        assert same.std() == pytest.approx(0.02, rel=0.02)
    for name in ("embed.token.tables.1.table", "head.clusters.table"):
        assert draw(model, 0, name, (300, 400)).std() == pytest.approx(0.02, rel=0.02)
    assert not draw(model, 0, "head.clusters.bias", (3,)).any()


# --- one pair of biases


def test_tied_biases_are_one_pair_whose_gradients_add_up() -> None:
    own = network(positions="relative", layers=3)
    tied = network(positions="relative", layers=3, tied_biases=True)
    for name, weight in named_weights(own).items():
        kind = name.rpartition(".")[2]
        weight.assign(named_weights(tied)[kind if kind in ("content_bias", "position_bias") else name])
    place = np.tile(np.arange(8, dtype=np.int32), (2, 1))
    stream = Stream(noise.integers(0, V, place.shape).astype(np.int32), place * 0 + 1, place, place * 0, place)
    target, weight = noise.integers(0, V, place.shape).astype(np.int32), np.ones(place.shape, np.float32)
    losses, gradients = [], []
    for built in (own, tied):
        weights = {name: each.value for name, each in named_weights(built).items()}
        with tf.GradientTape() as tape:
            loss = built.scores(built.read(stream)).loss(target, weight)
        losses.append(float(loss))
        gradients.append(
            {name: np.asarray(tf.convert_to_tensor(g)) for name, g in tape.gradient(loss, weights).items()}
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for kind in ("content_bias", "position_bias"):
        parts = [gradients[0].pop(f"blocks.{n}.attend.{kind}") for n in range(3)]
        assert all(part.any() for part in parts)
        np.testing.assert_allclose(gradients[1].pop(kind), sum(parts), rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()


# --- in training


def test_how_an_update_is_split_changes_nothing() -> None:
    """Though each part of it has other tails."""
    model = {"cutoffs": [20, 40, 70], "div_val": 2, "positions": "relative", "tied_biases": True, "head_bias": True}
    (_, whole, gradients), (_, parts, other) = (Bench("gpt2-small", rows, model).sums(0) for rows in (8, 2))
    assert whole == pytest.approx(parts, rel=1e-6)
    norm = math.sqrt(sum(float((each**2).sum()) for each in gradients.values()))
    assert set(gradients) == set(other)
    for name, gradient in gradients.items():
        assert gradient.any(), name
        assert np.abs(gradient - other[name]).max() <= 1e-6 * norm, name
