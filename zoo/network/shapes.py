"""Every weight of a network and its shape, without building it (and without Keras)."""

from itertools import pairwise
from typing import NamedTuple

from zoo.sections import Model

Shapes = dict[str, tuple[int, ...]]


class Bin(NamedTuple):
    """Words of neighbouring ids, and how wide they are embedded."""

    first: int
    size: int
    width: int


def bins(model: Model, vocab_size: int) -> list[Bin]:
    """The shortlist and what the cutoffs make of the rest: bin b is width // div_val**b wide (Baevski & Auli 2019)."""
    ends = pairwise((0, *model.cutoffs, vocab_size))
    return [Bin(first, end - first, model.width // model.div_val**b) for b, (first, end) in enumerate(ends)]


def shapes(model: Model, vocab_size: int, source_size: int | None = None) -> Shapes:
    """Attribute path -> shape, as `named_weights(Network(model, vocab_size, ...))` would have them."""
    width = model.width
    found = _embedding("embed", model, vocab_size)
    if model.tied_biases:
        found |= dict.fromkeys(("content_bias", "position_bias"), (model.heads, model.head_width))
    if source_size:
        found |= _embedding("source_embed", model, source_size)
    for index in range(model.encoder_layers):
        found |= {f"encoder_blocks.{index}.{name}": shape for name, shape in _block(model).items()}
    if model.encoder_layers and model.norm == "pre":
        found |= _norm("encoder_norm", width)
    for index in range(model.layers):
        block = _block(model, cross=model.encoder_layers > 0)
        found |= {f"blocks.{index}.{name}": shape for name, shape in block.items()}
    if model.norm == "pre":
        found |= _norm("final_norm", width)
    if model.head_transform:
        found |= _linear("head.transform", width, width) | _norm("head.norm", width)
    if model.cutoffs:
        shortlist, *tails = bins(model, vocab_size)
        found |= {"head.clusters.table": (len(tails), shortlist.width), "head.clusters.bias": (len(tails),)}
        if model.div_val > 1:
            found |= _linear("head.projection", width, shortlist.width, bias=False)
    if model.head_bias:
        found["head.bias"] = (vocab_size,)
    return found


def _embedding(name: str, model: Model, size: int) -> Shapes:
    found: Shapes = {}
    if model.div_val == 1:
        found[f"{name}.token.table"] = (size, model.width)
    else:
        for b, part in enumerate(bins(model, size)):
            found[f"{name}.token.tables.{b}.table"] = (part.size, part.width)
            found |= _linear(f"{name}.token.projections.{b}", part.width, model.width, bias=False)
    if model.positions == "learned":
        found[f"{name}.position.table"] = (model.context, model.width)
    if model.segments and model.positions != "relative":
        found[f"{name}.segment.table"] = (model.segments, model.width)
    return found | (_norm(f"{name}.norm", model.width) if model.embedding_norm else {})


def _block(model: Model, *, cross: bool = False) -> Shapes:
    width, per_head = model.width, (model.heads, model.head_width)
    found = _norm("attend_norm", width)
    for name in ("q", "k", "v", "out"):
        found |= _linear(f"attend.{name}", width, width, bias=model.attention_bias)
    if model.positions == "relative":
        found |= _linear("attend.r", width, width, bias=False)
        if not model.tied_biases:
            found |= {"attend.content_bias": per_head, "attend.position_bias": per_head}
        if model.segments:
            found |= {"attend.segment_bias": per_head, "attend.segment": (2, *per_head)}
    if cross:
        found |= _norm("cross_norm", width)
        for name in ("q", "k", "v", "out"):
            found |= _linear(f"cross.{name}", width, width, bias=model.attention_bias)
    found |= _norm("inner_norm", width)
    found |= _linear("inner.up", width, model.inner_width)
    return found | _linear("inner.down", model.inner_width, width)


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    found: Shapes = {f"{name}.kernel": (inputs, outputs)}
    return found | {f"{name}.bias": (outputs,)} if bias else found


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.scale": (width,), f"{name}.bias": (width,)}
