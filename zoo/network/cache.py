"""What a stack keeps of the tokens it has read, so that later ones read them without reading all again.

Shapes: B rows, S slots, H heads, d width of a head.
"""

from zoo.kernels.slots import Slots
from zoo.schema import Model


class Cache:
    """Keys and values of every block, a slot for each token in the order of reading.

    Only a stack in which nobody sees what comes later can be cached: what a block made of a token then never changes.
    """

    def __init__(self, model: Model, rows: int, slots: int, dtype: str):
        shape = (rows, model.heads, slots, model.head_width)
        self.slots = slots
        self.blocks = [(Slots(shape, dtype), Slots(shape, dtype)) for _ in range(model.layers)]
