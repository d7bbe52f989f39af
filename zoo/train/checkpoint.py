"""Checkpoints on disk: whole or not there at all.

`checkpoints/step-00001000/` holds model.safetensors, optimizer.safetensors, memory.safetensors where rows are streams,
state.json and MANIFEST.json (every file's size and sha256, written last). A checkpoint is written to a temporary
folder, flushed to the disk and renamed.

Where weights are cut (zoo/train/layout.py) every process writes what it holds of them, the second of four to
model-00002-of-00004.safetensors, in a folder of its own, from which the first takes it; so do the slots.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo import disk, word_budget
from zoo.errors import UserError
from zoo.progress import say
from zoo.sections import Train
from zoo.tensors import CutTensors, TensorFile, write_tensors
from zoo.waiting import longest_wait, until

WEIGHTS, SLOTS, MEMORY, STATE = "model.safetensors", "optimizer.safetensors", "memory.safetensors", "state.json"


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint after update number `step` lives."""
    return run / "checkpoints" / f"step-{step:08d}"


def averaged_of(run: Path) -> Path:
    """Where the mean of a run's last checkpoints lives, if its recipe asks for it."""
    return run / "checkpoints" / "averaged"


def found(run: Path) -> dict[int, Path]:
    """The checkpoints of a run by their step, newest first; any of them may be damaged."""
    named = (p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{8,}", p.name))
    return dict(sorted(((int(p.name.removeprefix("step-")), p) for p in named), reverse=True))


def save(
    run: Path,
    step: int,
    weights: Mapping[str, Any],
    slots: Mapping[str, Any],
    memory: Mapping[str, Any],
    state: dict[str, Any],
    share: tuple[int, int] | None = None,
) -> None:
    """Writes one checkpoint, unless it is there. OSError when the disk will not have it.

    weights, slots, memory: what numpy can read, by name; it is read here and not before. No file for an empty memory.
    share: of writers that hold parts of the weights and slots which this is, and of how many; the first waits for the
    others. None where they are whole.
    """
    final = folder_of(run, step)
    number, of = share or (0, 1)
    if final.exists():
        return
    if number:
        _leave(final, weights, slots, (number, of))
        return
    with disk.whole_folder(final) as folder:
        _write(folder, weights, slots, share)
        if memory:
            write_tensors({key: np.asarray(value) for key, value in memory.items()}, folder / MEMORY)
        (folder / STATE).write_text(json.dumps({"step": step, **state}, indent=1, sort_keys=True))
        known: dict[str, Any] = {}
        for other in range(1, of):
            known |= _take(_left(final, other), folder)
        disk.write_manifest(folder, known)


def clear(run: Path) -> None:
    """Deletes what other writers left for checkpoints that the first has given up; while nobody writes."""
    for left in (run / "checkpoints").glob(".step-*-*.partial"):
        shutil.rmtree(left)


def _leave(final: Path, weights: Mapping[str, Any], slots: Mapping[str, Any], share: tuple[int, int]) -> None:
    """Writes the parts of another writer than the first, for the first to take."""
    left = _left(final, share[0])
    try:
        with disk.whole_folder(left) as folder:
            _write(folder, weights, slots, share)
            disk.write_manifest(folder)
    except OSError:
        disk.make_folder(left)  # empty, so that the first need not wait
        raise


def _left(final: Path, number: int) -> Path:
    """Where a writer leaves its parts of a checkpoint."""
    return disk.partial(final.with_name(f"{final.name}-{number + 1:05d}"))


def _take(left: Path, folder: Path) -> dict[str, Any]:
    """Moves another writer's files into a checkpoint, once they are there; what its manifest says of them."""
    wait = longest_wait()
    for _ in until(wait, lambda: f"still waiting for {left}"):
        if left.is_dir():
            break
        time.sleep(0.1)
    else:
        raise OSError(f"{left} did not come in {wait:.0f} s")
    if not (left / disk.MANIFEST).is_file():
        raise OSError(f"its writer could not fill {left}")
    known = json.loads((left / disk.MANIFEST).read_text())
    for name in known:
        os.rename(left / name, folder / name)
    shutil.rmtree(left)
    return known


def _write(folder: Path, weights: Mapping[str, Any], slots: Mapping[str, Any], share: tuple[int, int] | None) -> None:
    for values, name in ((weights, WEIGHTS), (slots, SLOTS)):
        file = folder / name
        if share is not None:
            number, of = share
            file = file.with_stem(f"{file.stem}-{number + 1:05d}-of-{of:05d}")
        write_tensors({key: np.asarray(value) for key, value in values.items()}, file)


def files(checkpoint: Path, name: str) -> list[Path]:
    """A checkpoint's file of that name, or those in its place that hold parts."""
    file = checkpoint / name
    return sorted(checkpoint.glob(f"{file.stem}-*-of-*{file.suffix}")) or [file]


def tensors(checkpoint: Path, name: str) -> TensorFile | CutTensors:
    """The arrays that a checkpoint has in its file of that name, or in those in its place."""
    there = files(checkpoint, name)
    return TensorFile(there[0]) if there[0].name == name else CutTensors(there)


def give_names(run: Path, step: int, names: Iterable[str]) -> None:
    """Links with these names, to the checkpoint of `step`; what has a name is kept for good."""
    for name in names:
        link = run / "checkpoints" / name
        link.unlink(missing_ok=True)
        link.symlink_to(folder_of(run, step).name)
        disk.flush(link.parent)


def named(run: Path) -> dict[str, Path]:
    """The checkpoints at word budgets by their names, in the order of the budgets."""
    there = [path for path in (run / "checkpoints").glob(f"{word_budget.NAME}[0-9]*") if path.is_dir()]
    there.sort(key=lambda path: word_budget.read(path.name.removeprefix(word_budget.NAME)))
    return {path.name: path for path in there}


def drop(run: Path, train: Train, losses: Mapping[int, float]) -> None:
    """Deletes the checkpoints that are not kept."""
    there = found(run)
    lasting = {link.resolve().name for link in named(run).values()}
    for step in there.keys() - kept(there, train, losses):
        if there[step].name not in lasting:
            disk.remove_folder(there[step])


def kept(steps: Iterable[int], train: Train, losses: Mapping[int, float]) -> set[int]:
    """The newest `keep_checkpoints`, the multiples of `keep_every`, and the best: that of the lowest validation loss.

    losses: of the steps that were evaluated; of equal ones the earlier is the best.
    """
    steps = sorted(steps)
    chosen = set(steps[-train.keep_checkpoints :])
    if train.keep_every is not None:
        chosen |= {step for step in steps if step and step % train.keep_every == 0}
    known = [step for step in steps if math.isfinite(losses.get(step, math.nan))]
    return chosen | set(sorted(known, key=losses.__getitem__)[:1])


def average(run: Path, count: int) -> list[int]:
    """Writes the mean of the weights of the newest `count` checkpoints, without slots; returns their steps.

    Vaswani et al. 2017, section 6.1.
    """
    steps = list(found(run))[:count]
    read = [tensors(folder_of(run, step), WEIGHTS) for step in steps]
    state = json.loads((folder_of(run, steps[0]) / STATE).read_text())
    final = averaged_of(run)
    if final.exists():  # of a run that was killed before it was evaluated
        disk.remove_folder(final)
    with disk.whole_folder(final) as folder:
        means = {name: sum(each[name].astype(np.float64) for each in read) / len(read) for name in read[0]}
        write_tensors({name: np.asarray(mean, np.float32) for name, mean in means.items()}, folder / WEIGHTS)
        (folder / STATE).write_text(json.dumps({**state, "averaged": steps}, indent=1, sort_keys=True))
        disk.write_manifest(folder)
    return steps


def damage(
    checkpoint: Path, unread: tuple[str, ...] = (), needed: tuple[str, ...] = (WEIGHTS, SLOTS, STATE)
) -> str | None:
    """What is wrong with a checkpoint's files, or None; of those that will not be read only the size is looked at."""
    meant = [tuple(file.name for name in names for file in files(checkpoint, name)) for names in (needed, unread)]
    return disk.damage(checkpoint, *meant)


def newest(run: Path, unread: tuple[str, ...] = ()) -> Path | None:
    """The newest undamaged checkpoint of a run, None where there is none yet; a damaged one is named and passed over.

    unread: as of `damage`. Raises UserError where all are damaged: what is left of them is not thrown away.
    """
    there = found(run)
    for checkpoint in there.values():
        if (wrong := damage(checkpoint, unread)) is None:
            return checkpoint
        say(f"the checkpoint {checkpoint} is damaged ({wrong})")
    if there:
        raise UserError(f"all checkpoints of {str(run)!r} are damaged; give another --out to start again")
    return None


def tidy(run: Path, step: int) -> None:
    """Clears up for a run that goes on from its newest whole checkpoint, that of `step`.

    What a killed process was writing or deleting goes. Later checkpoints, which are damaged, get another name, so that
    they are neither counted nor in the way.
    """
    for left in (run / "checkpoints").glob(".*.partial"):
        shutil.rmtree(left)
    for later, path in found(run).items():
        if later > step:
            aside = path.with_name(f"damaged-{path.name}")
            number = 1
            while aside.exists():
                number += 1
                aside = path.with_name(f"damaged-{path.name}-{number}")
            os.rename(path, aside)
            say(f"it is kept as {aside}")


def load(
    checkpoint: Path,
) -> tuple[TensorFile | CutTensors, TensorFile | CutTensors, TensorFile | None, dict[str, Any]]:
    """Weights, optimizer slots, memory (None where it has none) and the state of a checkpoint."""
    state = json.loads((checkpoint / STATE).read_text())
    memory = TensorFile(checkpoint / MEMORY) if (checkpoint / MEMORY).exists() else None
    return tensors(checkpoint, WEIGHTS), tensors(checkpoint, SLOTS), memory, state
