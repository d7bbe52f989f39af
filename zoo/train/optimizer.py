"""Adam over named weights: which are decayed, and the slots under their stable names."""

from typing import Any

import keras
import numpy as np

from zoo.kernels import adam as kernel
from zoo.sections import Adam


def decays(name: str) -> bool:
    """Whether a weight is decayed: all but biases and the scales of norms.

    That is BERT's rule (it leaves out names with LayerNorm or bias), GPT-2's in its usual reproduction (only weights
    of two dimensions) and XLNet's, whose relative biases (`content_bias`, ...) the release does decay.
    """
    return not name.endswith((".bias", ".scale"))


class Optimizer:
    """Adam's two slots for every weight, and the update in place."""

    def __init__(self, settings: Adam, weights: dict[str, Any]):
        self.settings = settings
        self.weights = weights
        self.slots: dict[str, Any] = {}
        for name, weight in weights.items():
            for slot in ("m", "v"):
                self.slots[f"{name}.{slot}"] = keras.Variable(
                    np.zeros(weight.shape, np.float32), trainable=False, dtype="float32", name=slot
                )

    def apply(self, gradients: dict[str, Any], learning_rate: Any, count: Any) -> None:
        """One update; `count` is its number, from 1."""
        step = kernel.step(self.settings, learning_rate, count)
        for name, gradient in gradients.items():
            m, v = (self.slots[f"{name}.{slot}"].value for slot in ("m", "v"))
            weight = self.weights[name].value
            kernel.apply(self.settings, step, weight, m, v, gradient, decays(name))
