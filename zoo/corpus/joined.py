"""Arrays in several files, here or behind an address, read as one; of remote ones only what is asked for is fetched."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from zoo.corpus.remote import reachable
from zoo.errors import RunFailed, UserError
from zoo.progress import say

BLOCK = 1 << 16  # bytes of a remote file that are fetched at once: a row of 1,024 tokens lies in one or two
RETRIES = (1, 5, 30, 120)  # seconds to wait, after what the store's library has tried itself, before it is asked again
FREE = 0.05  # of the disk, which is left to others: without it blocks are not kept, and fetched when they are asked for


class Readable(Protocol):
    """What is read of a long array: its length, places of it, and stretches."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> Any: ...

    def take(self, index: Any, /) -> np.ndarray: ...


class Joined:
    """Parts end to end, or a stretch of them."""

    def __init__(self, parts: "Sequence[np.ndarray | Fetched]", dtype: str, begin: int = 0, end: int | None = None):
        self.parts, self.dtype = parts, np.dtype(dtype)
        self.starts = np.cumsum([0, *map(len, parts)])
        self.begin, self.end = begin, int(self.starts[-1]) if end is None else end

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, stretch: slice) -> "Joined":
        begin, end, step = stretch.indices(len(self))
        assert step == 1
        return Joined(self.parts, self.dtype.str, self.begin + begin, self.begin + end)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.take(np.arange(len(self)))

    def take(self, index: Any) -> np.ndarray:
        """What stands at these places, whatever the shape of `index`."""
        place = np.ravel(index) + self.begin
        of, found = np.searchsorted(self.starts, place, side="right") - 1, np.empty(place.shape, self.dtype)
        for part in np.unique(of):
            here = of == part
            found[here] = self.parts[part].take(place[here] - self.starts[part])
        return found.reshape(np.shape(index))


class Late:
    """An array that is made when numpy asks for it, and kept."""

    def __init__(self, make: Callable[[], np.ndarray]):
        self._make, self._made = make, None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._made is None:
            self._made = self._make()
        return self._made


class Fetched:
    """An array in a remote file: its blocks are fetched when they are first asked for, and kept in a file of `cache`.

    name: what is different for other content. Several processes may share the file: they write the same into it.
    """

    def __init__(self, remote: Path, dtype: str, length: int, name: str, cache: Path, block: int = BLOCK):
        self.remote, self.kept = cast(Any, remote), cache
        kept = cache / hashlib.sha256(f"{remote} {name}".encode()).hexdigest()[:32]
        cache.mkdir(parents=True, exist_ok=True)
        self.block, self.items, self.size = block, block // np.dtype(dtype).itemsize, length * np.dtype(dtype).itemsize
        self.array = _opened(kept.with_suffix(".bin"), dtype, length)
        self.here = _opened(kept.with_suffix(".here"), "bool", -(-length // self.items))  # which blocks
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: np.ndarray) -> np.ndarray:
        of = index // self.items
        with self.lock:
            blocks = np.unique(of)
            fetched = self._fetched(blocks[~self.here[blocks]])
            if fetched and self._has_room():
                self._keep(fetched)
                fetched = {}
            found = self.array.take(index)
        for block, content in fetched.items():
            own = of == block
            found[own] = content[index[own] - block * self.items]
        return found

    def _fetched(self, blocks: np.ndarray) -> dict[int, np.ndarray]:
        """The blocks as the store has them. RunFailed where it cannot be reached for some minutes."""
        begins = (blocks * self.block).tolist()
        ends = [min(begin + self.block, self.size) for begin in begins]
        for wait in (*RETRIES, None):
            try:
                with reachable(str(self.remote)):
                    paths = [self.remote.path] * len(begins)
                    found = self.remote.fs.cat_ranges(paths, begins, ends, on_error="raise")
                    parts = (np.frombuffer(content, self.array.dtype) for content in found)
                    return dict(zip(blocks.tolist(), parts, strict=True))
            except UserError as error:
                if wait is None:
                    raise RunFailed(f"{error}; a run goes on with --resume") from None
                say(f"{error}; asking again in {wait} s")
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _has_room(self) -> bool:
        """Whether the disk can take more: a hole that it cannot fill would end the process (SIGBUS)."""
        disk = shutil.disk_usage(self.kept)
        return disk.free > FREE * disk.total

    def _keep(self, fetched: Mapping[int, np.ndarray]) -> None:
        for block, content in fetched.items():
            self.array[block * self.items : (block + 1) * self.items] = content
        self.array.flush()  # before it is said that they are here, or a power cut could leave zeros for tokens
        self.here[list(fetched)] = True


def _opened(file: Path, dtype: str, length: int) -> np.memmap:
    """A file of numbers that can be written, filled with zeros where it is new: a hole, which takes no room."""
    with file.open("ab") as made:
        made.truncate(length * np.dtype(dtype).itemsize)
    return np.memmap(file, dtype, mode="r+", shape=(length,))
