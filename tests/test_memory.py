"""Rows that go on from the rows before them: against Transformer-XL's equations in plain numpy, and what must not leak.

Shapes: B rows or streams, T tokens a row, M tokens remembered, D width.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shrunk import Bench

from zoo.batch import Batch, Rows, Stream
from zoo.errors import UserError
from zoo.network.memory import Memory
from zoo.network.names import named_weights
from zoo.network.network import Network
from zoo.network.past import Past, Reach
from zoo.noise import Noise
from zoo.objective import Vocab
from zoo.registry import objective, recipe
from zoo.sections import Model
from zoo.train import budget
from zoo.visibility import visible

B, V = 3, 31
VOCAB = Vocab(size=V, used=V, special={"sep": 0, "cls": 1, "mask": 2})
# Weights far larger than in training, so that whatever can move a state moves it visibly.
XL = Model(
    width=10,
    heads=2,
    layers=3,
    inner=14,
    context=8,
    norm="post",
    activation="relu",
    positions="relative",
    attention_bias=False,
    embedding_scale=True,
    init_std=0.3,
    memory=5,
)


def causal(token_BT: np.ndarray) -> Stream:
    place = np.broadcast_to(np.arange(token_BT.shape[1], dtype=np.int32), token_BT.shape)
    one = np.ones_like(token_BT)
    return Stream(token_BT, one, place, 0 * one, place)


def tokens(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, (B, length)).astype(np.int32)


def read_on(network: Network, streams: Iterable[Stream], memory: Memory, **past: Any) -> list[np.ndarray]:
    """What the network makes of segment after segment, each going on from the one before."""
    found = []
    for number, stream in enumerate(streams):
        on = memory.past(np.int64(0), np.full(len(stream.token), number == 0), **past)
        found.append(np.asarray(network.read(stream, past=on)))
        memory.take(np.int64(0), on)
    return found


def pieces(token_BT: np.ndarray, *lengths: int) -> list[Stream]:
    ends = np.cumsum(lengths)
    return [causal(token_BT[:, end - length : end]) for end, length in zip(ends, lengths, strict=True)]


# --- Transformer-XL from its equations (Dai et al. 2019, section 3.3 and appendix B), one number at a time


def norm(x: np.ndarray, weight: dict[str, np.ndarray], name: str, epsilon: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weight[f"{name}.scale"]
        + weight[f"{name}.bias"]
    )


def position(distance: int, width: int) -> np.ndarray:
    angle = distance / 10000 ** (2 * np.arange(width // 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)])


class PlainXL:
    """One stream, token by token and pair by pair; `memory` holds each block's inputs at the tokens before."""

    def __init__(self, network: Network, model: Model):
        self.model = model
        self.weight = {name: np.asarray(value, np.float64) for name, value in named_weights(network).items()}
        self.memory: list[np.ndarray] = [np.zeros((0, model.width)) for _ in range(model.layers)]

    def read(self, token_T: np.ndarray) -> np.ndarray:
        model, weight = self.model, self.weight
        h_TD = weight["embed.token.table"][token_T] * model.width**0.5
        for block in range(model.layers):
            old = self.memory[block]
            whole_KD = np.concatenate([old, h_TD])
            self.memory[block] = whole_KD[len(whole_KD) - min(len(whole_KD), model.memory) :]
            name = f"blocks.{block}"
            mixed = np.stack([self.mixed(f"{name}.attend", whole_KD, len(old) + i) for i in range(len(h_TD))])
            h_TD = norm(h_TD + mixed, weight, f"{name}.attend_norm", model.norm_epsilon)
            up = np.maximum(h_TD @ weight[f"{name}.inner.up.kernel"] + weight[f"{name}.inner.up.bias"], 0)
            down = up @ weight[f"{name}.inner.down.kernel"] + weight[f"{name}.inner.down.bias"]
            h_TD = norm(h_TD + down, weight, f"{name}.inner_norm", model.norm_epsilon)
        return h_TD

    def mixed(self, name: str, whole_KD: np.ndarray, i: int) -> np.ndarray:
        """What attention gives the token at place i."""
        model, weight = self.model, self.weight
        d, heads = model.head_width, []
        for head in range(model.heads):
            part = slice(head * d, (head + 1) * d)
            q, k, v, r = (weight[f"{name}.{which}.kernel"][:, part] for which in ("q", "k", "v", "r"))
            query = whole_KD[i] @ q
            score, value = [], []
            for j in range(i + 1):
                if model.same_length and i - j > model.memory:
                    continue
                distance = i - j if model.clamp is None else min(i - j, model.clamp)
                content = (query + weight[f"{name}.content_bias"][head]) @ (whole_KD[j] @ k)
                place = (query + weight[f"{name}.position_bias"][head]) @ (position(distance, model.width) @ r)
                score.append((content + place) / d**0.5)
                value.append(whole_KD[j] @ v)
            chance = np.exp(np.array(score) - max(score))
            heads.append(chance / chance.sum() @ np.array(value))
        return np.concatenate(heads) @ weight[f"{name}.out.kernel"]


@pytest.mark.parametrize("same_length", [False, True])
@pytest.mark.parametrize("clamp", [None, 3])
def test_transformer_xl_equals_its_equations(same_length: bool, clamp: int | None) -> None:
    model = XL.model_copy(update={"same_length": same_length, "clamp": clamp})
    network, token = Network(model, V), tokens(19)
    got = read_on(network, pieces(token, 4, 4, 4, 4, 3), Memory(model, Reach.of(model), B, 4, "float32"))
    for row in range(B):
        plain = PlainXL(network, model)
        expected = np.concatenate([plain.read(part) for part in np.split(token[row], [4, 8, 12, 16])])
        np.testing.assert_allclose(np.concatenate(got, axis=1)[row], expected, atol=1e-5)


# --- what is remembered


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 2), st.booleans())
def test_the_segmentation_changes_nothing_where_every_token_looks_equally_far(
    lengths: list[int], more: int, clamped: bool
) -> None:
    """With same_length, a memory as long as the window or longer, and any segments: one reading of all of it."""
    model = XL.model_copy(update={"same_length": True, "clamp": 3 if clamped else None, "layers": 2})
    network, token = NETWORKS.setdefault(clamped, Network(model, V)), tokens(sum(lengths))
    whole = np.asarray(network.read(causal(token)))
    for length in set(lengths):  # a memory keeps so many tokens of each row, so that rows are equally long
        count = sum(lengths) // length
        parts = read_on(network, pieces(token, *[length] * count), Memory(model, Reach.of(model), B, length, "float32"))
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole[:, : count * length], atol=2e-5)


NETWORKS: dict[bool, Network] = {}


# --- what may be remembered


def batches(name: str, rows: int, reuse: int | None, length: int, seed: int) -> Batch:
    """A batch of random text as an objective makes it, in parts where `reuse` says so."""
    kind, draw = objective(name), np.random.default_rng(seed)
    made = kind(kind.Settings(), VOCAB, length, reuse)
    token = draw.integers(3, V, (rows, length + made.extra_tokens)).astype(np.int32)
    if reuse is not None:
        token[:, -2:] = [[VOCAB.special["sep"], VOCAB.special["cls"]]]
    one, place = np.ones_like(token), np.broadcast_to(np.arange(token.shape[1], dtype=np.int32), token.shape)
    text = Rows(token, one, place, 0 * one, draw.random(token.shape) < 0.7, one > 0, reset=np.zeros(rows, bool))
    return made.make_batch(Noise(seed, 0, 0, rows), text)


@given(st.integers(1, 12), st.integers(5, 20), st.integers(0, 2**32 - 1))
def test_what_is_remembered_of_a_row_sees_nothing_else_of_it(reuse: int, rest: int, seed: int) -> None:
    """Or what it saw would reach the next row through it: a set that is closed downwards."""
    for name, kept in (("causal", None), ("masked", None), ("permutation", None), ("permutation", reuse)):
        stream = batches(name, 2, kept, reuse + rest, seed).stream
        keep = kept or stream.token.shape[1]
        see = visible(stream, stream)
        assert not see[:, :keep, keep:].any()
        if kept is not None and not see[:, : keep + 1, keep + 1 :].any():
            # one more token is closed too only where nothing else of the second part is seen by it
            assert (stream.rank[:, keep + 1 :] > stream.rank[:, [keep]]).all()


XLNET = XL.model_copy(update={"segments": 2, "embedding_scale": False, "memory": 6, "layers": 2})


def moved(network: Network, blank: np.ndarray, two: list[Batch], keep: int, change: tuple[int, int]) -> np.ndarray:
    """[P] bool: which predictions of the second row another token at (row, place) moves."""
    states = []
    for other in (False, True):
        streams = [batch.stream for batch in two]
        if other:
            row, place = change
            token = streams[row].token.copy()
            token[0, place] = 3 + (token[0, place] - 2) % (V - 3)
            streams[row] = streams[row]._replace(token=token)
        memory = Memory(XLNET, Reach(6), 1, keep, "float32")
        for number, (batch, stream) in enumerate(zip(two, streams, strict=True)):
            past = memory.past(np.int64(0), np.array([number == 0]))
            states.append(network.read_blind(stream, batch.tasks["permutation"].at, blank, past=past))
            memory.take(np.int64(0), past)
    return np.abs(np.asarray(states[1]) - np.asarray(states[3])).max(axis=(0, 2)) > 1e-6


def test_nothing_leaks_from_row_to_row() -> None:
    """The second part of a row is what the next row predicts: it must not be remembered, and the first part must."""
    network, blank = Network(XLNET, V), np.linspace(-1, 1, XLNET.width, dtype=np.float32)
    two = [batches("permutation", 1, 6, 14, seed) for seed in (1, 2)]
    scored = two[1].tasks["permutation"].weight[0] > 0
    assert scored.any()
    for place in range(14):
        assert moved(network, blank, two, 6, (0, place))[scored].all() == (place < 6), place
    # the control: a memory of the whole row lets the second part through
    assert moved(network, blank, two, 14, (0, 10))[scored].all()
    # and within the second row what is predicted moves nothing that predicts it
    places = two[1].tasks["permutation"]
    for n, at in enumerate(places.at[0]):
        assert not (scored[n] and moved(network, blank, two, 6, (1, int(at)))[n])


def test_no_gradient_flows_into_a_memory() -> None:
    import tensorflow as tf

    network, memory = Network(XL, V), Memory(XL, Reach(5), B, 4, "float32")
    first, second = pieces(tokens(8), 4, 4)
    past = memory.past(np.int64(0), np.ones(B, bool))
    table = network.embed.token.table.value
    with tf.GradientTape() as tape:
        network.read(first, past=past)
        on = Past(Reach(5), past.kept, np.full(B, 4, np.int32))
        total = tf.reduce_sum(network.read(second, past=on)[..., 0])
    gradient = tf.convert_to_tensor(tape.gradient(total, table)).numpy()
    unread = sorted({*first.token.ravel()} - {*second.token.ravel()})
    assert unread
    assert not gradient[unread].any()
    assert gradient[sorted({*second.token.ravel()})].any()


def test_an_empty_memory_is_not_attended_to() -> None:
    network, stream = Network(XL, V), causal(tokens(6))
    alone = np.asarray(network.read(stream))
    states = [np.full((B, 5, XL.width), 7, np.float32) for _ in range(XL.layers)]
    for filled, equal in ((0, True), (1, False)):
        got = np.asarray(network.read(stream, past=Past(Reach(5), states, np.full(B, filled, np.int32))))
        assert np.allclose(got, alone, atol=1e-5) == equal


# --- streams in the engine


def test_an_update_reads_several_rows_of_a_stream_one_after_another() -> None:
    """8 rows of 4 streams: the same losses as two updates of 4 rows whose weights do not change in between."""
    both, halves = Bench("transformer-xl-nano", 4, streams=4), Bench("transformer-xl-nano", 4, tokens_per_update=96)
    _, total, _ = both.sums(0)
    parts = [halves.sums(number)[1]["causal"] for number in (0, 1)]
    assert total["causal"] == pytest.approx(sum(parts), rel=1e-6)
    alone = halves.reset().sums(1)[1]["causal"]
    assert alone != pytest.approx(parts[1], rel=1e-6)  # without what it goes on from


@pytest.mark.parametrize("micro_rows", [3, 1])
def test_how_an_update_is_split_changes_no_memory(micro_rows: int) -> None:
    whole, split = Bench("xlnet-base", 8), Bench("xlnet-base", micro_rows)
    for number in range(3):
        whole.sums(number)
        split.sums(number)
    for name, value in whole.engine.remembered().items():
        np.testing.assert_allclose(np.asarray(split.engine.remembered()[name]), np.asarray(value), atol=1e-5)
    assert (np.asarray(whole.engine.remembered()["filled"]) == 8).all()


def test_a_memory_that_does_not_fit_is_refused_with_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "memory_limits", lambda: {"available": 24_000_000_000})
    told = r"needs 29.0 GB \(4 x 12 layers x 2,048 streams x 384 tokens x width 768\) and this machine has 24.0 GB; at"
    with pytest.raises(UserError, match=f"{told} most 1695 train.streams fit, or a shorter model.memory"):
        budget.check_memory(recipe("xlnet-base", train={"precision": "float32"}))
    budget.check_memory(recipe("xlnet-base", train={"precision": "bfloat16"}))
    budget.check_memory(recipe("gpt2-small"))
