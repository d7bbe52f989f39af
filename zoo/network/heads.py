"""From hidden states to scores of the vocabulary; the table is the token embedding's own.

Shapes: N tokens, D width, V vocabulary.
"""

from typing import Any

from keras import ops

from zoo.kernels.cross_entropy import cross_entropy
from zoo.kernels.matmul import matmul_transposed
from zoo.network.block import activate
from zoo.network.layers import Embedding, Linear, Norm, Part, float32, sizes
from zoo.sections import Model


class Scores:
    """The logits [..., V] of some places, in the dtype they were computed in, and what is asked of them."""

    def __init__(self, score: Any):
        self.score = score

    def logits(self) -> Any:
        """[..., V] float32."""
        return float32(self.score)

    def loss(self, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
        """The weighted sum of the cross-entropies in nats, a float32 scalar; smoothing: of the labels."""
        return cross_entropy(self.score, target, weight, smoothing)

    def likeliest(self) -> Any:
        """[...] int32: the word with the highest score."""
        return ops.argmax(self.score, axis=-1)


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

    def scores(self, hidden: Any, token: Embedding) -> Scores:
        """What is asked of hidden states [..., D]; token: the embedding that lends its table."""
        return Scores(self(hidden, token.table))
