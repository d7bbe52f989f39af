"""Where to predict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import places
from zoo.batch import Rows
from zoo.noise import Noise


def grids(seed: int, height: int, length: int, odds: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """What may be chosen (the last rows end in padding), and word starts."""
    draw = np.random.default_rng(seed)
    may = draw.random((height, length)) < 0.9
    may[height // 2 :, length - 3 :] = False
    return may, draw.random((height, length)) < odds


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 40))
def test_exact_takes_exactly_what_is_asked(seed: int, length: int, most: int) -> None:
    may, _ = grids(seed, 5, length)
    count = np.random.default_rng(seed).integers(0, most + 1, 5)
    chosen = places.exact(Noise(seed, 0, 0, 5), may, count)
    assert not (chosen & ~may).any()
    np.testing.assert_array_equal(chosen.sum(axis=1), np.minimum(count, may.sum(axis=1)))


def test_exact_favours_nobody() -> None:
    chosen = places.exact(Noise(1, 0, 0, 4000), np.ones((4000, 11), bool), np.full(4000, 3))
    odds = 3 / 11
    assert (np.abs(chosen.mean(axis=0) - odds) < 5 * np.sqrt(odds * (1 - odds) / 4000)).all()


def test_words() -> None:
    """A piece begins a word of its own at the row's edge and behind a token that may not be chosen."""
    may = np.array([[1, 1, 1, 0, 1, 1, 1, 0]], bool)
    start = np.array([[0, 0, 1, 1, 0, 0, 1, 0]], bool)
    assert places.words(may, start)[may].tolist() == [0, 0, 1, 2, 2, 3]


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_words_are_chosen_whole_or_not_at_all(seed: int, most: int) -> None:
    may, start = grids(seed, 5, 31)
    count = np.random.default_rng(seed).integers(1, most + 1, 5)
    chosen = places.whole_words(Noise(seed, 0, 0, 5), may, start, count)
    for row in range(5):
        words: list[list[int]] = []
        for column in np.flatnonzero(may[row]):
            if not words or start[row, column] or column - 1 != words[-1][-1]:
                words.append([])
            words[-1].append(int(column))
        taken = [word for word in words if chosen[row, word[0]]]
        assert sorted(column for word in taken for column in word) == np.flatnonzero(chosen[row]).tolist()
        left = count[row] - sum(map(len, taken))
        assert left >= 0
        assert all(len(word) > left for word in words if word not in taken)  # else it would have been taken


def test_whole_words_favour_no_word() -> None:
    """With words of one length the choice is uniform over words."""
    start = np.tile([True, False], (4000, 6))
    chosen = places.whole_words(Noise(1, 0, 0, 4000), np.ones_like(start), start, np.full(4000, 4))
    assert (chosen.sum(axis=1) == 4).all()
    assert (np.abs(chosen.mean(axis=0) - 1 / 3) < 5 * np.sqrt(2 / 9 / 4000)).all()


def as_released(
    draws: np.ndarray, start: np.ndarray, end_of_row: int, goal: int, max_gram: int, ratio: int
) -> set[int]:
    """_sample_mask of XLNet's release without topping up, with its random choices given."""
    odds = 1 / np.arange(1, max_gram + 1)
    odds /= odds.sum()
    chosen: set[int] = set()
    current = 0
    for size, offset in draws:
        if len(chosen) >= goal or current >= end_of_row:
            break
        n = 1
        while n < max_gram and size >= odds[:n].sum():
            n += 1
        n = min(n, goal - len(chosen))
        context = n * ratio
        left = int(offset * context)
        begin = current + left
        while begin < end_of_row and not start[begin]:
            begin += 1
        end = begin + n
        if end >= end_of_row:
            break
        chosen |= set(range(begin, end))
        current = end + context - left
    return chosen


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6), st.integers(1, 6))
def test_spans_are_the_release_s(seed: int, goal: int, max_gram: int, ratio: int) -> None:
    _, start = grids(seed, 4, 61)
    real = np.arange(61) < np.array([61, 61, 40, 3])[:, None]
    noise, settings = Noise(seed, 0, 0, 4), {"max_gram": max_gram, "alpha": 2 * ratio, "beta": 2}
    chosen = places.spans(noise, start, real, np.full(4, goal), **settings)
    np.testing.assert_array_equal(chosen.sum(axis=1), np.minimum(goal, real.sum(axis=1)))
    draws = noise.uniform("places.spans", -(-61 // (1 + ratio)), 2)
    spans = np.zeros_like(chosen)
    for row in range(4):
        spans[row, list(as_released(draws[row], start[row], int(real[row].sum()), goal, max_gram, ratio))] = True
    topped_up = spans | places.exact(noise, real & ~spans, goal - spans.sum(axis=1))
    np.testing.assert_array_equal(chosen, topped_up)


def test_the_lengths_of_spans() -> None:
    """1 to 5 with odds in proportion to 1/n. In long rows nothing is topped up, and two spans never touch."""
    length, goal = 4000, 60
    everything = np.ones((100, length), bool)
    settings = {"max_gram": 5, "alpha": 6, "beta": 1}
    chosen = places.spans(Noise(3, 0, 0, 100), everything, everything, np.full(100, goal), **settings)
    found = []
    for row in chosen:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]])))
        lengths = edges[1::2] - edges[::2]
        found += lengths[:-1].tolist()  # the last one is what was left of the goal
    odds = 1 / np.arange(1, 6) / (1 / np.arange(1, 6)).sum()
    share = np.bincount(found, minlength=6)[1:] / len(found)
    assert len(found) > 2000
    # Long spans come less often than they are drawn, because they end a row: hence the wide interval.
    assert (np.abs(share - odds) < 0.03).all()


@pytest.mark.parametrize(
    "rate, length, count", [(0.15, 512, 77), (0.15, 128, 19), (0.15, 3, 1), (1 / 6, 512, 85), (0.15, 10, 2)]
)
def test_shares(rate: float, length: int, count: int) -> None:
    """BERT's round, half to even; 85 of 512 is XLNet's num_predict."""
    doc = np.array([[1] * length + [0] * 4])
    rows = Rows(*[doc] * 6)
    assert places.share(rate, rows) == [count]
    assert places.most(rate, length) == count


def test_places_are_distinct_and_in_order() -> None:
    chosen, token = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool), np.arange(15).reshape(3, 5)
    found = places.places(chosen, token, 3)
    assert found.at is not None
    assert found.at.tolist() == [[1, 3, 4], [4, 0, 1], [0, 1, 2]]
    assert found.target.tolist() == [[1, 3, 4], [9, 0, 0], [0, 0, 0]]
    assert found.weight.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_candidates() -> None:
    token, doc = np.array([[2, 7, 8, 3, 7, 0]]), np.array([[1, 1, 1, 1, 2, 0]])
    rows = Rows(token, doc, doc, doc, doc > 0, doc > 0)
    assert places.candidates(rows, {"cls": 2, "sep": 3}, ("cls", "sep", "mask")).tolist() == [[0, 1, 1, 0, 1, 0]]
