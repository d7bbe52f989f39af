"""Writing into the middle of a variable, in place."""

from typing import Any

import keras
from keras import ops


def write_slots(variable: keras.Variable, new: Any, first: Any) -> None:
    """Puts `new` [..., N, d] into the slots from `first` (an int tensor) on of a variable [..., slots, d].

    In a graph that XLA compiles use `ops.slice_update`, which only there needs no copy.
    """
    if keras.backend.backend() == "tensorflow":
        variable.value[..., first : first + new.shape[-2], :].assign(new)  # TensorFlow's assignment to a slice
    else:
        variable.assign(ops.slice_update(variable.value, (*(0 for _ in new.shape[:-2]), first, 0), new))
