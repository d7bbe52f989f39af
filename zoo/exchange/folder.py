"""Hugging Face folders, read and written."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo import accounting, disk
from zoo.errors import UserError, nearest, some
from zoo.exchange import card, tokenizer
from zoo.exchange.bert import Bert
from zoo.exchange.family import Family, Tensor
from zoo.exchange.files import CARD, WEIGHTS, inside, read_arrays, read_json
from zoo.exchange.gpt import GPT
from zoo.exchange.gpt2 import GPT2
from zoo.exchange.marian import Marian
from zoo.exchange.xlnet import XLNet
from zoo.network.shapes import Shapes
from zoo.saved import CONFIG, Saved, open_saved
from zoo.tensors import TensorFile, check_shapes, write_tensors
from zoo.train import checkpoint

FAMILIES: dict[str, Family] = {family.model_type: family for family in (GPT2(), GPT(), Bert(), XLNet(), Marian())}


class Theirs(Mapping[str, np.ndarray]):
    """The arrays that a class computes with, under the names it gives them; each is read when it is asked for.

    Raises UserError where an array that the class ties to another differs from it, or two have one name.
    """

    def __init__(self, folder: Path, family: Family, config: Mapping[str, Any]):
        self._places: dict[str, tuple[TensorFile, str]] = {}
        for name, place in read_arrays(folder).items():
            known = family.known(name)
            if known in self._places:
                raise UserError(f"{folder} has {known} twice: as {self._places[known][1]} and as {name}")
            self._places[known] = place
        repeats = family.repeats(config)
        for repeated in [name for name in repeats if name in self._places]:
            name, place = repeats[repeated], self._places.pop(repeated)
            if name not in self._places:  # whoever wrote it kept the other of the two
                self._places[name] = place
            elif not np.array_equal(place[0][place[1]], self[name]):
                raise UserError(f"{folder}: {repeated} differs from {name}; the zoo computes with one array for both")
        for name in family.idle(self._places):
            del self._places[name]
        self.shapes: Shapes = {name: file.shapes[place] for name, (file, place) in self._places.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> np.ndarray:
        file, place = self._places[name]
        return file[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Ours(Mapping[str, np.ndarray]):
    """The same arrays as the weights of a recipe."""

    def __init__(self, theirs: Mapping[str, np.ndarray], tensors: list[Tensor], shapes: Shapes):
        self._theirs, self._shapes = theirs, shapes
        self._tensors = {name: tensor for tensor in tensors for name in tensor.ours}

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        return tensor.part(name, self._theirs[tensor.theirs], self._shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def read(folder: Path) -> Saved:
    """The model of a folder as `save_pretrained` writes it.

    Raises UserError where it is none, its family or configuration is not one that the zoo computes, an array is
    missing, extra or misshapen, or its tokenizer has more ids than the vocabulary has rows.
    """
    config = read_json(folder, CONFIG)
    if not config:
        raise UserError(f"{str(folder)!r} is no Hugging Face folder: it has no {CONFIG}")
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise UserError(f"{folder / CONFIG}: model_type is {kind!r}{nearest(kind, FAMILIES)}")
    family = FAMILIES[kind]
    family.check(config)
    theirs, rows = Theirs(folder, family, config), family.rows(config)
    texts = tokenizer.find_all(folder, rows, family.ends)
    context = next((text.context for text in texts.values()), None)
    sections = {section: text.section for section, text in texts.items()}
    recipe = family.recipe(_name(folder), config, theirs, sections, context)
    for section, text in texts.items():
        key, size = rows[section]
        if text.size > size:
            what = section.replace("_", " ")
            raise UserError(f"{folder}: its {what} has {text.size:,} ids and {key.name} is {size:,}")
    begins, shapes = family.absent(theirs), accounting.weights(recipe)
    absent = frozenset(name for name in shapes if name.startswith(begins))
    tensors = _present(family.tensors(recipe), absent)
    expected = {tensor.theirs: tensor.shape for tensor in tensors}
    check_shapes(f"the arrays in {folder} do not fit its {CONFIG}", expected, theirs.shapes)
    facts = {"origin": str(folder), **card.told(inside(folder, CARD))}
    files = {section: text.file for section, text in texts.items()}
    return Saved(str(folder), recipe, files, Ours(theirs, tensors, shapes), facts, absent)


def _name(folder: Path) -> str:
    """The folder's; in HF's cache, where that is a commit, the model's."""
    path = folder.resolve()
    return path.parents[1].name.split("--", 2)[-1] if path.parent.name == "snapshots" else path.name


def _present(tensors: list[Tensor], absent: frozenset[str]) -> list[Tensor]:
    return [tensor for tensor in tensors if absent.isdisjoint(tensor.ours)]


def write(saved: Saved, folder: Path) -> str:
    """Writes a folder, new or empty, that a class of transformers loads; returns the class's name.

    Raises UserError where no class computes the recipe, naming the fields, or the folder cannot be written.
    """
    family = min(FAMILIES.values(), key=lambda family: len(family.mismatches(saved.recipe)))
    architecture = family.architecture(saved.recipe, saved.absent)
    if wrong := family.mismatches(saved.recipe):
        raise UserError(
            f"no class of transformers computes {saved.where}: the nearest, {architecture}, needs {some(wrong)}"
        )
    path, tensors = folder.resolve(), _present(family.tensors(saved.recipe), saved.absent)
    try:
        _refuse_used(folder)
        with disk.whole_folder(path) as new:
            ids = tokenizer.write(saved, family, new)
            config = {"architectures": [architecture], "model_type": family.model_type, "dtype": "float32"}
            _write_json(new / CONFIG, config | family.config(saved.recipe, ids))
            if generation := family.generation(saved.recipe, ids):
                _write_json(new / "generation_config.json", generation)
            arrays = {family.written(one.theirs, saved.absent): one.made(saved.weights) for one in tensors}
            write_tensors(arrays, new / WEIGHTS, {"format": "pt"})
            (new / CARD).write_text(card.card(saved, family, architecture, path.name), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{str(folder)!r} cannot be written: {error.strerror or error}") from None
    return architecture


def write_named(run: str, folder: Path) -> Iterator[Path]:
    """Writes every checkpoint of a run that has a name into a folder of that name in `folder`; yields them.

    Raises UserError as `write`, and where the run has no such checkpoint.
    """
    named = checkpoint.named(Path(run))
    if not named:
        raise UserError(f"{run!r} has no checkpoint at a budget of words; train.save_at_words of its recipe makes them")
    for name in named:
        _refuse_used(folder / name)
    for name, place in named.items():
        write(open_saved(place), folder / name)
        yield folder / name


def _refuse_used(folder: Path) -> None:
    """Raises UserError where a folder is neither new nor empty."""
    path = folder.resolve()
    if path == Path.cwd() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UserError(f"{str(folder)!r} is in use; give a new or an empty folder")


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
