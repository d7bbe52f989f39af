"""A first draft of a recipe of one's own."""

import re
from pathlib import Path
from typing import Any

import yaml

from zoo import registry
from zoo.errors import UserError
from zoo.schema import Recipe


def write_draft(name: str, base: str, folder: Path) -> Path:
    """FOLDER/NAME.yaml over BASE, or, where BASE has a parent itself, with BASE's settings over that parent.

    Raises UserError where the name is taken or cannot name a recipe; overwrites nothing.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"{name!r} cannot name a recipe; letters, digits, '.', '_' and '-' can, as in my-gpt")
    if name in (known := registry.recipe_files()):
        raise UserError(f"there is already a recipe {name!r}: {known[name]}")
    found = registry.find(base)
    recipe, own = registry.recipe(found), registry.read_sections(found)
    own.pop("expect", None)  # what is known of BASE is not known of what it becomes
    parent = own.get("extends", found.stem)
    if not _reaches(folder, parent, found):
        own = recipe.model_dump(exclude={"name", "expect"}, exclude_none=True)
    elif "extends" not in own:
        own = {"extends": parent}
    file = folder / f"{name}.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as draft:
            draft.write(f"# {name}: begun from {found.stem}.\n{_sections(own)}{_hints(recipe, own)}")
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be written: {error.strerror}") from None
    return file


def _reaches(folder: Path, parent: str, base: Path) -> bool:
    """Whether a recipe in that folder finds BASE's parent (or BASE, its own) under its name."""
    return folder.resolve() == base.parent.resolve() or parent in registry.recipe_files()


def _sections(own: dict[str, Any]) -> str:
    return yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=120)


def _hints(recipe: Recipe, own: dict[str, Any]) -> str:
    """Lines to uncomment, for the sections that the draft has none of."""
    model, train = recipe.model, recipe.train
    shape = f"width: {model.width}, layers: {model.layers}, heads: {model.heads}, context: {model.context}"
    lines = {
        "model": f"# model: {{{shape}}}",
        "data": f"# data: {{corpus: {recipe.data.corpus}}} # or a file, a folder, 'texts/*.txt', hf:NAME",
        "train": f"# train: {{tokens_per_update: {train.tokens_per_update}, updates: {train.updates},"
        f" learning_rate: {train.learning_rate}}}",
    }
    shown = [line for section, line in lines.items() if section not in own]
    return "\n".join(
        ["", f"# Every key that can stand here: zoo show {recipe.name}. Remove a # to change a value.", *shown, ""]
    )
