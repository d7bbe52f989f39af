"""Arrays in .safetensors files. The format holds numbers and names, nothing that runs; the library checks a header's
sizes against the file before anything is read."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from zoo.errors import UserError


class TensorFile(Mapping[str, np.ndarray]):
    """The arrays of one file by name, each read from the mapped file when it is asked for."""

    def __init__(self, file: Path):
        from safetensors import SafetensorError, safe_open

        try:
            self._file = safe_open(file, framework="np")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} cannot be read: {error}") from None
        self.shapes = {name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()}  # noqa: SIM118

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

    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None
