"""An array that is filled from the left, in place: what a cache of keys and values is made of."""

from typing import Any

import keras
from keras import ops


class Slots:
    """[B, H, slots, d], zeros at first."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        self.variable = keras.Variable(ops.zeros(shape, dtype), trainable=False, dtype=dtype, autocast=False)

    def write(self, first: Any, new_BHNd: Any) -> None:
        """Slots `first` to `first + N - 1` become `new`."""
        if keras.backend.backend() == "tensorflow":  # in place, where the neutral way copies all slots
            self.variable.value[:, :, first : first + new_BHNd.shape[2]].assign(new_BHNd)
        else:
            self.variable.assign(ops.slice_update(self.variable.value, (0, 0, first, 0), new_BHNd))

    def read(self) -> Any:
        """All slots."""
        return ops.convert_to_tensor(self.variable.value)
