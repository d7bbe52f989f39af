"""The ways a command ends badly, and the near misses that a message names."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used; one line, exit code 2, nothing overwritten."""


class RunFailed(Exception):
    """The run itself failed (a non-finite loss, a last save that was impossible); exit code 1."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work, and all that was done is saved; exit code 128 + signal.

    A KeyboardInterrupt, so that no `except Exception` on its way takes it for a fault.
    """

    def __init__(self, signal: int, message: str = "interrupted"):
        super().__init__(message)
        self.signal = signal


def nearest(value: str, allowed: Iterable[str]) -> str:
    """The end of a message: the closest allowed values, or all of them where none is close."""
    choices = sorted(allowed)
    close = difflib.get_close_matches(value, choices, n=3)
    if close:
        return "; did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "; allowed: " + (", ".join(choices) if choices else "nothing")


def some(names: list[str], most: int = 8) -> str:
    """The first of many names, for a message of one line."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
