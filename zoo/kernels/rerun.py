"""Functions that are run a second time on the way back, instead of keeping what they computed (Chen et al. 2016)."""

from collections.abc import Callable
from typing import Any, Literal

import keras

Remat = bool | Literal["matmuls"]


def rerun(function: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """The same function, of which little is kept: True = its arguments alone, matmuls = what its matrix products gave
    too, so that only what is cheap is computed again; under TensorFlow as True. All that gradients flow to must be its
    arguments."""
    if remat == "matmuls" and keras.backend.backend() == "jax":
        import jax

        return jax.checkpoint(function, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
    return keras.remat(function)
