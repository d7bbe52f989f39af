"""How weights start: a pure function of (seed, name), so that nothing else built in the process matters."""

import math
import zlib

import keras
import numpy as np

from zoo.network.names import named_weights
from zoo.sections import Model


def initialize(layer: keras.layers.Layer, model: Model, seed: int, prefix: str = "") -> None:
    """Draw every weight under `layer` as the model's family does; `prefix` goes before the names."""
    for name, weight in named_weights(layer).items():
        weight.assign(draw(model, seed, prefix + name, tuple(weight.shape)))


def draw(model: Model, seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32: norms start at scale 1, biases at 0, all else normal with the model's deviation."""
    if name.endswith(".scale"):
        return np.ones(shape, np.float32)
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, zlib.crc32(name.encode())], np.uint64)))
    if model.init == "xavier_uniform" and name.endswith(".kernel"):  # Glorot & Bengio 2010, equation 16
        reach = math.sqrt(6 / sum(shape))
        return generator.uniform(-reach, reach, shape).astype(np.float32)
    std = model.init_std
    if name == "embed.position.table" and model.position_std is not None:
        std = model.position_std
    if "projection" in name and model.projection_std is not None:  # of a vocabulary in bins
        std = model.projection_std
    if model.residual_scaling and name.endswith(("attend.out.kernel", "inner.down.kernel")):
        std /= math.sqrt(2 * model.layers)  # two projections a layer add to the residual stream
    drawn = generator.standard_normal(shape, np.float32)
    if model.init == "truncated_normal":
        while (far := np.abs(drawn) > 2).any():  # drawn again, as TensorFlow does, so the deviation shrinks to 0.88
            drawn[far] = generator.standard_normal(int(far.sum()), np.float32)
    drawn *= std
    return drawn
