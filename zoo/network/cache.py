"""What a stack keeps of the tokens it has read, so that later ones read them without reading all again.

Shapes: B rows, N new tokens, S slots, H heads, d width of a head.
"""

from typing import Any

import keras
from keras import ops

from zoo.network.attention import Keys
from zoo.sections import Model


class Cache:
    """Keys and values of every block, a slot for each token in the order of reading.

    Only a stack in which nobody sees what comes later can be cached: what a block made of a token then never changes.
    """

    def __init__(self, model: Model, rows: int, slots: int, dtype: str):
        def empty() -> keras.Variable:
            return keras.Variable(ops.zeros(self.kept, dtype), trainable=False, dtype=dtype, autocast=False)

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

    def extended(self, block: int, new: Keys, slots: Any) -> Keys:
        """Keeps what a block made of N more tokens; returns all it has.

        slots: [B, N] int, one for each token; or where they begin, an int; or None, which empties the cache before. In
        place in a graph that XLA compiles (zoo/kernels/compiled.py).
        """
        *before, size, width = self.kept
        for variable, new_BHNd in zip(self.blocks[block], (new.k, new.v), strict=True):
            new_Nd: Any = ops.reshape(new_BHNd, (*before, -1, width))
            if slots is None:
                empty = (0, size - new_Nd.shape[-2])
                variable.assign(ops.pad(new_Nd, [*((0, 0) for _ in before), empty, (0, 0)]))
            elif len(slots.shape) == 0:
                variable.assign(ops.slice_update(variable.value, (*(0 for _ in before), slots, 0), new_Nd))
            else:
                placed_BHCd = _placed(ops.reshape(variable.value, self.shape), new_BHNd, slots)
                variable.assign(ops.reshape(placed_BHCd, self.kept))
        k, v = (ops.reshape(variable.value, self.shape) for variable in self.blocks[block])
        return Keys(k, v, new.r)


def _placed(kept_BHSd: Any, new_BHNd: Any, slot_BN: Any) -> Any:
    """What is kept, with each new token in its slot: a choice for each token, of which XLA makes one pass."""
    slot_S1: Any = ops.reshape(ops.arange(kept_BHSd.shape[2]), (-1, 1))
    here_BNS1 = ops.equal(slot_S1, slot_BN[:, :, None, None])
    tokens = (ops.split(x, slot_BN.shape[1], axis) for x, axis in ((here_BNS1, 1), (new_BHNd, 2)))
    for here_B1S1, new_BH1d in zip(*tokens, strict=True):
        kept_BHSd = ops.where(here_B1S1, new_BH1d, kept_BHSd)
    return kept_BHSd
