"""Arrays whose parts lie in several files, and the writers that make one checkpoint together."""

import threading
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import UserError
from zoo.tensors import CutTensors, part_name, part_of, write_tensors
from zoo.train import checkpoint

TABLE = np.arange(48, dtype=np.float32).reshape(8, 6)
BIAS = np.arange(4, dtype=np.float32)


def cut(array: np.ndarray, *ways: int) -> list[tuple[slice, ...]]:
    """Its parts, where every axis is cut so many ways."""
    axes = []
    for size, parts in zip(array.shape, ways, strict=True):
        ends = [size * n // parts for n in range(parts + 1)]
        axes.append([slice(*pair) for pair in pairwise(ends)])
    return list(product(*axes))


def held(number: int, of: int) -> dict[str, np.ndarray]:
    """What one of several writers has: rows of the table, and the first the whole bias."""
    index = cut(TABLE, of, 2)[2 * number : 2 * number + 2]
    parts = {part_name("table", each, TABLE.shape): TABLE[each] for each in index}
    return parts if number else {**parts, "bias": BIAS}


def slots_of(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("table", "table.m"): -value for name, value in values.items() if "table" in name}


def written(run: Path, of: int = 2) -> Path:
    """A checkpoint of update 1, by so many writers at once; the others begin first."""
    others = [threading.Thread(target=save, args=(run, number, of)) for number in range(1, of)]
    for each in others:
        each.start()
    save(run, 0, of)
    for each in others:
        each.join()
    return checkpoint.folder_of(run, 1)


def save(run: Path, number: int, of: int) -> None:
    values = held(number, of)
    checkpoint.save(run, 1, values, slots_of(values), {}, {"tokens": 8}, (number, of))


@pytest.mark.parametrize("of", [1, 2, 4])
def test_writers_make_one_checkpoint(of: int, tmp_path: Path) -> None:
    folder = written(tmp_path, of)
    assert checkpoint.damage(folder) is None
    assert [file.name for file in checkpoint.files(folder, checkpoint.WEIGHTS)] == [
        f"model-{number + 1:05d}-of-{of:05d}.safetensors" for number in range(of)
    ]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    weights, slots, memory, state = checkpoint.load(folder)
    assert (dict(weights.shapes), memory, state) == ({"bias": (4,), "table": (8, 6)}, None, {"step": 1, "tokens": 8})
    assert (weights["table"] == TABLE).all()
    assert (weights["bias"] == BIAS).all()
    assert (slots["table.m"] == -TABLE).all()


@pytest.mark.parametrize("harm", ["remove", "truncate", "flip"])
def test_a_damaged_part_is_a_damaged_checkpoint(harm: str, tmp_path: Path) -> None:
    folder = written(tmp_path)
    file = folder / "model-00002-of-00002.safetensors"
    content = file.read_bytes()
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if harm == "truncate" else content[:-1] + bytes([content[-1] ^ 1]))
    assert checkpoint.damage(folder) is not None
    with pytest.raises(UserError, match=r"all checkpoints of .* are damaged"):
        checkpoint.newest(tmp_path)


def test_slots_that_are_not_read_are_not_hashed(tmp_path: Path) -> None:
    folder = written(tmp_path)
    file = folder / "optimizer-00001-of-00002.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert checkpoint.damage(folder, (checkpoint.SLOTS,)) is None
    assert checkpoint.damage(folder) is not None


def test_a_writer_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_WAIT", "0.2")
    with pytest.raises(OSError, match=r"step-00000001-00002.partial did not come in 0 s"):
        save(tmp_path, 0, 2)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_writer_whose_disk_is_full_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("full")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_tensors", refuse)
        with pytest.raises(OSError, match="full"):
            save(tmp_path, 1, 2)
    with pytest.raises(OSError, match="its writer could not fill"):
        save(tmp_path, 0, 2)
    checkpoint.clear(tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())
    assert checkpoint.damage(written(tmp_path)) is None


@given(ways=st.tuples(st.integers(1, 8), st.integers(1, 6)), bounds=st.tuples(*[st.integers(0, 8)] * 4))
def test_any_part_is_read_from_any_parts(
    ways: tuple[int, int], bounds: tuple[int, int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("parts") / "model.safetensors"
    write_tensors({part_name("table", each, TABLE.shape): TABLE[each] for each in cut(TABLE, *ways)}, file)
    found = CutTensors([file])
    index = (slice(*sorted(bounds[:2])), slice(*sorted(bounds[2:])))
    assert found.shapes == {"table": (8, 6)}
    assert (part_of(found, "table", index) == TABLE[index]).all()
    assert (found["table"] == TABLE).all()


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a@0:2": np.zeros(2, np.float32), "a@4:6": np.zeros(2, np.float32)}, "its parts are 4 of 6 numbers"),
        ({"a@0:3": np.zeros(2, np.float32)}, r"a@0:3 is \[2\]"),
        ({"a@0:2": np.zeros((2, 1), np.float32)}, r"a@0:2 is \[2, 1\]"),
    ],
)
def test_parts_that_make_no_array_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    write_tensors(arrays, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=message):
        CutTensors([tmp_path / "x.safetensors"])
