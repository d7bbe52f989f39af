"""Arrays in .safetensors files. The format holds numbers and names, nothing that runs; the library checks a header's
sizes against the file before anything is read.

A part of an array is kept under NAME@BEGIN:END,BEGIN:END: from where to where it goes, axis by axis.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import UserError, some
from zoo.network.shapes import Shapes


class TensorFile(Mapping[str, np.ndarray]):
    """The arrays of one file by name, each read from the mapped file when it is asked for."""

    def __init__(self, file: Path):
        import ml_dtypes  # noqa: F401 -- numpy has bfloat16 from then on
        from safetensors import SafetensorError, safe_open

        try:
            self._file = safe_open(file, framework="np")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} cannot be read: {error}") from None
        slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
        self.shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
        for name, each in slices.items():
            if each.get_dtype().startswith("F8"):
                raise UserError(f"{file} cannot be read: {name} is {each.get_dtype()}, which numpy does not have")

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def part(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A part of an array; nothing else of it is read."""
        return self._file.get_slice(name)[index]


class _Part(NamedTuple):
    """Where a part lies in its array, and where it is kept."""

    bounds: list[tuple[int, int]]
    file: TensorFile
    key: str


class CutTensors(Mapping[str, np.ndarray]):
    """The float32 arrays of several files by name, in parts that lie anywhere; they are joined when asked for."""

    def __init__(self, files: Iterable[Path]):
        self._parts: dict[str, list[_Part]] = {}
        for file in files:
            opened = TensorFile(file)
            for key, shape in opened.shapes.items():
                name, bounds = _placed(key, shape)
                if tuple(end - begin for begin, end in bounds) != shape:
                    raise UserError(f"{file} cannot be read: {key} is {list(shape)}")
                self._parts.setdefault(name, []).append(_Part(bounds, opened, key))
        self.shapes = {
            name: tuple(max(end for _, end in axis) for axis in zip(*(part.bounds for part in parts), strict=True))
            for name, parts in self._parts.items()
        }
        for name, shape in self.shapes.items():
            there = sum(prod(part.file.shapes[part.key]) for part in self._parts[name])
            if there != prod(shape):
                raise UserError(f"{name} cannot be read: its parts are {there:,} of {prod(shape):,} numbers")

    def __getitem__(self, name: str) -> np.ndarray:
        return self.part(name, tuple(map(slice, self.shapes[name])))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def part(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A part of an array; of the files only what overlaps it is read."""
        wanted = _bounds(index, self.shapes[name])
        found = np.empty([end - begin for begin, end in wanted], np.float32)
        for part in self._parts[name]:
            common = [
                (max(begin, first), min(end, last))
                for (begin, end), (first, last) in zip(wanted, part.bounds, strict=True)
            ]
            if all(begin < end for begin, end in common):
                found[_from(common, wanted)] = part.file.part(part.key, _from(common, part.bounds))
        return found


def part_name(name: str, index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    """Under which name a file keeps a part of an array: the array's own where that is all of it.

    >>> part_name("a", (slice(4, 8), slice(None)), (8, 2)), part_name("a", (slice(0, 8), slice(None)), (8, 2))
    ('a@4:8,0:2', 'a')
    """
    bounds = _bounds(index, shape)
    whole = all(end - begin == size for (begin, end), size in zip(bounds, shape, strict=True))
    return name if whole else f"{name}@{','.join(f'{begin}:{end}' for begin, end in bounds)}"


def part_of(values: Mapping[str, Any], name: str, index: tuple[slice, ...]) -> np.ndarray:
    """A part of one of these arrays; of one in a file nothing else is read."""
    files = isinstance(values, TensorFile | CutTensors)
    return values.part(name, index) if files else np.asarray(values[name])[index]


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [each.indices(size)[:2] for each, size in zip(index, shape, strict=True)]


def _placed(key: str, shape: tuple[int, ...]) -> tuple[str, list[tuple[int, int]]]:
    """The array of which a file keeps a part under this key, and where the part lies."""
    if (found := re.fullmatch(r"(.+)@(\d+:\d+(?:,\d+:\d+)*)", key)) is None:
        return key, [(0, size) for size in shape]
    begins_ends = (bounds.split(":") for bounds in found[2].split(","))
    return found[1], [(int(begin), int(end)) for begin, end in begins_ends]


def _from(bounds: list[tuple[int, int]], origin: list[tuple[int, int]]) -> tuple[slice, ...]:
    """What lies within bounds, in a part that begins at an origin."""
    return tuple(slice(begin - first, end - first) for (begin, end), (first, _) in zip(bounds, origin, strict=True))


def write_tensors(arrays: Mapping[str, np.ndarray], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes arrays by name, without a second copy of them in memory. OSError when the disk will not have them."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    file.touch()
    mode = file.stat().st_mode  # the library's own would let nobody but the owner read it
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    file.chmod(mode)


def check_shapes(fault: str, expected: Shapes, found: Shapes) -> None:
    """Raises UserError, `fault` with the names, where arrays are missing, extra or of another shape."""
    problems = [f"missing {name}" for name in expected.keys() - found.keys()]
    problems += [f"extra {name}" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            problems.append(f"{name} is {list(found[name])} and must be {list(expected[name])}")
    if problems:
        raise UserError(f"{fault}: {some(sorted(problems))}")
