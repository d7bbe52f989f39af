"""Arrays in .safetensors files. The format holds numbers and names, nothing that runs; the library checks a header's
sizes against the file before anything is read."""

from collections.abc import Iterator, Mapping
from pathlib import Path

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
