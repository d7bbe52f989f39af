"""A model of one's own from the zoo's blocks: it reads six digits and says them in order.

    .venv/bin/python examples/own_model.py

The blocks are Keras layers like any others: they take part in functional models, `compile`, `fit` and `save`. Who sees
whom is an input like the rest; here every digit sees every other. In `fit` the blocks run without dropout, which the
zoo passes in as explicit noise.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from keras import ops

from zoo.batch import Stream
from zoo.network.block import Encoder
from zoo.network.layers import Embedding, Linear
from zoo.visibility import visible

DIGITS, LENGTH, WIDTH = 10, 6, 64


def model() -> keras.Model:
    """[B, 6] digits -> [B, 6, 10] logits."""
    token = keras.Input((LENGTH,), dtype="int32")
    same = ops.zeros_like(token)
    row = Stream(token, doc=same + 1, position=same + np.arange(LENGTH), segment=same, rank=same)
    x = Embedding(DIGITS, WIDTH)(row.token) + Embedding(LENGTH, WIDTH)(row.position)
    x = Encoder(layers=1, width=WIDTH, heads=4)(x, visible(row, row))
    return keras.Model(token, Linear(WIDTH, DIGITS)(x))


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits, and the same digits sorted."""
    token = np.random.default_rng(seed).integers(0, DIGITS, (count, LENGTH)).astype(np.int32)
    return token, np.sort(token, axis=1)


def main(train_rows: int = 10_000) -> float:
    """The share of digits that are right on rows it has not read."""
    keras.utils.set_random_seed(0)
    built = model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    built.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    built.fit(*rows(train_rows, seed=0), batch_size=50, epochs=1, verbose=0)
    return built.evaluate(*rows(1000, seed=1), batch_size=500, verbose=0, return_dict=True)["accuracy"]


if __name__ == "__main__":
    print(f"{main():.1%} of the digits of unseen rows stand in the right place")
