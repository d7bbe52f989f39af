"""Texts written from their sources by an encoder-decoder: beam search.

Shapes: B sources, W hypotheses of each (the beam's width), N source tokens, C slots of the cache, V vocabulary.
"""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from zoo.batch import Stream
from zoo.errors import UserError
from zoo.progress import progress
from zoo.schema import Count, Section, checked
from zoo.use.frame import rounded_up

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

HYPOTHESES, CACHE_BYTES = 320, 1 << 28  # written at once, if they fit
STEP = 16  # sources are padded to a multiple of it, and caches grow by so many tokens: graphs are made for each length
IMPOSSIBLE = -1e9


class Search(Section):
    """How a translation is looked for; the defaults are the paper's (section 6.1)."""

    beam: Count = 4  # hypotheses that are kept; 1 takes the likeliest token every time
    length_penalty: Annotated[float, Field(ge=0)] = 0.6  # 0 prefers short texts, 1 the highest mean score of a token
    longer: Count = 50  # tokens that a text may have beyond its source


class Written(NamedTuple):
    """What was found for one source."""

    ids: list[int]  # without the end
    score: float  # log-likelihood, the end counted, over the length penalty


def translate(model: "Loaded", texts: list[str], **settings: Any) -> list[str]:
    """Every text's translation; an empty one stays empty. settings: those of Search.

    Raises UserError for a model without an encoder, a text longer than its context, or an impossible setting.
    """
    search = checked(Search, settings, "translate")
    name, context = model.recipe.name, model.recipe.model.context
    if not model.learner.objective.encodes:
        raise UserError(f"{name} has no encoder; only an encoder-decoder such as transformer-base translates")
    end = model.source_tokenizer.special["eod"]
    sources = [[*model.source_tokenizer.encode(text).tolist(), end] if text.strip() else [] for text in texts]
    for number, ids in enumerate(sources, 1):
        if len(ids) > context:
            raise UserError(f"text {number} has {len(ids)} tokens; {name} reads at most {context}")
    written = iter(write(model, [ids for ids in sources if ids], search))
    return [model.tokenizer.decode(next(written).ids) if ids else "" for ids in sources]


def write(model: "Loaded", sources: list[list[int]], search: Search) -> list[Written]:
    """The same for token ids; a source ends with its end."""
    found: list[Written | None] = [None] * len(sources)
    order = sorted(range(len(sources)), key=lambda n: len(sources[n]))
    shape = model.recipe.model
    # Of one source's hypotheses: keys and values, in float32, of as many tokens as there may be.
    slots = search.beam * min(max(map(len, sources), default=0) + search.longer, shape.context)
    fitting = CACHE_BYTES // (8 * shape.layers * shape.width * slots)
    height = max(1, min(HYPOTHESES // search.beam, fitting, 1 << (len(sources) - 1).bit_length()))
    with progress("translating", len(sources), " texts") as advance:
        for first in range(0, len(order), height):
            chosen = order[first : first + height]
            for n, written in zip(chosen, _batch(model, [sources[n] for n in chosen], search, height), strict=True):
                found[n] = written
            advance(len(chosen))
    return [written for written in found if written is not None]


class Beam:
    """The hypotheses of B sources, W each, and those that have ended.

    As in fairseq's search: of the 2W best continuations those that end and are among the first W are finished, the
    first W of the others go on; a source is done when it has W finished ones, or when none that goes on can come to
    score higher than one of these, however long it grows. With W = 1 that is greedy search.
    """

    def __init__(self, search: Search, most: np.ndarray, end: int, begin: int):
        """most [B]: how many tokens a text may have, with its end."""
        self.search, self.most, self.end, rows = search, most, end, len(most)
        self.total = np.full((rows, search.beam), IMPOSSIBLE, np.float32)  # log-likelihoods
        self.total[:, 0] = 0.0  # at first there is one hypothesis, the empty one
        self.last = np.full((rows, search.beam), begin, np.int32)  # their newest tokens
        self.parent = np.zeros((rows, search.beam), np.int64)  # which one of the step before each goes on from
        self.ids = np.zeros((rows, search.beam, 0), np.int32)
        self.finished: list[list[Written]] = [[] for _ in range(rows)]

    @property
    def done(self) -> bool:
        """Whether every source has what was looked for."""
        enough = np.array([len(found) >= self.search.beam for found in self.finished])
        best = np.array([max((written.score for written in found), default=-np.inf) for found in self.finished])
        alive = self.total.max(axis=1)  # a log-likelihood only falls, and is divided by the penalty of the longest text
        return bool(np.all(enough | (alive < IMPOSSIBLE / 2) | (alive / self.penalty(self.most) <= best)))

    def penalty(self, length: Any) -> Any:
        """What the log-likelihood of a text of so many tokens is divided by (Wu et al. 2016, equation 14)."""
        return ((5 + length) / 6) ** self.search.length_penalty

    def go_on(self, score: np.ndarray, parent: np.ndarray, token: np.ndarray) -> None:
        """The best continuations [B, 2W], best first: their log-likelihoods, which hypotheses, by which tokens."""
        ends = token == self.end
        width = self.search.beam
        penalty = self.penalty(self.ids.shape[2] + 1)
        for row, at in np.argwhere(ends[:, :width] & (score[:, :width] > IMPOSSIBLE / 2)):
            if len(self.finished[row]) < width:
                ids = self.ids[row, parent[row, at]].tolist()
                self.finished[row].append(Written(ids, float(score[row, at] / penalty)))
        alive = np.argsort(ends, axis=1, kind="stable")[:, :width]  # the first W that do not end
        self.parent = np.take_along_axis(parent, alive, axis=1)
        self.last = np.take_along_axis(token, alive, axis=1).astype(np.int32)
        self.total = np.where(np.take_along_axis(ends, alive, axis=1), IMPOSSIBLE, np.take_along_axis(score, alive, 1))
        kept = np.take_along_axis(self.ids, self.parent[:, :, None], axis=1)
        self.ids = np.concatenate([kept, self.last[:, :, None]], axis=2)

    def best(self) -> list[Written]:
        """The finished hypothesis of the highest score, for every source."""
        return [max(found, key=lambda written: written.score) for found in self.finished]


def _batch(model: "Loaded", sources: list[list[int]], search: Search, height: int) -> list[Written]:
    """Texts for sources of similar lengths; rows of padding fill up to `height`, so that graphs are used again."""
    longest = rounded_up(max(map(len, sources)), STEP)
    token = np.zeros((height, longest), np.int32)
    doc = np.zeros_like(token)
    doc[:, 0] = 1  # a row of padding has one token, which nobody asks for
    for row, ids in enumerate(sources):
        token[row, : len(ids)], doc[row, : len(ids)] = ids, 1
    most = np.ones(height, np.int64)
    most[: len(sources)] = [min(len(ids) + search.longer, model.recipe.model.context) for ids in sources]
    width, special = search.beam, model.tokenizer.special
    beam = Beam(search, most, special["eod"], special["bos"])
    encoded = model.kept("encode", lambda: _encoder(model))(token, doc)
    cache: Any = None
    go_on: Any = None
    see, own = np.zeros((height, width, 0), bool), np.arange(width)  # see: which slots hold a hypothesis's tokens
    for step in range(int(most.max())):
        if step * width == see.shape[2]:  # the cache is full, or there is none yet
            slots = width * (step + STEP)
            larger, go_on = model.kept(
                ("go on", height, width, slots), lambda n=slots: _reader(model, height, n, width)
            )
            if cache is not None:
                larger.take(cache)
            cache, see = larger, np.pad(see, [(0, 0), (0, 0), (0, width * STEP)])
        see = np.take_along_axis(see, beam.parent[:, :, None], axis=1)
        see[:, own, step * width + own] = True
        last = np.stack([beam.last, np.full_like(beam.last, step)])
        found = go_on(last, beam.total, see, np.int32(step * width), step + 1 >= most, doc, encoded)
        beam.go_on(*map(np.asarray, found))
        if beam.done:
            break
    return beam.best()[: len(sources)]


def _encoder(model: "Loaded") -> Any:
    """A function of sources [B, N] and their documents: what every block of the decoder finds in them."""
    from keras import ops

    from zoo.kernels.compiled import compiled

    def read(token_BN: Any, doc_BN: Any) -> Any:
        none = ops.zeros_like(token_BN)
        position = ops.broadcast_to(ops.arange(token_BN.shape[1]), token_BN.shape)
        encoded = model.network.encode(Stream(token_BN, doc_BN, position, none, none))
        return [block.source_keys(encoded)[:2] for block in model.network.blocks]

    return compiled(read)


def _log_sum_exp(scores_BWV: Any) -> Any:
    """[B, W, 1]"""
    from keras import ops

    return ops.logsumexp(scores_BWV, axis=-1, keepdims=True)


def _reader(model: "Loaded", rows: int, slots: int, width: int) -> tuple[Any, Any]:
    """A cache of so many slots, and a function: the best continuations of all hypotheses.

    The W hypotheses of a source are W tokens of one row. The cache holds the tokens of all of them, and who sees which
    slot says which are whose; so nothing is copied when a hypothesis is given up for another.
    """
    from keras import ops

    from zoo.kernels.compiled import compiled
    from zoo.kernels.island import island
    from zoo.network.attention import Keys
    from zoo.network.cache import Cache
    from zoo.network.layers import float32

    network = model.network
    cache = Cache(model.recipe.model, rows, slots, network.compute_dtype, fused=False)
    vocab, used = model.recipe.tokenizer.size, model.learner.objective.vocab.used
    special, never = model.tokenizer.special, model.learner.objective.never_target
    nothing = np.zeros(vocab, np.float32)
    nothing[used:] = IMPOSSIBLE
    nothing[[special[role] for role in never if role in special]] = IMPOSSIBLE
    only_end = np.full(vocab, IMPOSSIBLE, np.float32)
    only_end[special["eod"]] = 0.0
    most = min(2 * width, vocab)  # continuations of one hypothesis that can be among the best of all

    def go_on(last_2BW: Any, total_BW: Any, see_BWC: Any, first: Any, ends_B: Any, doc_BN: Any, encoded: Any) -> Any:
        none: Any = ops.zeros_like(last_2BW[0])
        stream = Stream(last_2BW[0], none + 1, last_2BW[1], none, none)
        see_source = ops.broadcast_to((doc_BN > 0)[:, None], (rows, width, doc_BN.shape[1]))
        keys = [Keys(k, v, None) for k, v in encoded]
        hidden = network.extend(stream, see_BWC, cache, first, keys, see_source)
        scores_BWV = float32(network.logits(hidden))
        allowed: Any = ops.where(ends_B[:, None], only_end[None], nothing[None])
        # The best of each hypothesis first: then there is little left to add to, and to choose from.
        continued: Any = ops.top_k(scores_BWV + allowed[:, None], most)
        best_BWK, token_BWK = continued
        norm_BW1 = island(_log_sum_exp)(scores_BWV)
        total_BWK: Any = total_BW[:, :, None] + (best_BWK - norm_BW1)
        chosen: Any = ops.top_k(ops.reshape(total_BWK, (rows, width * most)), min(2 * width, width * most))
        best_BK, at_BK = chosen
        token_BK = ops.take_along_axis(ops.reshape(token_BWK, (rows, width * most)), at_BK, axis=1)
        return best_BK, at_BK // most, token_BK

    return cache, compiled(go_on)
