"""Names to recipes and objectives. The folder is the registry: a name is a file's stem."""

import difflib
import importlib
import os
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from zoo.errors import UserError, nearest
from zoo.schema import Recipe, checked, merged

if TYPE_CHECKING:
    from zoo.objective import Objective

PACKAGE = Path(__file__).parent
SECTIONS = (
    "extends",
    "model",
    "tokenizer",
    "source_tokenizer",
    "objective",
    "data",
    "train",
    "evaluation",
    "mesh",
    "expect",
)


# Ten times faster where PyYAML was built with its C library, the same otherwise.
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(SafeLoader):
    """YAML's safe loader, with YAML 1.2's floats (6e-4 is a number) and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
# Integers come first: the float pattern above, which is YAML 1.2's, takes them too.
for _first in "-+0123456789":
    _Loader.yaml_implicit_resolvers[_first].sort(key=lambda entry: entry[0] != "tag:yaml.org,2002:int")


def read_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; a UserError in one line where it is none."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}{line}: {' '.join(problem.split())}") from None


def _recipe_folders() -> list[Path]:
    """Where recipes live: this package's, the folders of ZOO_RECIPES, and those of the entry points zoo.recipes."""
    shipped = PACKAGE / "_recipes"
    folders = [shipped if shipped.is_dir() else PACKAGE.parent / "recipes"]
    for folder in filter(None, os.environ.get("ZOO_RECIPES", "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise UserError(f"ZOO_RECIPES names {folder!r}, which is no folder")
        folders.append(Path(folder))
    for point in entry_points(group="zoo.recipes"):
        found = point.load()
        folders.append(Path(found.__path__[0] if hasattr(found, "__path__") else found))
    return folders


def recipe_files() -> dict[str, Path]:
    """Every recipe's name and file. A name found twice is an error that names both files."""
    files: dict[str, Path] = {}
    for folder in _recipe_folders():
        for file in sorted(folder.glob("*.yaml")):
            if file.stem in files and not file.samefile(files[file.stem]):
                raise UserError(f"two recipes are named {file.stem!r}: {files[file.stem]} and {file}")
            files[file.stem] = file
    return files


def recipes() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(recipe_files())


def recipe(name_or_path: str | Path, **overrides: Any) -> Recipe:
    """The recipe of that name, or in that YAML file, with sections overridden: `train={"updates": 10}`.

    Raises UserError for an unknown name, key or value.
    """
    return settle(find(name_or_path), overrides)


def find(name_or_path: str | Path) -> Path:
    """The YAML file behind a name, or behind a path (anything with a separator or the suffix .yaml)."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or os.sep in text or text.endswith((".yaml", ".yml")):
        file = Path(name_or_path)
        if not file.is_file():
            near = difflib.get_close_matches(file.name, [f.name for f in file.parent.glob("*.y*ml") if f.is_file()])
            raise UserError(f"there is no recipe file {text!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return file
    files = recipe_files()
    if text not in files:
        raise UserError(f"there is no recipe {text!r}{nearest(text, files)}")
    return files[text]


def settle(file: Path, overrides: dict[str, Any]) -> Recipe:
    """The recipe in `file` over its parent, under `overrides`, checked."""
    for key in overrides:
        if key not in SECTIONS[1:]:
            raise UserError(f"a recipe has no section {key!r}{nearest(key, SECTIONS[1:])}")
    values = read_sections(file)
    parent = values.pop("extends", None)
    if parent is not None:
        values = merged(_read_parent(file, parent), values)
    return checked(Recipe, {**merged(values, overrides), "name": file.stem}, str(file.name))


def read_sections(file: Path) -> dict[str, Any]:
    """What stands in one recipe file, unchecked but for the names of its sections."""
    try:
        values = read_yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the recipe {file} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} holds no recipe; it must be a mapping of {', '.join(SECTIONS)}")
    for key in values:
        if key not in SECTIONS:
            raise UserError(f"{file.name}: unknown key {key!r}{nearest(str(key), SECTIONS)}")
    return {key: value for key, value in values.items() if value is not None}  # a section of comments alone


def _read_parent(file: Path, parent: Any) -> dict[str, Any]:
    """The sections of the parent, which stands beside the file or has a registered name; one level only."""
    if not isinstance(parent, str):
        raise UserError(f"{file.name}: extends is {parent!r}; it must be the name of one recipe")
    if parent == file.stem:
        raise UserError(f"{file.name} extends itself")
    beside = file.parent / f"{parent}.yaml"
    try:
        found = beside if beside.is_file() else find(parent)
    except UserError as error:
        raise UserError(f"{file.name} extends {parent!r}: {error}") from None
    values = read_sections(found)
    if "extends" in values:
        above = values["extends"]
        what = "extends it in turn" if above == file.stem else f"itself extends {above!r}"
        raise UserError(f"{file.name} extends {parent!r}, which {what}; a parent must stand alone (one level)")
    # What is expected of the parent is not expected of a child with another shape.
    values.pop("expect", None)
    return values


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=c` as nested sections; the value is YAML."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set takes key=value such as train.updates=100; got {text!r}")
    result: Any = read_yaml(value, f"--set {text}")
    for part in reversed(key.split(".")):
        result = {part: result}
    return result


@cache
def objective_files() -> dict[str, str]:
    """Every objective's name and module: those of zoo.objectives, and those of the entry points zoo.objectives."""
    import zoo.objectives

    modules = {m.name: f"zoo.objectives.{m.name}" for m in pkgutil.iter_modules(zoo.objectives.__path__)}
    for point in entry_points(group="zoo.objectives"):
        if point.name in modules:
            raise UserError(f"two objectives are named {point.name!r}: {modules[point.name]} and {point.value}")
        modules[point.name] = point.value
    return modules


def objectives() -> list[str]:
    """The names of all objectives, sorted."""
    return sorted(objective_files())


def objective(name: str) -> "type[Objective]":
    """The one Objective class in the module of that name."""
    from zoo.objective import Objective

    if not isinstance(name, str) or name not in objective_files():
        raise UserError(f"there is no objective {name!r}{nearest(str(name), objective_files())}")
    module = importlib.import_module(objective_files()[name])
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Objective) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(f"{module.__name__} must define one subclass of Objective; it defines {len(found)}")
    return found[0]
