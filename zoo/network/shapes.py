"""Every weight of a network and its shape, without building it (and without Keras)."""

from zoo.schema import Model

Shapes = dict[str, tuple[int, ...]]


def shapes(model: Model, vocab_size: int, source_size: int | None = None) -> Shapes:
    """Attribute path -> shape, as `named_weights(Network(model, vocab_size, ...))` would have them."""
    width = model.width
    found = _embedding("embed", model, vocab_size)
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
    if model.head_bias:
        found["head.bias"] = (vocab_size,)
    return found


def _embedding(name: str, model: Model, size: int) -> Shapes:
    found: Shapes = {f"{name}.token.table": (size, model.width)}
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
