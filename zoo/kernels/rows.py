"""Reading and writing some rows of a variable, in place."""

from typing import Any

import keras
from keras import ops


def read_rows(variable: keras.Variable, rows: Any) -> Any:
    """These rows [R] of a variable [B, ...]: [R, ...]; the others are not read."""
    if keras.backend.backend() != "tensorflow":
        return ops.take(variable.value, rows, axis=0)
    import tensorflow as tf

    # By its handle, as a variable that each replica has of its own (zoo/train/replicas.py) offers no more than that.
    return tf.raw_ops.ResourceGather(resource=variable.value.handle, indices=rows, dtype=variable.value.dtype)


def write_rows(variable: keras.Variable, rows: Any, new: Any) -> None:
    """Puts `new` [R, ...] into these rows [R] of a variable [B, ...]; the others are not copied."""
    if keras.backend.backend() != "tensorflow":
        variable.assign(ops.scatter_update(variable.value, ops.expand_dims(rows, 1), new))
        return
    import tensorflow as tf

    tf.raw_ops.ResourceScatterUpdate(resource=variable.value.handle, indices=rows, updates=new)
