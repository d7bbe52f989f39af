"""Rows that go on from the rows before them: against Transformer-XL's equations in plain numpy, and what must not leak.

Shapes: B rows or streams, T tokens a row, M tokens remembered, D width.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.batch import Stream
from zoo.network.memory import Memory
from zoo.network.names import named_weights
from zoo.network.network import Network
from zoo.network.past import Reach
from zoo.sections import Model

B, V = 3, 31
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
