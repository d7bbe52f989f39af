"""From hidden states to logits over the vocabulary; the table is the token embedding's own.

Shapes: D width, V vocabulary.
"""

import math
from typing import Any

from keras import ops

from zoo.network.block import activate
from zoo.network.layers import Linear, Norm, Part
from zoo.schema import Model


class Head(Part):
    """The tied vocabulary head; with BERT's dense + activation + norm before it, and a bias, where the model has them."""

    def __init__(self, model: Model, vocab_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = model.activation
        self.transform = self.norm = None
        if model.head_transform:
            self.transform = Linear(model.width, model.width, init_std=0.0, dtype=self.dtype_policy)
            self.norm = Norm(model.width, epsilon=model.norm_epsilon, dtype=self.dtype_policy)
        self.bias = self.weight((vocab_size,), "zeros") if model.head_bias else None

    def call(self, hidden: Any, table_VD: Any) -> Any:
        """[..., V] float32."""
        if self.transform is not None and self.norm is not None:
            hidden = self.norm(activate(self.transform(hidden), self.activation))
        lead, width = ops.shape(hidden)[:-1], hidden.shape[-1]
        # dynamic rows are allowed for: -1 would be ambiguous where there are none
        flat_ND = ops.reshape(ops.cast(hidden, self.compute_dtype), (math.prod(lead), width))
        logits_NV = vocabulary_matmul(flat_ND, ops.cast(table_VD, self.compute_dtype))
        logits = ops.reshape(ops.cast(logits_NV, "float32"), (*lead, table_VD.shape[0]))
        return logits if self.bias is None else logits + self.bias


def vocabulary_matmul(hidden_ND: Any, table_VD: Any) -> Any:
    """[N, V] in the dtype of its operands, which are never promoted."""
    return ops.matmul(hidden_ND, ops.transpose(table_VD))
