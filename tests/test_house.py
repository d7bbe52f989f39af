"""The house's structure: who may import what, which words are not used, how large a room may be."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import zoo
from zoo.registry import objectives

HOUSE = Path(zoo.__file__).parent
FILES = sorted(file.relative_to(HOUSE).as_posix() for file in HOUSE.rglob("*.py"))


def text(file: str) -> str:
    return (HOUSE / file).read_text(encoding="utf-8")


TREES = {file: ast.parse(text(file)) for file in FILES}
MODULES = {f"zoo/{file}".removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}
del MODULES["zoo.__main__"]  # which runs the command
HEAVY = {"tensorflow", "keras", "datasets", "pandas", "pyarrow", "matplotlib", "tokenizers", "huggingface_hub"}


def walk(tree: ast.AST, *, functions: bool = True) -> Iterator[ast.AST]:
    """All nodes that run: not those under `if TYPE_CHECKING`; without `functions`, only what runs at import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef | ast.Lambda) and not functions:
            continue
        yield node
        yield from walk(node, functions=functions)


def imports(file: str, *, functions: bool = True) -> set[str]:
    """The dotted names that a file of the house imports: `from a import b` is both a and a.b."""
    found: set[str] = set()
    for node in walk(TREES[file], functions=functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def packages(file: str, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(file, **options)}


def room(file: str) -> str:
    return file.split("/")[0]


def names(file: str) -> Iterator[str]:
    """Every name that a file gives or uses: variables, arguments, attributes, keywords, functions, classes."""
    for node in ast.walk(TREES[file]):
        for field in ("id", "arg", "attr", "name"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def fresh(code: str) -> Any:
    """What `code` prints as JSON on the last line of stdout, run by a new Python."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- who imports what


def test_tensorflow_stays_in_the_engine() -> None:
    engine = {"train/step.py", "train/replicas.py"}  # the one computes, the other adds up over devices
    assert {file for file in FILES if "tensorflow" in packages(file) and room(file) != "kernels"} == engine


def test_jax_stays_in_its_engine() -> None:
    engine = {"train/step_jax.py", "train/replicas_jax.py"}
    assert {file for file in FILES if "jax" in packages(file) and room(file) != "kernels"} == engine


def test_keras_stays_behind_the_door() -> None:
    """Objectives build and score inside functions; all else speaks of networks through a few rooms."""
    inside = ("network", "kernels", "train", "use", "exchange")
    assert not [f for f in FILES if room(f) not in inside and "keras" in packages(f, functions=room(f) != "objectives")]


def test_network_and_objectives_meet_in_the_batch() -> None:
    for file in FILES:
        if room(file) in ("network", "kernels", "train"):
            assert not [name for name in imports(file) if name.startswith("zoo.objectives")], file
        if room(file) == "objectives":
            attention = {"zoo.network.attention", "zoo.network.block", "zoo.network.network", "zoo.visibility.visible"}
            assert not imports(file) & attention, file


def test_objectives_are_read_without_keras() -> None:
    modules = ", ".join(f"zoo.objectives.{name}" for name in objectives())
    assert HEAVY.isdisjoint(
        fresh(f"import sys, json, {modules}; print(json.dumps([m.split('.')[0] for m in sys.modules]))")
    )


@pytest.mark.parametrize(
    "line, status",
    [
        ("--version", 0),
        ("list", 0),
        ("show gpt2-small", 0),
        ("pretrain gpt2-nanoo", 2),
        ("pretrain gpt2-nano --set model.widht=3", 2),
        ("show gpt2-nano --set model.heads=7", 2),
    ],
)
def test_names_and_refusals_are_quick(line: str, status: int) -> None:
    """They import nothing that takes long."""
    found, *loaded = fresh(f"""
import json, sys
from zoo.cli import main
sys.argv = ["zoo", *{line.split()}]
try:
    main()
except SystemExit as end:
    print()
    print(json.dumps([end.code or 0, *(name.split(".")[0] for name in sys.modules)]))
""")
    assert found == status
    assert HEAVY.isdisjoint(loaded)


# --- the public names


def test_no_public_name_is_a_submodule() -> None:
    """Importing the submodule would replace the name."""
    assert not set(zoo.__all__) & {module.name for module in pkgutil.iter_modules(zoo.__path__)}


def test_public_names_outlive_every_import() -> None:
    before = {name: getattr(zoo, name) for name in zoo.__all__}
    for module in MODULES:
        importlib.import_module(module)
    for name in zoo.__all__:
        assert callable(getattr(zoo, name))
        assert not isinstance(getattr(zoo, name), ModuleType)
        assert getattr(zoo, name) is before[name]
    assert set(zoo.__all__) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="no attribute 'reciep'"):
        zoo.reciep  # noqa: B018


@pytest.mark.parametrize("module", [name for name, file in MODULES.items() if ">>>" in text(file)])
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", objectives())
def test_every_objective_opens_with_an_example(name: str) -> None:
    assert ">>>" in (ast.get_docstring(TREES[f"objectives/{name}.py"]) or "")


# --- a name is a label, never a switch


def reads_name(tree: ast.AST) -> bool:
    """`recipe.name`, `self.recipe.name` or `recipe["name"]` stands in it."""
    found = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Subscript))
    return any(re.fullmatch(r"(\w+\.)*recipe(\.name|\['name'\])", text) for text in found)


def test_a_recipe_s_name_is_a_label() -> None:
    """It stands in folder names, log lines and messages."""
    printing = ("cli.py", "train", "use", "report")
    assert not [file for file in FILES if reads_name(TREES[file]) and room(file) not in printing]
    deciding = {ast.If: "test", ast.IfExp: "test", ast.While: "test", ast.Match: "subject", ast.Subscript: "slice"}
    for file in FILES:
        for node in ast.walk(TREES[file]):
            part = node if isinstance(node, ast.Compare) else getattr(node, deciding.get(type(node), ""), None)
            assert not part or not reads_name(part), f"{file}:{node.lineno} decides by a recipe's name"


# --- what is not used


def test_random_numbers_are_counted() -> None:
    """A row's numbers depend on (seed, update, row) alone: no global generator, no layer with a state of its own."""
    for file in FILES:
        assert not imports(file) & {"random", "secrets", "keras.random"}, file
        assert not set(names(file)) & {"Dropout", "SeedGenerator", "RandomState", "get_global_generator"}, file
        for node in ast.walk(TREES[file]):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
                # Sampled text and a benchmark's are no rows of an update: there a seed is enough.
                elsewhere = room(file) == "use" or file == "train/bench.py"
                assert node.attr in ("Generator", "Philox") or elsewhere, f"{file}:{node.lineno}"


def test_nothing_is_unpickled_or_evaluated() -> None:
    picklers = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
    calls = {"eval", "exec", "allow_pickle", "unsafe_load", "full_load", "enable_unsafe_deserialization"}
    assert not [file for file in FILES if packages(file) & picklers or set(names(file)) & calls]


def test_visibility_has_its_own_words() -> None:
    """Peers use the bare word with seven meanings: here it is see or visible, weight, doc == 0, at."""
    found = {(file, name) for file in FILES for name in names(file) if re.fullmatch(r"(.*_)?masks?", name)}
    assert not found


# --- the rooms


def test_rooms_are_small() -> None:
    lines = {file: len(text(file).splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if count > 320}


def test_files_and_classes_are_named_for_a_noun() -> None:
    vague = {"util", "utils", "common", "base", "helper", "helpers", "misc", "manager", "handler"}
    assert not [file for file in FILES if vague & set(re.split(r"[_/]", file.removesuffix(".py")))]
    classes = [node.name for file in FILES for node in ast.walk(TREES[file]) if isinstance(node, ast.ClassDef)]
    assert not [name for name in classes if re.search(r"(Manager|Handler|Helper|Utils?)$", name)]
