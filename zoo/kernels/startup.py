"""The start of the engine's library; TensorFlow's without its chatter, lines that come before its own log level is
obeyed."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

# Keras imports these where they are installed, for wrappers, tables and plots: a third of all that is imported.
UNUSED = ("sklearn", "matplotlib", "pandas")
alone = False  # whether the process is the zoo's own, in which nobody asks Keras for those


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices, in silence; what it said is shown if it fails.

    TF_CPP_MIN_LOG_LEVEL 0 or 1 asks for all it says.
    """
    talks = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1")
    # TensorFlow imports JAX where it is installed, for a converter.
    with nullcontext() if talks else stderr_held(), _absent(*(*UNUSED, "jax") if alone else ()), _uncollected():
        import tensorflow as tf

        tf.config.list_physical_devices()
    if not talks:
        tf.get_logger().setLevel("ERROR")  # it warns of every second shape and run in a process


def start_jax() -> None:
    """Imports JAX, and Keras, which looks for the unused packages too."""
    with _absent(*UNUSED if alone else ()), _uncollected():
        import jax  # noqa: F401
        import keras  # noqa: F401


@contextmanager
def _absent(*modules: str) -> Iterator[None]:
    """Makes modules that nobody has imported yet look as if they were not installed."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage, which would walk again and again through all that is imported, and stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if alone:
            gc.freeze()  # nor later, while graphs are traced
        if enabled:
            gc.enable()


@contextmanager
def stderr_held() -> Iterator[None]:
    """Keeps what the process writes to stderr, C++ included, and gives it out only on an exception."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
