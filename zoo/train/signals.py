"""SIGTERM and Ctrl-C become a question that the loop asks between two micro-batches."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zoo.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Which signal came, if one did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler; a second signal of the same kind ends the process at once."""
        self.signal = number
        signal.signal(number, signal.SIG_DFL)

    def check(self, message: str = "interrupted") -> None:
        """Raises Interrupted if a signal came."""
        if self.signal is not None:
            raise Interrupted(self.signal, message)


@contextmanager
def caught() -> Iterator[Stop]:
    """Catches both signals while the block runs; elsewhere than in the main thread Python allows no handlers."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.note) for number in CAUGHT}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
