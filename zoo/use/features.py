"""What a frozen model makes of texts: the mean of its states over each text's tokens, in every layer.

Shapes: N texts, L layers and the embeddings before them, D width, B rows, T tokens a row.
"""

from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.batch import Stream
from zoo.progress import progress, say
from zoo.use.frame import Frame, graph_height, graph_width, laid_out

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded


def features(model: "Loaded", texts: Sequence[str]) -> np.ndarray:
    """[L, N, D] float32, on the disk: layer 0 is the embeddings, the last what the head would be given.

    A text is framed as in training; what stands around it is read and does not count in the mean, nor does padding. A
    text without a token has zeros. One that is longer than the context is cut, which is said. An encoder-decoder is
    read at its encoder; an XLNet through the content stream, where every token sees all.
    """
    before, after, longest = _around(model)
    most = longest - len(before) - len(after)
    tokenizer = model.source_tokenizer
    ids = [tokenizer.encode(text) for text in texts]
    if cut := sum(len(tokens) > most for tokens in ids):
        say(f"{cut:,} of {len(ids):,} texts are cut to the {most} tokens that are read at once")
    network = model.network
    layers = 1 + len(network.encoder_blocks or network.blocks)
    with TemporaryFile() as file:
        found = np.memmap(file, np.float32, "w+", shape=(layers, len(texts), model.recipe.model.width))
    read = model.kept("features", lambda: _reader(model))
    order = sorted(range(len(ids)), key=lambda n: -len(ids[n]))
    with progress("reading", len(ids), "texts") as advance:
        while order:
            width = graph_width(min(len(ids[order[0]]), most) + len(before) + len(after), longest)
            height = graph_height(len(order), width)
            now, order = order[:height], order[height:]
            kept = [ids[n][:most] for n in now]
            token, doc = laid_out([np.concatenate([before, each, after]) for each in kept], height, width)
            counts, _ = laid_out([[0] * len(before) + [1] * len(each) for each in kept], height, width)
            found[:, now] = np.asarray(read(token, doc, counts.astype(np.float32)))[:, : len(now)]
            advance(len(now))
    return found


def _around(model: "Loaded") -> tuple[list[int], list[int], int]:
    """The ids before and after a text, and the most tokens of a row."""
    if model.learner.objective.encodes:
        return [], [model.source_tokenizer.special["eod"]], model.recipe.model.context
    frame = Frame(model)
    return frame.before, frame.after, model.recipe.model.longest


def _reader(model: "Loaded") -> Any:
    """token, doc, and which tokens count [B, T] -> [L, B, D]."""
    from keras import ops

    from zoo.kernels.compiled import compiled

    causal = model.learner.objective.visibility == "causal" and not model.learner.objective.encodes

    def read(token_BT: Any, doc_BT: Any, counts_BT: Any) -> Any:
        place_BT: Any = ops.cumsum(doc_BT, axis=1) - doc_BT
        none = ops.zeros_like(token_BT)
        stream = Stream(token_BT, doc_BT, place_BT * doc_BT, none, place_BT if causal else none)
        share_BT = counts_BT / ops.maximum(ops.sum(counts_BT, axis=1, keepdims=True), 1.0)
        states = model.network.states(stream, causal=causal)
        return ops.stack([ops.einsum("btd,bt->bd", state, share_BT) for state in states])

    return compiled(read)
