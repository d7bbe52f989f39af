"""From hidden states to scores of the vocabulary; the table is the token embedding's own.

Shapes: N tokens, D width, V vocabulary.
"""

from typing import Any

from keras import ops

from zoo.kernels.matmul import matmul_transposed
from zoo.network.block import activate
from zoo.network.layers import Linear, Norm, Part, float32, sizes
from zoo.schema import Model


class Head(Part):
    """The tied vocabulary head; where the model has them, BERT's dense + activation + norm before it, and a bias."""

    def __init__(self, model: Model, vocab_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.model = model
        self.transform = self.norm = None
        if model.head_transform:
            self.transform = Linear(model.width, model.width, init_std=0.0, dtype=self.dtype_policy)
            self.norm = Norm(model.width, epsilon=model.norm_epsilon, dtype=self.dtype_policy)
        self.bias = self.weight((vocab_size,), "zeros") if model.head_bias else None

    def call(self, hidden: Any, table_VD: Any) -> Any:
        """[..., D] -> [..., V], as the matmul gives them (compute dtype), or float32 where a bias is added."""
        if self.transform is not None and self.norm is not None:
            hidden = self.norm(activate(self.transform(hidden), self.model.activation))
        flat_ND = ops.reshape(hidden, (-1, self.model.width))
        logits_NV = matmul_transposed(self.lowered(flat_ND), self.lowered(table_VD))
        logits = ops.reshape(logits_NV, (*sizes(hidden)[:-1], table_VD.shape[0]))
        return logits if self.bias is None else float32(logits) + self.bias
