"""The engine of this process: what computes updates, and the devices that share them, for the backend Keras runs on."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from zoo.batch import Array
from zoo.train.start import engine, start_backend

HEALTHY = -1  # an engine's `failed` holds this until an update is not finite, then that update's number
NOTHING: Mapping[str, Array] = {}  # of a state: what `restore` leaves as it is
MODULES = {
    "tensorflow": ("zoo.train.step", "zoo.train.replicas"),
    "jax": ("zoo.train.step_jax", "zoo.train.replicas_jax"),
}


def step() -> Any:
    """The module with Engine and Evaluator."""
    return _module(0)


def replicas() -> Any:
    """The module with Replicas, Feeds and connect."""
    return _module(1)


def _module(which: int) -> Any:
    start_backend()
    return import_module(MODULES[engine()][which])
