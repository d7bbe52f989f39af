"""From hidden states to scores of the vocabulary; the table is the token embedding's own.

Shapes: N tokens, D width, V vocabulary.
"""

from functools import cached_property
from typing import Any

from keras import ops

from zoo.kernels.cross_entropy import cross_entropy, projected_cross_entropy
from zoo.kernels.matmul import matmul_transposed
from zoo.network.block import activate
from zoo.network.layers import Embedding, Linear, Norm, Part, float32, sizes
from zoo.sections import Model


class Scores:
    """What is asked of some places' scores of the vocabulary; a loss alone never has them all at once."""

    def __init__(self, hidden_ND: Any, table_VD: Any, bias_V: Any, shape: Any):
        """hidden and table in the compute dtype; shape [...] is that of the places, all of which are N."""
        self.hidden_ND, self.table_VD, self.bias_V, self.shape = hidden_ND, table_VD, bias_V, shape

    @cached_property
    def score(self) -> Any:
        """[..., V], as the matmul gives them (compute dtype), or float32 where a bias is added."""
        logits_NV = matmul_transposed(self.hidden_ND, self.table_VD)
        logits = ops.reshape(logits_NV, (*self.shape, self.table_VD.shape[0]))
        return logits if self.bias_V is None else float32(logits) + self.bias_V

    def logits(self) -> Any:
        """[..., V] float32."""
        return float32(self.score)

    def loss(self, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
        """The weighted sum of the cross-entropies in nats, a float32 scalar; smoothing: of the labels."""
        if "score" in vars(self):  # somebody has asked for them already
            return cross_entropy(self.score, target, weight, smoothing)
        target_N, weight_N = ops.reshape(target, (-1,)), ops.reshape(weight, (-1,))
        return projected_cross_entropy(self.hidden_ND, self.table_VD, self.bias_V, target_N, weight_N, smoothing)

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

    def scores(self, hidden: Any, token: Embedding) -> Scores:
        """What is asked of hidden states [..., D]; token: the embedding that lends its table."""
        return self.over(hidden, token.table)

    def over(self, hidden: Any, table_VD: Any) -> Scores:
        """The same, of the rows of any table."""
        if self.transform is not None and self.norm is not None:
            hidden = self.norm(activate(self.transform(hidden), self.model.activation))
        hidden_ND = self.lowered(ops.reshape(hidden, (-1, self.model.width)))
        bias_V = None if self.bias is None else self.bias.value
        return Scores(hidden_ND, self.lowered(table_VD), bias_V, sizes(hidden)[:-1])
