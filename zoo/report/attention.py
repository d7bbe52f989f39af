"""Where a model's heads look: how each token shares its attention out among those it sees.

Shapes: L layers, H heads, Q queries (the tokens that look), K keys (the tokens that may be looked at).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.batch import Stream
from zoo.errors import UserError
from zoo.use.frame import Frame

if TYPE_CHECKING:
    from zoo.network.attention import Attention
    from zoo.use.loaded import Loaded


class Map(NamedTuple):
    """One kind of attention in all layers and heads."""

    share: np.ndarray  # [L, H, Q, K] float32; a row sums to one, and is zero at what its query does not see
    queries: list[str]  # the tokens, as Tokenizer.tokens tells them
    keys: list[str]


class _Kind(NamedTuple):
    layers: "list[Attention]"
    queries: list[str]
    keys: list[str]


def attention_maps(model: "Loaded", text: str, target: str | None = None) -> dict[str, Map]:
    """What every head does while the model reads a text: the maps of "self", or of "encoder", "decoder" and "cross".

    The text is framed as in training. Where the objective has no order of its own, every token sees all of it, in an
    XLNet through the content stream. target: what an encoder-decoder's decoder reads, after the token that begins a
    text; None = the model's own translation.

    Raises UserError for a text without tokens or longer than the context, and for a target that nobody would read.
    """
    ids = model.source_tokenizer.encode(text).tolist()
    if not ids:
        raise UserError(f"the text {text!r} has no token to look at")
    stream, source, kinds = (_pair if model.network.encoder_blocks else _alone)(model, text, ids, target)
    with _watched({name: kind.layers for name, kind in kinds.items()}) as found:
        model.network.read(stream, source)
    return {name: Map(np.stack(found[name]), kind.queries, kind.keys) for name, kind in kinds.items()}


def _alone(
    model: "Loaded", text: str, ids: list[int], target: str | None
) -> tuple[Stream, Stream | None, dict[str, _Kind]]:
    """What a model without an encoder reads."""
    if target is not None:
        raise UserError(f"{model.recipe.name} has no encoder: it reads one text, and no target {target!r}")
    frame = Frame(model)
    frame.check([np.array(ids)])
    stream = model.stream(np.array([[*frame.before, *ids, *frame.after]]))
    tokens = model.tokenizer.tokens(stream.token[0])
    return stream, None, {"self": _Kind([block.attend for block in model.network.blocks], tokens, tokens)}


def _pair(
    model: "Loaded", text: str, ids: list[int], target: str | None
) -> tuple[Stream, Stream | None, dict[str, _Kind]]:
    """What an encoder and its decoder read."""
    name, context, network = model.recipe.name, model.recipe.model.context, model.network
    ids = [*ids, model.source_tokenizer.special["eod"]]
    if len(ids) > context:
        raise UserError(f"the text has {len(ids)} tokens with its end; {name} reads at most {context}")
    source = model.source_stream(np.array([ids]))
    written = model.tokenizer.encode(model.translate([text])[0] if target is None else target)
    stream = model.stream(np.array([[model.tokenizer.special["bos"], *written]]))
    keys, queries = model.source_tokenizer.tokens(ids), model.tokenizer.tokens(stream.token[0])
    kinds = {
        "encoder": _Kind([block.attend for block in network.encoder_blocks], keys, keys),
        "decoder": _Kind([block.attend for block in network.blocks], queries, queries),
        "cross": _Kind([block.cross for block in network.blocks if block.cross is not None], queries, keys),
    }
    return stream, source, kinds


@contextmanager
def _watched(stacks: Mapping[str, "list[Attention]"]) -> Iterator[dict[str, list[np.ndarray]]]:
    """Yields, for each kind, a list that its layers' shares [H, Q, K] are put into while a text is read eagerly."""
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in stacks}

    def watch(layer: "Attention", seen: list[np.ndarray]) -> None:
        plain = layer.call

        def call(*streams: Any, **settings: Any) -> Any:
            asked = {name: settings[name] for name in ("other_BQK", "at_BP") if name in settings}
            seen.append(np.asarray(layer.shares(*streams, **asked))[0])
            return plain(*streams, **settings)

        layer.__dict__["call"] = call  # before the class's own; not by setattr, for Keras would take note

    try:
        for kind, layers in stacks.items():
            for layer in layers:
                watch(layer, found[kind])
        yield found
    finally:
        for layer in chain(*stacks.values()):
            layer.__dict__.pop("call", None)
