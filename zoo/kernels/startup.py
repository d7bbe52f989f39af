"""TensorFlow's start without its chatter: lines of its C++ side that come before its own log level is obeyed."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext


def start() -> None:
    """Imports TensorFlow and lets it look for devices, in silence; what it said is shown if it fails.

    TF_CPP_MIN_LOG_LEVEL 0 or 1 asks for all it says.
    """
    talks = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1")
    with nullcontext() if talks else stderr_held():
        import tensorflow as tf

        tf.config.list_physical_devices()
    if not talks:
        tf.get_logger().setLevel("ERROR")  # it warns of every second shape and run in a process


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
