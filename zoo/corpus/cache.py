"""Files that are made once, under a lock, and are whole or not there at all."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import UserError
from zoo.progress import say

# EFBIG: the file system, or a limit of the shell, allows no larger file.
_REFUSED = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
)


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Holds the lock file `path`; says so when another process is `doing` it, and waits. It ends with its process."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is {doing}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around whatever writes below `folder`: a disk that is full or may not be written is a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); make room there or set ZOO_HOME to another folder"
        ) from None
