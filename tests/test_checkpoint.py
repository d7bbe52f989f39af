"""Checkpoints are whole or not there."""

import json

import numpy as np
import pytest

from zoo import disk
from zoo.errors import UserError
from zoo.saved import open_saved
from zoo.train import checkpoint


class Weight:
    """As much of a Keras variable as a checkpoint asks for."""

    def __init__(self, value):
        self.value = self
        self.array = np.asarray(value, np.float32)

    def numpy(self):
        return self.array


@pytest.fixture
def run(tmp_path):
    for step in (1, 2, 3):
        weights = {"a.kernel": Weight([step, step]), "b": Weight([[1.0]])}
        checkpoint.save(tmp_path, step, weights, {"b.m": Weight([[step]])}, {"tokens": 8 * step}, keep=3)
    return tmp_path


def test_what_is_saved_is_read_back(run):
    found = checkpoint.newest(run)
    weights, slots, state = checkpoint.load(found)
    assert found.name == "step-00000003"
    assert state == {"step": 3, "tokens": 24}
    assert weights["a.kernel"].tolist() == [3, 3]
    assert slots["b.m"].tolist() == [[3]]


def test_equal_state_gives_equal_bytes(tmp_path):
    for folder in ("one", "two"):
        checkpoint.save(tmp_path / folder, 1, {"a": Weight([1.0]), "b": Weight([2.0])}, {}, {}, keep=1)
    one, two = ((tmp_path / f / "checkpoints/step-00000001/MANIFEST.json").read_bytes() for f in ("one", "two"))
    assert one == two


def test_the_newest_are_kept(tmp_path):
    for step in range(5):
        checkpoint.save(tmp_path, step, {"a": Weight([1.0])}, {}, {}, keep=2)
    assert [p.name for p in checkpoint.whole(tmp_path)] == ["step-00000004", "step-00000003"]


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest", "unfinished"])
def test_a_damaged_one_is_named_and_passed_over(run, capsys, harm):
    newest = checkpoint.folder_of(run, 3)
    file = newest / "model.safetensors"
    if harm == "truncate":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "flip":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
    elif harm == "remove":
        file.unlink()
    elif harm == "manifest":
        (newest / "MANIFEST.json").write_text("{")
    else:
        (newest / "MANIFEST.json").unlink()
    assert checkpoint.newest(run).name == "step-00000002"
    assert ("step-00000003" in capsys.readouterr().err) == (harm != "unfinished")


def test_a_save_that_fails_leaves_nothing(run, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "flush", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(run, 4, {"a": Weight([1.0])}, {}, {}, keep=3)
    assert checkpoint.newest(run).name == "step-00000003"
    assert not [p for p in (run / "checkpoints").iterdir() if p.name.startswith(".")]


def test_the_manifest_names_every_file(run):
    folder = checkpoint.folder_of(run, 3)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert set(manifest) == {p.name for p in folder.iterdir()} - {"MANIFEST.json"}


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UserError, match="no whole checkpoint"):
        open_saved(tmp_path)
    with pytest.raises(UserError, match="no run, checkpoint or Hugging Face folder"):
        open_saved(tmp_path / "nowhere")
