"""Where to predict. Choices are grids [B, T] of bool; `places` turns a grid into what a batch holds.

Every choice is a pure function of a row and its noise, and takes exactly `count` [B] tokens of a row where the row has
that many it may take.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from zoo.batch import Places, Rows
from zoo.noise import Noise


def candidates(rows: Rows, special: Mapping[str, int], never: Iterable[str]) -> np.ndarray:
    """[B, T] bool: text, apart from the special tokens of the roles `never` (those the tokenizer has)."""
    may = rows.doc > 0
    for role in never:
        if role in special:
            may &= rows.token != special[role]
    return may


def share(rate: float, rows: Rows) -> np.ndarray:
    """[B] how many tokens of a row to predict: max(1, round(rate x length)), special tokens counted in the length.

    Source: create_masked_lm_predictions of BERT's release.
    """
    return np.maximum(np.round(rate * (rows.doc > 0).sum(axis=1)), 1).astype(np.int64)


def most(rate: float, row_tokens: int) -> int:
    """P: the share of a full row."""
    return max(round(rate * row_tokens), 1)


def exact(noise: Noise, may: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Exactly `count` tokens of each row, every set of them equally likely."""
    length = may.shape[1]
    order = np.argsort(np.where(may, noise.uniform("places.exact", length), 2.0), axis=1)
    chosen = np.zeros_like(may)
    np.put_along_axis(chosen, order, np.arange(length) < count[:, None], axis=1)
    return chosen & may


def words(may: np.ndarray, word_start: np.ndarray) -> np.ndarray:
    """[B, T] the number of each token's word in its row, from 0; meaningless where `may` is False.

    Unlike the release, a piece that a row's edge or a special token cuts off its word begins one of its own.
    """
    start = may & word_start
    start[:, 0] |= may[:, 0]
    start[:, 1:] |= may[:, 1:] & ~may[:, :-1]
    return np.maximum(np.cumsum(start, axis=1) - 1, 0)


def whole_words(noise: Noise, may: np.ndarray, word_start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Whole words in random order, up to `count` tokens; a word that would overflow is passed over.

    So a row may get fewer, where no word left is short enough. Source: BERT's release (whole-word masking).
    """
    (height, length), word = may.shape, words(may, word_start)
    line = np.arange(height)
    size = np.bincount((line[:, None] * length + word)[may], minlength=height * length).reshape(height, length)
    order = np.argsort(np.where(size > 0, noise.uniform("places.words", length), 2.0), axis=1)
    taken, left = np.zeros_like(may), count.copy()
    for next_word in order.T:  # one word of every row at a time
        tokens = size[line, next_word]
        fits = tokens <= left
        taken[line, next_word] = fits
        left -= tokens * fits
        if not left.any():
            break
    return may & np.take_along_axis(taken, word, axis=1)


def spans(
    noise: Noise,
    word_start: np.ndarray,
    real: np.ndarray,
    count: np.ndarray,
    *,
    max_gram: int,
    alpha: int,
    beta: int,
) -> np.ndarray:
    """XLNet's targets: spans of 1 to max_gram pieces amid context, topped up with single tokens to `count`.

    A span of n pieces has probability in proportion to 1/n and lies in a context of n x alpha // beta tokens, at a
    random offset moved right to the next word's start. It is n pieces long, not n words, as released. All that is real
    may be chosen, special tokens too.
    Source: _sample_mask in XLNet's data_utils.py.
    """
    height, length = real.shape
    line, column = np.arange(height), np.arange(length)
    odds = np.cumsum(1 / np.arange(1, max_gram + 1))
    at_or_after = np.where(word_start & real, column, length)[:, ::-1]
    next_word = np.full((height, length + 1), length)
    next_word[:, :-1] = np.minimum.accumulate(at_or_after, axis=1)[:, ::-1]

    edge = np.zeros((height, length + 1), np.int8)
    cursor, left, end_of_row = np.zeros(height, np.int64), count.copy(), real.sum(axis=1)
    # A span and its context advance by 1 + alpha // beta tokens at least.
    draws = noise.uniform("places.spans", -(-length // (1 + alpha // beta)), 2)
    for size, offset in draws.transpose(1, 2, 0):
        n = np.minimum(1 + np.searchsorted(odds[:-1], size * odds[-1], side="right"), left)
        context = n * alpha // beta
        before = (offset * context).astype(np.int64)
        begin = next_word[line, np.minimum(cursor + before, length)]
        end = begin + n
        fits = (n > 0) & (end < end_of_row)
        if not fits.any():
            break
        edge[line[fits], begin[fits]] += 1
        edge[line[fits], end[fits]] -= 1
        left -= n * fits
        cursor = np.where(fits, end + context - before, length)  # a span that hits the end is the row's last try
    chosen = np.cumsum(edge[:, :-1], axis=1) > 0
    return chosen | exact(noise, real & ~chosen, count - chosen.sum(axis=1))


def places(chosen: np.ndarray, token: np.ndarray, most: int) -> Places:
    """The chosen tokens of each row in order; rows with fewer than `most` are filled with others of weight 0."""
    at = np.argsort(~chosen, axis=1, kind="stable")[:, :most].astype(np.int32)
    scored = np.take_along_axis(chosen, at, axis=1)
    target = np.where(scored, np.take_along_axis(token, at, axis=1), 0)
    return Places(at, target.astype(np.int32), scored.astype(np.float32))
