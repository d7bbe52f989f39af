"""The files of a Hugging Face folder. Names in it are not trusted: what is read lies inside the folder."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.tensors import TensorFile
from zoo.train.checkpoint import WEIGHTS

INDEX = "model.safetensors.index.json"  # which of several files holds which array
CARD = "README.md"


def inside(folder: Path, name: str) -> Path | None:
    """A file of the folder, None where it is not there.

    Raises UserError where the name, or a link, leads out of the folder.
    """
    file = folder / name
    try:
        real = Path(os.path.realpath(file))  # Path.resolve() raises where links go round in circles
    except ValueError:  # a name that no file can have
        return None
    if name in ("", ".", "..") or Path(name).name != name or not real.is_relative_to(_room(folder.resolve())):
        raise UserError(f"{folder}: {name!r} leads out of the folder; nothing outside it is read")
    return file if os.path.isfile(file) else None


def _room(folder: Path) -> Path:
    """Where links may lead: in HF's cache the files of a snapshot are links to others of the cache."""
    if folder.parent.name != "snapshots":
        return folder
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).resolve()
    return cache if folder.is_relative_to(cache) else folder.parents[1]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object, an empty one where the file is not there. UserError where it is none."""
    file = inside(folder, name)
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {type(error).__name__}: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is a {type(found).__name__}; it must be a JSON object")
    return found


def read_arrays(folder: Path) -> dict[str, tuple[TensorFile, str]]:
    """Every array of the folder's weights: the file that holds it, and its name there.

    Raises UserError where there are no weights in safetensors, or a file is missing or damaged.
    """
    if inside(folder, WEIGHTS):
        file = TensorFile(folder / WEIGHTS)
        return {name: (file, name) for name in file}
    places = shards(folder)
    if not places:
        raise no_weights(str(folder), [file.name for file in folder.iterdir()])
    missing = sorted(name for name in set(places.values()) if inside(folder, name) is None)
    if missing:
        raise UserError(f"{folder} has no {', '.join(missing)}, which {INDEX} names")
    files = {name: TensorFile(folder / name) for name in set(places.values())}
    return {name: (files[place], name) for name, place in places.items() if name in files[place].shapes}


def shards(folder: Path) -> dict[str, str]:
    """Which file holds which array, as the index says; nothing where there is no index."""
    index = read_json(folder, INDEX)
    places = index.get("weight_map") if index else {}
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise UserError(f"{folder / INDEX} has no weight_map from arrays to files")
    return places


def no_weights(where: str, names: Collection[str]) -> UserError:
    """The line for a model without safetensors."""
    others = sorted(name for name in names if name.endswith((".bin", ".h5", ".msgpack", ".pt", ".pth", ".ckpt")))
    beside = f" but {', '.join(others[:3])}: only safetensors is read, as it holds nothing that runs" if others else ""
    return UserError(f"{where} has no {WEIGHTS}{beside}")
