"""Checkpoints on disk: whole or not there at all.

`checkpoints/step-00001000/` holds model.safetensors, optimizer.safetensors, state.json and MANIFEST.json (every file's
size and sha256, written last). A checkpoint is written to a temporary folder, flushed to the disk and renamed.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from zoo.disk import flush
from zoo.errors import UserError
from zoo.progress import say

MANIFEST = "MANIFEST.json"
ALWAYS = ("model.safetensors", "optimizer.safetensors", "state.json")
PARTIAL = ".partial"  # a checkpoint that is being written


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint after update number `step` lives."""
    return run / "checkpoints" / f"step-{step:08d}"


def save(
    run: Path, step: int, weights: dict[str, Any], slots: dict[str, Any], state: dict[str, Any], keep: int
) -> Path:
    """Writes one checkpoint and drops all but the newest `keep`. OSError when the disk will not have it."""
    final = folder_of(run, step)
    if final.exists() and not damage(final):
        return final
    temporary = final.parent / PARTIAL
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        _write(weights, temporary / "model.safetensors")
        _write(slots, temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, **state}, indent=1, sort_keys=True))
        files = sorted(temporary.iterdir())
        manifest = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (*files, temporary / MANIFEST, temporary):
            flush(path)
        if final.exists():  # a damaged one of the same step
            shutil.rmtree(final)
        os.rename(temporary, final)
        flush(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in whole(run)[keep:]:
        shutil.rmtree(old)
    return final


def whole(run: Path) -> list[Path]:
    """The checkpoints that were finished, newest first."""
    found = [p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{8}", p.name)]
    return sorted((p for p in found if (p / MANIFEST).is_file()), reverse=True)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        for name in sorted({*ALWAYS, *manifest}):
            file, expected = checkpoint / name, manifest[name]
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if sha256(file) != expected["sha256"]:
                return f"{name} does not have the sha256 of its manifest"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def newest(run: Path) -> Path | None:
    """The newest undamaged checkpoint of a run, None where there is none yet; a damaged one is named and passed over.

    Raises UserError where all are damaged: what is left of them is not thrown away.
    """
    found = whole(run)
    for checkpoint in found:
        if (wrong := damage(checkpoint)) is None:
            return checkpoint
        say(f"the checkpoint {checkpoint} is damaged ({wrong})")
    if found:
        raise UserError(f"all checkpoints of {str(run)!r} are damaged; give another --out to start again")
    return None


def load(checkpoint: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Weights, optimizer slots and state of a checkpoint."""
    state = json.loads((checkpoint / "state.json").read_text())
    return load_weights(checkpoint), _read(checkpoint / "optimizer.safetensors"), state


def load_weights(checkpoint: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint, by name."""
    return _read(checkpoint / "model.safetensors")


def find(path: Path) -> Path:
    """The checkpoint folder meant by a run's or a checkpoint's folder. UserError where there is none."""
    if (path / "model.safetensors").is_file():
        if (path / MANIFEST).exists() and (wrong := damage(path)):
            raise UserError(f"the checkpoint {path} is damaged ({wrong})")
        return path
    if not path.is_dir():
        raise UserError(f"there is no run or checkpoint {str(path)!r}")
    found = newest(path)
    if found is None:
        raise UserError(f"{str(path)!r} holds no whole checkpoint (checkpoints/step-*/{MANIFEST})")
    return found


def run_of(checkpoint: Path) -> Path:
    """The run that a checkpoint folder belongs to."""
    return checkpoint.parent.parent


def _read(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def _write(variables: dict[str, Any], file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(variable.value.numpy()) for name, variable in variables.items()}
    try:
        save_file(arrays, file)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
