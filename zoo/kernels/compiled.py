"""Functions of tensors that run as one graph."""

from collections.abc import Callable
from typing import Any

import keras


def compiled(function: Callable[..., Any], *, fused: bool = False, any_shape: bool = False) -> Callable[..., Any]:
    """The same function, traced once for all arguments of equal shapes; numpy arrays come in as tensors.

    fused: XLA compiles the whole. That takes seconds and pays for many calls on few tokens each, where the many small
    operations take longer than the matmuls; large matmuls are slower than TensorFlow's own in bfloat16. any_shape: one
    trace for all arguments of as many axes, whose sizes are then known only at the call.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    graphs: dict[Any, Any] = {}  # one for each shape: TensorFlow takes many traces of one function for a mistake

    def sizes(x: Any) -> Any:
        return (None,) * len(x.shape) if any_shape else tuple(x.shape)

    def call(*arguments: Any) -> Any:
        tensors = tf.nest.map_structure(lambda x: None if x is None else tf.convert_to_tensor(x), arguments)
        shapes = tuple(None if x is None else sizes(x) for x in tf.nest.flatten(tensors))
        if shapes not in graphs:
            specs = tf.nest.map_structure(lambda x: None if x is None else tf.TensorSpec(sizes(x), x.dtype), tensors)
            # The concrete graph: a call of a tf.function looks first, in milliseconds, which of its traces fits.
            graph = tf.function(lambda *given: function(*given), autograph=False, jit_compile=fused)
            graphs[shapes] = graph.get_concrete_function(*specs)
        return graphs[shapes](*tensors)

    return call
