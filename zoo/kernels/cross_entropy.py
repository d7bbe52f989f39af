"""Softmax cross-entropy over a vocabulary.

Shapes: N tokens, V vocabulary.
"""

from typing import Any

from keras import ops


def cross_entropy(logits: Any, target: Any, weight: Any) -> Any:
    """The weighted sum of the cross-entropies in nats: [..., V] float32, [...] int, [...] float32 -> scalar."""
    top = ops.max(logits, axis=-1, keepdims=True)
    shifted = logits - ops.stop_gradient(top)
    chosen = ops.take_along_axis(shifted, target[..., None], axis=-1)[..., 0]
    return ops.sum(weight * (ops.logsumexp(shifted, axis=-1) - chosen))
