"""What a stack keeps of the tokens it has read, so that later ones read them without reading all again.

Shapes: B rows, N new tokens, S slots, H heads, d width of a head.
"""

from typing import Any

import keras
from keras import ops

from zoo.kernels.slots import write_slots
from zoo.network.attention import Keys
from zoo.schema import Model


class Cache:
    """Keys and values of every block, a slot for each token in the order of reading.

    Only a stack in which nobody sees what comes later can be cached: what a block made of a token then never changes.
    """

    def __init__(self, model: Model, rows: int, slots: int, dtype: str, *, fused: bool):
        """fused: it is read and written in a graph that XLA compiles (zoo/kernels/compiled.py)."""

        def empty() -> keras.Variable:
            return keras.Variable(ops.zeros(self.kept, dtype), trainable=False, dtype=dtype, autocast=False)

        self.fused = fused
        self.shape = (rows, model.heads, slots, model.head_width)
        # As XLA's matmul takes them, without an axis of size one: else it copies everything twice for each token.
        self.kept = self.shape[1:] if rows == 1 else self.shape
        self.blocks = [(empty(), empty()) for _ in range(model.layers)]

    def take(self, smaller: "Cache") -> None:
        """Goes on from a cache with fewer slots."""
        for own, other in zip(self.blocks, smaller.blocks, strict=True):
            for variable, less in zip(own, other, strict=True):
                empty = (0, self.kept[-2] - smaller.kept[-2])
                variable.assign(ops.pad(less.value, [*((0, 0) for _ in self.kept[:-2]), empty, (0, 0)]))

    def extended(self, block: int, new: Keys, first: Any) -> Keys:
        """Keeps what a block made of N more tokens, whose slots begin at `first`; returns all it has.

        first: None empties the cache before.
        """
        *before, slots, width = self.kept
        for variable, new_BHNd in zip(self.blocks[block], (new.k, new.v), strict=True):
            new_Nd: Any = ops.reshape(new_BHNd, (*before, -1, width))
            if first is None:
                empty = (0, slots - new_Nd.shape[-2])
                variable.assign(ops.pad(new_Nd, [*((0, 0) for _ in before), empty, (0, 0)]))
            elif self.fused:
                variable.assign(ops.slice_update(variable.value, (*(0 for _ in before), first, 0), new_Nd))
            else:
                write_slots(variable, new_Nd, first)
        k, v = (ops.reshape(variable.value, self.shape) for variable in self.blocks[block])
        return Keys(k, v, new.r)
