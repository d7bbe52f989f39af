"""From hidden states to scores of labels: what fine-tuning puts onto a pretrained network.

Shapes: D width, C labels.
"""

from typing import Any

from keras import ops

from zoo.kernels.random import RowNoise, drop
from zoo.network.layers import Linear, Part, float32


class LabelHead(Part):
    """A projection to the labels behind dropout; pooled: behind a dense layer with tanh too, BERT's pooler."""

    def __init__(self, width: int, labels: int, *, pooled: bool, dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.pooler = Linear(width, width, init_std=0.0) if pooled else None
        self.labels = Linear(width, labels, init_std=0.0)

    def call(self, hidden: Any, noise: RowNoise | None = None) -> Any:
        """[..., D] -> [..., C] float32."""
        if self.pooler is not None:
            hidden = ops.tanh(self.pooler(hidden))
        return float32(self.labels(drop(hidden, self.dropout, noise, "labels")))
