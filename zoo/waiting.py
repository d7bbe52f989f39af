"""Waiting for other processes, for a time that the user may set."""

import os
import time
from collections.abc import Callable, Iterator

from zoo.errors import UserError
from zoo.progress import PLAIN_SECONDS, say

WAIT = "ZOO_WAIT"  # the variable that says for how many seconds
LONGEST_WAIT = 600


def longest_wait() -> float:
    """For how many seconds a process waits for another.

    Raises:
        UserError: ZOO_WAIT is no such number.
    """
    text = os.environ.get(WAIT) or str(LONGEST_WAIT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{WAIT} is {text!r}; it must be a number of seconds, 0 or more")
    return seconds


def until(seconds: float, waiting: Callable[[], str]) -> Iterator[None]:
    """Again and again for so many seconds; says now and then what is waited for."""
    begin = told = time.monotonic()
    while (now := time.monotonic()) - begin < seconds:
        if now - told >= PLAIN_SECONDS:
            told = now
            say(waiting())
        yield
