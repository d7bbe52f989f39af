"""Checkpoints on disk: whole or not there at all.

`checkpoints/step-00001000/` holds model.safetensors, optimizer.safetensors, state.json and MANIFEST.json (every file's
size and sha256, written last). A checkpoint is written to a temporary folder, flushed to the disk and renamed.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from zoo import disk
from zoo.errors import UserError
from zoo.progress import say
from zoo.tensors import TensorFile, write_tensors

WEIGHTS, SLOTS, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint after update number `step` lives."""
    return run / "checkpoints" / f"step-{step:08d}"


def save(
    run: Path, step: int, weights: dict[str, Any], slots: dict[str, Any], state: dict[str, Any], keep: int
) -> Path:
    """Writes one checkpoint and drops all but the newest `keep`. OSError when the disk will not have it."""
    final = folder_of(run, step)
    if final.exists():
        if damage(final) is None:
            return final
        shutil.rmtree(final)
    for left in final.parent.glob(".*"):  # of a process that was killed
        shutil.rmtree(left)
    with disk.whole_folder(final) as folder:
        for variables, name in ((weights, WEIGHTS), (slots, SLOTS)):
            write_tensors({key: variable.value.numpy() for key, variable in variables.items()}, folder / name)
        (folder / STATE).write_text(json.dumps({"step": step, **state}, indent=1, sort_keys=True))
        disk.write_manifest(folder)
    for old in whole(run)[keep:]:
        shutil.rmtree(old)
    return final


def whole(run: Path) -> list[Path]:
    """The checkpoints that were finished, newest first."""
    found = [p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{8}", p.name)]
    return sorted((p for p in found if (p / disk.MANIFEST).is_file()), reverse=True)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    return disk.damage(checkpoint, (WEIGHTS, SLOTS, STATE))


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
    state = json.loads((checkpoint / STATE).read_text())
    return dict(TensorFile(checkpoint / WEIGHTS)), dict(TensorFile(checkpoint / SLOTS)), state
