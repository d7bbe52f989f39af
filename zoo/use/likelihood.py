"""How likely a model finds a long text: exactly, in windows that slide over it, or by a sample where nothing is exact.

Shapes: B rows at once, T tokens a row.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo import places
from zoo.batch import Rows
from zoo.corpus.rows import generator
from zoo.corpus.shards import Tokens
from zoo.corpus.tokenizer import Tokenizer
from zoo.errors import UserError
from zoo.progress import progress
from zoo.schema import Recipe
from zoo.train.feed import EVALUATION_SEED, rows_of
from zoo.use.minimal_pairs import Z
from zoo.use.score import asking, at_once, reader_of

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

SAMPLE = 2048  # tokens that are hidden, each in a row of its own
EXACT = ("bytes_bpe", "bytes", "characters")  # kinds of tokenizer whose ids give their text back
DECODED = 1 << 20  # tokens at once


class Nats(NamedTuple):
    """Nats a token over a text, and the interval that holds its like in 95 of 100 texts such as this one."""

    mean: float
    low: float
    high: float


def windows(size: int, width: int, stride: int) -> np.ndarray:
    """[K, 3] of windows on `size` tokens: where each begins, how long it is, and its first token that is new.

    The first token of all is never new: nothing stands before it. All others are new in one window, and all but those
    of the first window have at least width - stride tokens before them there.
    """
    begin = np.arange(1 + -(-max(size - width, 0) // stride)) * stride
    end = np.minimum(begin + width, size)
    return np.stack([begin, end - begin, np.append(1, end[:-1]) - begin], axis=1)


def likelihood(model: "Loaded", tokens: Tokens, stride: int, most: int | None = None) -> Nats:
    """Every token given those before it in its window; windows begin every `stride` tokens, and remember nothing.

    A causal model and one of permutations can: the latter takes the tokens in the order they have in the text.
    most: of the windows only so many are read, spread evenly over the text.
    Raises UserError for a stride that leaves tokens out.
    """
    objective, recipe = model.learner.objective, model.recipe
    width = recipe.row_tokens + objective.extra_tokens
    if not 0 < stride < width:
        raise UserError(
            f"--stride {stride} leaves tokens out: a window predicts {width - 1}; allowed: 1 to {width - 1}"
        )
    rows_at = rows_of(_end_to_end(recipe), objective, tokens, model.tokenizer.special, 0, whole=True)
    table, column = windows(len(tokens.token), width, stride), np.arange(width)
    if most is not None and most < len(table):
        table = table[np.arange(most) * len(table) // most]
    height, read = at_once(model, width, width), reader_of(model, 0)
    nats, counts = np.zeros((2, len(table)))
    with progress("reading windows", len(table), "windows") as advance:
        for start in range(0, len(table), height):
            now = table[start : start + height]
            line = np.minimum(np.arange(start, start + height), len(table) - 1)  # as many rows as ever
            rows = rows_at.cut(table[line, :2])
            new = (column >= table[line, 2:]) & (column < table[line, 1:2])
            batch = objective.in_order(rows, new)
            (scored,) = batch.tasks.values()
            nats[start : start + height] = -np.asarray(read(batch), np.float64).sum(axis=1)[: len(now)]
            counts[start : start + height] = scored.weight.sum(axis=1)[: len(now)]
            advance(len(now))
    return mean_of(nats, counts)


def _end_to_end(recipe: Recipe) -> Recipe:
    """The recipe with rows that may be cut out of its text anywhere."""
    data = recipe.data
    across = data.rows == "stream" or (data.rows == "packed" and data.across_documents)
    changed = {"rows": "packed", "reuse": None, "across_documents": across}
    return recipe.model_copy(update={"data": data.model_copy(update=changed)})


def pseudo_likelihood(model: "Loaded", tokens: Tokens, *, within_word: bool = False) -> Nats:
    """Single tokens, each hidden alone in a row as training has them, given all others: a sample of SAMPLE tokens.

    Pseudo-log-likelihood as of zoo.use.score, but for what one row is. The rows are spread evenly over the text, and
    the tokens drawn in them are always the same.
    """
    objective, special = model.learner.objective, model.tokenizer.special
    rows_at = rows_of(model.recipe, objective, tokens, special, EVALUATION_SEED, whole=True)
    table = rows_at.table(0)
    lines = table[np.arange(SAMPLE) * len(table) // SAMPLE]
    draw = generator(EVALUATION_SEED, 0, "use.pseudo_likelihood").random((SAMPLE, 1))
    height, read = at_once(model, rows_at.width, 1), reader_of(model, SAMPLE)
    nats, counts = np.zeros((2, SAMPLE))
    with progress("hiding tokens", SAMPLE, "tokens") as advance:
        for start in range(0, SAMPLE, height):
            line = np.minimum(np.arange(start, start + height), SAMPLE - 1)
            rows = rows_at.cut(lines[line])
            may = places.candidates(rows, special, objective.never_target)
            count = may.sum(axis=1, keepdims=True)
            place = np.argmax(np.cumsum(may, axis=1) > draw[line] * count, axis=1)[:, None]
            until = _word_end(rows, may, place) if within_word else place + 1
            real = slice(start, min(start + height, SAMPLE))
            own = real.stop - real.start
            found = -np.asarray(read(asking(objective, rows, place, until)), np.float64).sum(axis=1)
            # A row that is short has fewer tokens than others, of which one is taken all the same.
            nats[real], counts[real] = (found * count[:, 0])[:own], count[:own, 0]
            advance(own)
    return mean_of(nats, counts)


def _word_end(rows: Rows, may: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[B, 1] the place after the last token of the word that the token at `place` is of."""
    column = np.arange(may.shape[1])
    ends = (column > place) & (rows.word_start | ~may)
    return np.where(ends.any(axis=1), ends.argmax(axis=1), may.shape[1])[:, None]


def mean_of(nats: np.ndarray, counts: np.ndarray) -> Nats:
    """Nats a token, from sums over groups of tokens: the ratio of means, and its standard error by those groups."""
    total = counts.sum()
    mean = float(nats.sum() / total)
    groups = int((counts > 0).sum())
    error = math.inf
    if groups > 1:
        error = math.sqrt(groups / (groups - 1) * np.square(nats - mean * counts).sum()) / total
    return Nats(mean, mean - Z * error, mean + Z * error)


def words(tokens: Tokens, tokenizer: Tokenizer, kind: str) -> int | None:
    """Words of a text and the ends of its lines, which WikiText counts as words; None where its ids have lost them."""
    if kind not in EXACT:
        return None
    separate, lines = 0, 0
    eod = tokenizer.special.get("eod")
    for begin, end in zip(tokens.documents[:-1], tokens.documents[1:], strict=True):
        inside, last = False, "\n"
        for start in range(begin, end, DECODED):
            ids = np.asarray(tokens.token[start : min(start + DECODED, end)])
            text = tokenizer.decode(ids if eod is None else ids[ids != eod])
            if text:
                separate += len(text.split()) - (inside and not text[0].isspace())
                inside, last = not text[-1].isspace(), text[-1]
                lines += text.count("\n")
        lines += last != "\n"
    return separate + lines


def bits(nats: Sequence[float], tokens: Tokens) -> list[float]:
    """Nats a token as bits a byte of the text."""
    return [value / math.log(2) * len(tokens.token) / tokens.bytes for value in nats]
