"""Writing into the middle of a variable, in place."""

from typing import Any

import keras
from keras import ops


def write_slots(variable: keras.Variable, new: Any, first: Any) -> None:
    """Puts `new` [..., N, d] into the slots from `first` (an int tensor) on of a variable [..., slots, d].

    In a graph that XLA compiles use `ops.slice_update`, which only there needs no copy.
    """
    begin = (*(0 for _ in new.shape[:-2]), first, 0)
    if keras.backend.backend() != "tensorflow":
        variable.assign(ops.slice_update(variable.value, begin, new))
        return
    import tensorflow as tf

    end = (*(0 for _ in new.shape[:-2]), first + new.shape[-2], 0)
    whole = (1 << len(begin)) - 1 - (1 << len(begin) - 2)  # a bit for every axis but that of the slots: all of it
    # What `variable[..., first:end, :].assign(new)` does, which would also read, and so copy, the whole variable.
    tf.raw_ops.ResourceStridedSliceAssign(
        ref=variable.value.handle,
        begin=tf.stack(begin),
        end=tf.stack(end),
        strides=tf.ones(len(begin), tf.int32),
        value=new,
        **dict.fromkeys(("begin_mask", "end_mask"), whole),
    )
