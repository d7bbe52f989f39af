"""Functions of tensors that run as one graph."""

from collections.abc import Callable
from typing import Any

import keras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, traced once for all arguments of equal shapes; numpy arrays come in as tensors."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    graphs: dict[Any, Any] = {}  # one for each shape: TensorFlow takes many traces of one function for a mistake

    def call(*arguments: Any) -> Any:
        tensors = tf.nest.map_structure(lambda x: None if x is None else tf.convert_to_tensor(x), arguments)
        shapes = tuple(None if x is None else tuple(x.shape) for x in tf.nest.flatten(tensors))
        if shapes not in graphs:
            graphs[shapes] = tf.function(function, autograph=False)
        return graphs[shapes](*tensors)

    return call
