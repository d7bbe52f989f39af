"""The nouns that flow from the text to the loss.

Shapes: B rows, T tokens a row, P predicted places a row. Arrays are numpy on the host and tensors inside the step.
"""

from typing import Any, NamedTuple

Array = Any


class Rows(NamedTuple):
    """Unharmed text: what every objective starts from."""

    token: Array  # [B, T] int32
    doc: Array  # [B, T] int32, 1, 2, ... inside a row; 0 = padding
    position: Array  # [B, T] int32, from the later of document start and row start
    segment: Array  # [B, T] int32, 0 = first, 1 = second of a pair
    word_start: Array  # [B, T] bool
    sentence_start: Array  # [B, T] bool
    # For pairs [B] int32: 0 = B follows A, 1 = B is from elsewhere. Fine-tuning: [B, T], at a token, -1 = none.
    label: Array | None = None
    source: "Rows | None" = None  # of parallel text: what these rows translate, document by document
    reset: Array | None = None  # [B] bool for streams: a row goes on after nothing; None = no row goes on after another
    backward: Array | None = None  # [B] bool: the text of a row runs from its end to its start; None = none does
    spaced_start: Array = None  # [B, T] bool: where a word between white space starts; what a plan makes has it


class Stream(NamedTuple):
    """All that a stack ever sees."""

    token: Array  # [B, T] int32
    doc: Array  # [B, T] int32, 0 = padding
    position: Array  # [B, T] int32
    segment: Array  # [B, T] int32
    rank: Array  # [B, T] int32, see zoo/visibility.py


class Places(NamedTuple):
    """What one task predicts, and where."""

    at: Array | None  # [B, P] int32, rows of the stream that predict; None = all T
    target: Array  # [B, P] int32
    weight: Array  # [B, P] float32, 0 = not scored


class Batch(NamedTuple):
    """One micro-batch as an objective made it."""

    stream: Stream  # the only stack, or the decoder
    source: Stream | None  # the encoder side of an encoder-decoder
    tasks: dict[str, Places]
    reset: Array | None = None  # [B] bool: a row goes on after nothing; None = no row goes on after another
    backward: Array | None = None  # [B] bool: the text of a row runs from its end to its start; None = none does
