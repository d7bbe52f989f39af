"""Texts written from their sources by an encoder-decoder.

A row is a source with the hypotheses of its translation. All rows are written together, one token of each hypothesis in
a step; a row that is done takes the next source, so that none waits for the longest.

Shapes: B rows, W hypotheses of each (the beam's width), R new sources, N or n source tokens, C slots of the cache, V
vocabulary.
"""

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.batch import Stream
from zoo.errors import UserError
from zoo.progress import progress
from zoo.schema import checked
from zoo.use.beam import IMPOSSIBLE, Beam, Search, Written
from zoo.use.frame import STEP, laid_out, rounded_up

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

HYPOTHESES, CACHE_BYTES = 640, 1 << 28  # written at once, if they fit
SOURCE = 64  # what sources are padded to, or four times it, and so on: a graph is made for each length
SLOTS = 96  # of a row at first; they grow by doubling, and a graph is made for each size
REFILL = 8  # rows take new sources when this part of them (1/8) is free: the encoder reads several at once


def translate(model: "Loaded", texts: list[str], **settings: Any) -> list[str]:
    """Every text's translation; an empty one stays empty. settings: those of zoo.use.beam.Search.

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
    found: dict[int, Written] = {}
    order = sorted(range(len(sources)), key=lambda n: -len(sources[n]))  # at the end, the rows wait for short texts
    with progress("translating", len(sources), "texts") as advance:
        for width, alike in groupby(order, lambda n: _padded(len(sources[n]), model.recipe.model.context)):
            numbers = list(alike)
            for at, written in _written(model, [sources[n] for n in numbers], width, search):
                found[numbers[at]] = written
                advance(1)
    return [found[n] for n in range(len(sources))]


def _padded(length: int, context: int) -> int:
    width = SOURCE
    while width < length:
        width *= 4
    return min(width, context)


def _written(model: "Loaded", sources: list[list[int]], width: int, search: Search) -> Iterator[tuple[int, Written]]:
    """The number and the text of every source, in the order in which they are done; width: what they are padded to."""
    shape, special = model.recipe.model, model.tokenizer.special
    most = [min(len(ids) + search.longer, shape.context) for ids in sources]
    # Keys and values of one source's hypotheses, in float32; these share most of their tokens.
    fitting = CACHE_BYTES // (8 * shape.layers * shape.width * (max(most) + search.beam))
    rows = max(1, min(HYPOTHESES // search.beam, fitting, 1 << (len(sources) - 1).bit_length()))
    beam = Beam(search, rows, max(most), special["eod"], special["bos"])
    held = model.kept(("sources", rows, search.beam, width), lambda: Sources(model, rows, search.beam, width))
    slots = Slots(held)
    waiting, number = deque(range(len(sources))), np.zeros(rows, np.int64)  # of the source in each row
    while waiting or beam.most.any():
        free = np.flatnonzero(beam.most == 0)[: len(waiting)]
        if len(free) and len(free) >= min(len(waiting), held.at_once):
            number[free] = [waiting.popleft() for _ in free]
            held.fill(free, [sources[n] for n in number[free]])
            for row in free:
                beam.start(row, most[number[row]])
        beam.go_on(*slots.step(beam))
        for row, written in beam.taken():
            yield int(number[row]), written


class Sources:
    """What the decoder attends to: of every row's source, keys and values for each block."""

    def __init__(self, model: "Loaded", rows: int, beam: int, width: int):
        """width: what sources are padded to."""
        import keras
        from keras import ops

        network, config = model.network, model.recipe.model
        shape = (rows, config.heads, width, config.head_width)

        def empty() -> keras.Variable:
            return keras.Variable(ops.zeros(shape), trainable=False, dtype=network.compute_dtype, autocast=False)

        self.model, self.beam = model, beam
        self.at_once = max(1, rows // REFILL)  # sources that the encoder reads together, or a multiple
        self.doc = np.zeros((rows, width), np.int32)
        self.blocks = [(empty(), empty()) for _ in network.blocks]
        self.read = model.kept("encoder", lambda: _encoder(model))
        self.readers: dict[int, Any] = {}  # caches, and the functions that read with them, by their size

    def fill(self, rows: np.ndarray, sources: list[list[int]]) -> None:
        """Gives these rows new sources."""
        from zoo.kernels.rows import write_rows

        width = self.doc.shape[1]
        # Few different shapes, for each of which the library of matmuls makes code of its own: the last source is read
        # several times.
        again = rounded_up(len(rows), self.at_once) - len(rows)
        rows, sources = np.pad(rows, (0, again), mode="edge"), sources + again * sources[-1:]
        longest = min(rounded_up(max(map(len, sources)), STEP), width)
        token, doc = laid_out(sources, len(rows), longest)
        self.doc[rows] = np.pad(doc, [(0, 0), (0, width - longest)])
        for variables, found in zip(self.blocks, self.read(token, doc, np.int32(width)), strict=True):
            for variable, new_RHNd in zip(variables, found, strict=True):
                write_rows(variable, rows, new_RHNd)


def _encoder(model: "Loaded") -> Any:
    """A function of sources [R, n], their documents and N: for each block that looks them up, keys and values."""
    from keras import ops

    from zoo.kernels.compiled import compiled
    from zoo.network.layers import sizes

    def read(token_Rn: Any, doc_Rn: Any, width: Any) -> Any:
        none, length = ops.zeros_like(token_Rn), sizes(token_Rn)[1]
        place_n: Any = ops.arange(length)
        encoded = model.network.encode(Stream(token_Rn, doc_Rn, none + place_n, none, none))
        empty = [(0, 0), (0, 0), (0, width - length), (0, 0)]
        return [[ops.pad(x, empty) for x in block.source_keys(encoded)[:2]] for block in model.network.blocks]

    return compiled(read, any_shape=True)


class Slots:
    """Where in the cache a hypothesis's tokens are.

    The W hypotheses of a source are W tokens of one row in each step. A row's slots hold the tokens of all of them, and
    who sees which slot says which are whose. So nothing is copied when a hypothesis is given up for another, and a slot
    that nobody sees any more is written again: a row needs few more slots than its longest hypothesis has tokens.
    """

    def __init__(self, sources: Sources):
        self.sources = sources
        self.see = np.zeros((len(sources.doc), sources.beam, 0), bool)  # which slots hold a hypothesis's own tokens
        self.cache: Any = None
        self.read: Any = None

    def step(self, beam: Beam) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One more token of each hypothesis is read: the best continuations of all, as `beam.go_on` takes them."""
        self.see = np.take_along_axis(self.see, beam.parent[:, :, None], axis=1) & (beam.step > 0)[:, None, None]
        while np.any((used := self.see.any(axis=1)).sum(axis=1) + self.sources.beam > self.see.shape[2]):
            self._grow()
        free = np.argsort(used, axis=1, kind="stable")[:, : self.sources.beam].astype(np.int32)
        np.put_along_axis(self.see, free[:, :, None], True, axis=2)
        last = np.stack([beam.last, np.broadcast_to(beam.step[:, None], beam.last.shape)]).astype(np.int32)
        found = self.read(last, beam.total, self.see, free, beam.step + 1 >= beam.most, self.sources.doc)
        score, parent, token = map(np.asarray, found)
        return score, parent, token

    def _grow(self) -> None:
        slots = self.see.shape[2]
        larger = 2 * max(slots, SLOTS // 2, self.sources.beam)
        if larger not in self.sources.readers:
            self.sources.readers[larger] = _reader(self.sources, larger)
        cache, self.read = self.sources.readers[larger]
        if self.cache is not None:
            cache.take(self.cache)
        self.cache, self.see = cache, np.pad(self.see, [(0, 0), (0, 0), (0, larger - slots)])


def _reader(sources: Sources, slots: int) -> tuple[Any, Any]:
    """A cache of so many slots, and a function: the best continuations of all hypotheses."""
    from keras import ops

    from zoo.kernels.compiled import compiled
    from zoo.kernels.top import top_k
    from zoo.network.attention import Keys
    from zoo.network.cache import Cache

    model, network = sources.model, sources.model.network
    rows, width = len(sources.doc), sources.beam
    cache = Cache(model.recipe.model, rows, slots, network.compute_dtype)
    vocab, used = model.recipe.tokenizer.size, model.learner.objective.vocab.used
    special, never = model.tokenizer.special, model.learner.objective.never_target
    nothing = np.zeros(vocab, np.float32)
    nothing[used:] = IMPOSSIBLE
    nothing[[special[role] for role in never if role in special]] = IMPOSSIBLE
    only_end = np.full(vocab, IMPOSSIBLE, np.float32)
    only_end[special["eod"]] = 0.0

    def go_on(last_2BW: Any, total_BW: Any, see_BWC: Any, slot_BW: Any, ends_B: Any, doc_BN: Any) -> Any:
        none: Any = ops.zeros_like(last_2BW[0])
        stream = Stream(last_2BW[0], none + 1, last_2BW[1], none, none)
        see_source = ops.broadcast_to((doc_BN > 0)[:, None], (rows, width, doc_BN.shape[1]))
        keys = [Keys(k.value, v.value, None) for k, v in sources.blocks]
        scores_BWV = network.logits(network.extend(stream, see_BWC, cache, slot_BW, keys, see_source))
        norm_BW1: Any = ops.logsumexp(scores_BWV, axis=-1, keepdims=True)
        allowed: Any = ops.where(ends_B[:, None], only_end[None], nothing[None])
        total_BWV = scores_BWV + (total_BW[:, :, None] - norm_BW1) + allowed[:, None]
        best_BK, at_BK = top_k(ops.reshape(total_BWV, (rows, width * vocab)), min(2 * width, width * vocab))
        return best_BK, at_BK // vocab, at_BK % vocab

    return cache, compiled(go_on, fused=True)
