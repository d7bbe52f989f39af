"""From tokens to the first residual stream.

Shapes: B rows, T tokens, D width.
"""

from typing import Any

from zoo.batch import Stream
from zoo.kernels.random import RowNoise, drop
from zoo.network.adaptive import AdaptiveEmbedding
from zoo.network.layers import Embedding, Norm, Part
from zoo.network.positions import sinusoid
from zoo.sections import Model


class Embed(Part):
    """Token, and as the model has them position and segment; their sum normalised where the model says so."""

    def __init__(self, model: Model, vocab_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.model = model

        def table(rows: int) -> Embedding:
            return Embedding(rows, model.width, init_std=0.0, dtype=self.dtype_policy)

        if model.div_val > 1:
            self.token = AdaptiveEmbedding(model, vocab_size, dtype=self.dtype_policy)
        else:
            self.token = table(vocab_size)
        self.position = table(model.context) if model.positions == "learned" else None
        self.segment = table(model.segments) if model.segments and model.positions != "relative" else None
        self.norm = None
        if model.embedding_norm:
            self.norm = Norm(model.width, epsilon=model.norm_epsilon, dtype=self.dtype_policy)

    def call(self, stream: Stream, start: Any = None, noise: RowNoise | None = None) -> Any:
        """[B, T, D] float32; start [B, T, D] or [D] stands in for the tokens: what knows a place and not its token."""
        x = self.token(stream.token) if start is None else start
        if self.model.embedding_scale:  # the table is small, for it serves the softmax too (Vaswani et al. 2017, 3.4)
            x = x * self.model.width**0.5
        if self.position is not None:
            x = x + self.position(stream.position)
        elif self.model.positions == "sinusoidal":
            x = x + sinusoid(stream.position, self.model.width)
        if self.segment is not None:
            x = x + self.segment(stream.segment)
        if self.norm is not None:
            x = self.norm(x)
        return drop(x, self.model.dropout, noise, "embed")
