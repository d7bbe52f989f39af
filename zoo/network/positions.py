"""Where a token stands: sinusoids, and scores that depend on distance alone.

Shapes: B rows, H heads, Q queries, K keys, R distances, d width of a head.
"""

from typing import Any

import numpy as np
from keras import ops

from zoo.network.layers import float32


def _angles(position: Any, width: int) -> Any:
    """[..., ceil(width / 2)] float32: position / 10000 ** (2i / width)."""
    rate = 10000.0 ** (-np.arange(0, width, 2) / width)
    return float32(position)[..., None] * ops.convert_to_tensor(rate, "float32")


def sinusoid(position: Any, width: int) -> Any:
    """[...] int -> [..., width]: all sines, then all cosines, as Transformer-XL and XLNet have them.

    Unlike Vaswani et al. 2017, section 3.5, where sines and cosines take turns: the same numbers in another order, and
    whatever is learned on top cannot tell. Their own code has this order, and so has Marian.
    """
    angle = _angles(position, width)
    wide: Any = ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)
    return wide[..., :width]


def distances(queries: int, keys: int) -> Any:
    """[R] int, R = queries + keys: how far a query can lie behind a key, keys - 1 down to -queries.

    The last one is never used: it is the column that `relative_shift` would otherwise have to pad.
    """
    return ops.arange(keys - 1, -queries - 1, -1)
