"""Checkpoints by name: those a user registered, those that ship with the zoo, the published ones of its recipes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from zoo import disk
from zoo.errors import UserError, nearest
from zoo.home import home
from zoo.registry import PACKAGE, recipe, recipes
from zoo.saved import FACTS, Saved
from zoo.tensors import write_tensors
from zoo.train import checkpoint, run

SHIPPED = PACKAGE / "shipped"
NAME_RULE = "letters, digits, '.', '_' and '-', beginning with a letter or digit"


class Registered(NamedTuple):
    """A checkpoint with a name."""

    name: str
    kind: str  # registered, shipped, published
    place: str  # a folder, or hf:ORG/NAME


def user_folder() -> Path:
    """Where the checkpoints live that a user registered."""
    return home() / "checkpoints"


def registered() -> dict[str, Registered]:
    """Every name; a shipped checkpoint hides the published one of the same recipe."""
    expected = ((name, recipe(name).expect) for name in recipes())
    hubs = {name: expect.hub for name, expect in expected if expect is not None and expect.hub is not None}
    return {name: Registered(name, "published", f"hf:{hub}") for name, hub in hubs.items()} | _kept()


def _kept() -> dict[str, Registered]:
    """Those that lie on the disk, found without reading any recipe."""
    folders = (("shipped", SHIPPED), ("registered", user_folder()))
    files = [(kind, file) for kind, folder in folders for file in sorted(folder.glob(f"*/{run.RECIPE}"))]
    return {file.parent.name: Registered(file.parent.name, kind, str(file.parent)) for kind, file in files}


def place_of(name: str) -> str:
    """Where the checkpoint of that name is: a folder, or hf:ORG/NAME."""
    known = _kept()
    if name not in known:  # only then, for it takes a while and stops at a recipe that is broken
        known = registered()
    if name not in known:
        hint = f"; the folder is ./{name}" if Path(name).is_dir() else nearest(name, known)
        raise UserError(f"there is no checkpoint {name!r}{hint}")
    return known[name].place


def register(saved: Saved, name: str) -> Path:
    """Copies a trained model to ZOO_HOME under a name of the user's.

    Raises UserError where the name cannot be one, or is taken.
    """
    allowed = name and name[0].isalnum() and all(c.isalnum() or c in "._-" for c in name) and name.isascii()
    if not allowed:
        raise UserError(f"--name {name!r} cannot be a checkpoint's name; allowed: {NAME_RULE}")
    taken = registered().get(name)
    if taken is not None:
        raise UserError(f"the name {name!r} is taken by a {taken.kind} checkpoint ({taken.place})")
    return write(saved, user_folder() / name)


def write(
    saved: Saved, folder: Path, dtype: str = "float32", beside: Callable[[Path], None] = lambda new: None
) -> Path:
    """Writes a model as registered ones are kept: recipe.yaml, tokenizer.json, model.safetensors, facts.json.

    beside: puts what else there is into the new folder.
    """
    with disk.whole_folder(folder) as new:
        (new / run.RECIPE).write_text(run.to_yaml(saved.recipe), encoding="utf-8")
        for section, file in saved.tokenizers.items():
            (new / run.TOKENIZERS[section]).write_bytes(file.read_bytes())
        weights = {name: value.astype(dtype, copy=False) for name, value in saved.weights.items()}
        write_tensors(weights, new / checkpoint.WEIGHTS)
        facts = saved.facts | ({"absent": sorted(saved.absent)} if saved.absent else {})
        (new / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        beside(new)
        disk.write_manifest(new)
    return folder
