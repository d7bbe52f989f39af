"""Files and folders are whole or not there, and what happened to them later is noticed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import disk

FILES = {"a.bin": bytes(range(64)), "b.txt": b"text"}


def fill(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    disk.write_manifest(folder)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    with disk.whole_folder(tmp_path / "deep" / "whole") as folder:
        fill(folder)
        assert not (tmp_path / "deep" / "whole").exists()
    return tmp_path / "deep" / "whole"


def test_a_folder_appears_at_once(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {*FILES, disk.MANIFEST}
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]
    assert disk.damage(whole, tuple(FILES)) is None


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def write() -> None:
        with disk.whole_folder(tmp_path / "whole") as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises(type(error)):
        write()
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(whole: Path) -> None:
    before = (whole / "b.txt").read_bytes()
    with pytest.raises(OSError, match="not empty"), disk.whole_folder(whole) as folder:
        (folder / "b.txt").write_text("another")
    assert (whole / "b.txt").read_bytes() == before
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    flush, rename = disk.flush, os.rename
    monkeypatch.setattr(disk, "flush", lambda path: (done.append(path.name), flush(path)))
    monkeypatch.setattr(disk.os, "rename", lambda old, new: (done.append("renamed"), rename(old, new)))
    with disk.whole_folder(tmp_path / "new" / "whole") as folder:
        fill(folder)
    assert done[0] == tmp_path.name  # which holds the name `new`
    assert set(done[1:-3]) == {*FILES, disk.MANIFEST}
    assert done[-3:] == [".whole.partial", "renamed", "new"]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    left = disk.partial(tmp_path / "whole")
    left.mkdir()
    (left / "half").touch()
    with disk.whole_folder(tmp_path / "whole") as folder:
        fill(folder)
    assert not (tmp_path / "whole" / "half").exists()


def test_a_folder_is_removed_at_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            disk.remove_folder(whole)
    assert not whole.exists()


@given(data=st.data())
def test_every_flipped_bit_and_every_lost_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    fill(folder)
    file = folder / data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    file.write_bytes(content)
    assert file.name in str(disk.damage(folder, ()))


@pytest.mark.parametrize("manifest", [None, "", "{}", "[1]", '{"a.bin": 3}', '{"a.bin": {"bytes": 64}}'])
def test_a_manifest_that_vouches_for_nothing(whole: Path, manifest: str | None) -> None:
    (whole / disk.MANIFEST).unlink()
    if manifest is not None:
        (whole / disk.MANIFEST).write_text(manifest)
    assert disk.damage(whole, ("a.bin",)) is not None


def test_what_will_not_be_read_must_have_its_size(whole: Path) -> None:
    (whole / "a.bin").write_bytes(bytes(64))
    assert "sha256" in str(disk.damage(whole, ()))
    assert disk.damage(whole, (), unread=("a.bin",)) is None
    (whole / "a.bin").write_bytes(bytes(63))
    assert "63 bytes" in str(disk.damage(whole, (), unread=("a.bin",)))


def test_a_missing_file_is_named(whole: Path) -> None:
    (whole / "a.bin").unlink()
    assert "a.bin" in str(disk.damage(whole, ("b.txt",)))


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.write_whole(tmp_path / "file", "old")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "flush", full)
        with pytest.raises(OSError, match="No space"):
            disk.write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    disk.write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_the_manifest_says_what_is_there(whole: Path) -> None:
    manifest = json.loads((whole / disk.MANIFEST).read_text())
    assert {name: said["bytes"] for name, said in manifest.items()} == {n: len(c) for n, c in FILES.items()}
    assert manifest["b.txt"]["sha256"] == "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
