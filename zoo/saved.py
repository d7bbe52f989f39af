"""Trained models wherever they are kept: a run, a checkpoint, a registered name, a Hugging Face folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo import accounting, disk
from zoo.errors import UserError
from zoo.progress import say
from zoo.schema import Recipe
from zoo.tensors import CutTensors, TensorFile, check_shapes
from zoo.train import checkpoint, run

FACTS = "facts.json"  # of a registered model: how it came about
CONFIG = "config.json"  # what a Hugging Face folder has
NEEDED = (checkpoint.WEIGHTS, checkpoint.STATE)  # of a checkpoint, by whoever uses it or begins with it
UNREAD = (checkpoint.SLOTS, checkpoint.MEMORY)  # and what they leave alone


class Saved(NamedTuple):
    """A trained model on disk; its weights are read one at a time."""

    where: str  # as a person would name it
    recipe: Recipe
    tokenizers: Mapping[str, Path]  # those it has, by the sections of its recipe
    weights: Mapping[str, np.ndarray]  # every one has the shape that `accounting.weights(recipe)` gives
    facts: dict[str, Any]  # origin; of a run also step, tokens, valid, corpus, commit
    absent: frozenset[str] = frozenset()  # weights that such a model has by its recipe, and this kind is saved without

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer.json of the text it writes or reads alone, if it has one."""
        return self.tokenizers.get("tokenizer")


def open_saved(where: str | Path) -> Saved:
    """The model of that name, in that folder, or at `hf:ORG/NAME`; a folder is a Path, or text with a separator.

    Raises UserError where there is none, or what is there is damaged or does not fit together.
    """
    if is_folder(where):
        return _in_folder(Path(where))
    where = str(where)
    if where.startswith("hf:"):
        from zoo.exchange.folder import read
        from zoo.exchange.hub import fetched

        found = read(fetched(where))
        return found._replace(where=where, facts={**found.facts, "origin": where})
    from zoo.registered import place_of

    return open_saved(place_of(where))


def is_folder(where: str | Path) -> bool:
    """Whether a folder is meant: a Path, or text with a separator or a leading dot."""
    if isinstance(where, Path):
        return True
    return not where.startswith("hf:") and (os.sep in where or where.startswith("."))


def _in_folder(folder: Path) -> Saved:
    there = checkpoint.files(folder, checkpoint.WEIGHTS)[0].is_file()
    if (folder / CONFIG).is_file():
        from zoo.exchange.folder import read

        return read(folder)
    if (folder / run.RECIPE).is_file() and there:
        return _registered(folder)
    if there:
        if (wrong := checkpoint.damage(folder, UNREAD, NEEDED)) is not None:
            raise UserError(f"the checkpoint {folder} is damaged ({wrong})")
        return _of_run(folder.absolute().parent.parent, folder)
    if not folder.is_dir():
        raise UserError(f"there is no run, checkpoint or Hugging Face folder {str(folder)!r}")
    newest = checkpoint.newest(folder, UNREAD)
    if newest is None:
        raise UserError(f"{str(folder)!r} holds no whole checkpoint (checkpoints/step-*/{disk.MANIFEST})")
    averaged = checkpoint.averaged_of(folder)
    if averaged.is_dir():
        if (wrong := disk.damage(averaged, NEEDED)) is None:
            newest = averaged
        else:
            say(f"the checkpoint {averaged} is damaged ({wrong})")
    return _of_run(folder, newest)


def _registered(folder: Path) -> Saved:
    if (wrong := disk.damage(folder, (run.RECIPE, checkpoint.WEIGHTS, FACTS))) is not None:
        raise UserError(f"the checkpoint {folder} is damaged ({wrong})")
    return _own(str(folder), folder, TensorFile(folder / checkpoint.WEIGHTS), read_facts(folder))


def read_facts(folder: Path) -> dict[str, Any]:
    """How a registered model came about. UserError where that cannot be read."""
    try:
        return json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FACTS} cannot be read: {error}") from None


def _of_run(folder: Path, found: Path) -> Saved:
    if not (folder / run.RECIPE).is_file():
        raise UserError(f"{str(found)!r} is a checkpoint without its run: {folder / run.RECIPE} is missing")
    state = json.loads((found / checkpoint.STATE).read_text())
    environment = run.read_environment(folder)
    valid = [line for line in run.read_metrics(folder) if line["split"] == "valid" and line["step"] == state["step"]]
    facts = {"origin": "trained", "step": state["step"], "tokens": state["tokens"], "commit": environment["commit"]}
    facts |= {"corpus": environment["corpus"], "valid": valid[-1] if valid else None}
    return _own(str(found), folder, checkpoint.tensors(found, checkpoint.WEIGHTS), facts)


def _own(where: str, folder: Path, tensors: TensorFile | CutTensors, facts: dict[str, Any]) -> Saved:
    recipe = run.read_recipe(folder)
    absent = frozenset(facts.get("absent", ()))
    check_shapes(f"the weights in {where} do not fit its recipe", accounting.weights(recipe, absent), tensors.shapes)
    tokenizers = {name: folder / file for name, file in run.TOKENIZERS.items() if (folder / file).is_file()}
    return Saved(where, recipe, tokenizers, tensors, facts, absent)
