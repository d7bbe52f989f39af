"""Files and folders that are whole or not there: written aside, forced onto the disk, renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"  # every other file's size and sha256


def write_whole(path: Path, text: str) -> None:
    """Writes or replaces a file: whoever reads it finds the old text or the new one."""
    temporary = partial(path)
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yields a folder to fill; what was put into it appears at `final` at once, or not at all.

    OSError when the disk will not have it, or `final` holds something.
    """
    temporary = partial(final)
    make_folder(final.parent)
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            flush(path)
        os.rename(temporary, final)
        flush(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_folder(folder: Path) -> None:
    """Deletes a folder at once: what a killed process leaves of it does not bear its name."""
    temporary = partial(folder)
    os.rename(folder, temporary)
    shutil.rmtree(temporary)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and forces their names onto the disk."""
    for path in reversed((folder, *folder.parents)):
        if not path.exists():
            path.mkdir(exist_ok=True)
            flush(path.parent)


def partial(path: Path) -> Path:
    """Where a file or folder is while it is being written."""
    return path.with_name(f".{path.name}.partial")


def flush(path: Path) -> None:
    """Forces a file, or a folder's list of names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_manifest(folder: Path, known: dict[str, Any] | None = None) -> None:
    """MANIFEST.json of all that is in the folder: what it says can be checked, so it is written last.

    known: what it says of files that were made elsewhere, which are not read again.
    """
    manifest = dict(known or {})
    for file in sorted(folder.iterdir()):
        if file.name not in manifest:
            manifest[file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def damage(folder: Path, needed: tuple[str, ...], unread: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a folder that has a manifest and needs certain files, or None.

    unread: files whose size alone is checked, since a hash takes as long as reading them.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in sorted({*needed, *manifest}):
            file, expected = folder / name, manifest[name]
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if name not in unread and sha256(file) != expected["sha256"]:
                return f"{name} does not have the sha256 of its manifest"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
