"""Names, files, parents, overrides: whatever is wrong with a recipe is told in one line that names it."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import registry
from zoo.errors import UserError

BASE = """
model: {width: 24, layers: 2, heads: 4, context: 16}
tokenizer: {kind: bytes, size: 257}
objective: {name: causal}
data: {corpus: texts}
train: {tokens_per_update: 64, updates: 10, learning_rate: 1e-3, adam: {beta2: 0.95}}
expect: {params: 1, source: a guess}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes that ZOO_RECIPES names."""
    found = tmp_path / "mine"
    found.mkdir()
    monkeypatch.setenv("ZOO_RECIPES", str(found))
    write(found, "first", BASE)
    return found


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return file


def refusal(name: str | Path, **overrides: Any) -> str:
    with pytest.raises(UserError) as caught:
        registry.recipe(name, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- finding


def test_every_recipe_is_found_by_its_file_s_name(folder: Path) -> None:
    assert "first" in registry.recipes()
    assert registry.recipes() == sorted(registry.recipes())
    assert {"gpt2-small", "bert-base", "xlnet-base"} <= set(registry.recipes())
    assert (
        registry.recipe("first")
        == registry.recipe(folder / "first.yaml")
        == registry.recipe(str(folder / "first.yaml"))
    )
    assert registry.recipe("first").name == "first"


def test_a_file_in_the_working_folder_needs_no_separator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert registry.recipe("first.yaml").model.width == 24


def test_an_unknown_recipe_names_the_near_ones(folder: Path) -> None:
    assert refusal("frist") == "there is no recipe 'frist'; did you mean 'first'?"
    assert "gpt2-small" in refusal("gpt2_small")
    assert "; allowed: bert-base, " in refusal("zzzzzz")


def test_a_missing_file_names_the_near_ones(folder: Path) -> None:
    assert refusal(folder / "fist.yaml").endswith("did you mean 'first.yaml'?")
    assert refusal("nowhere/first.yaml") == "there is no recipe file 'nowhere/first.yaml'"
    assert "no recipe file" in refusal(folder)


def test_a_name_found_twice_names_both_files(folder: Path) -> None:
    twin = write(folder, "gpt2-nano", BASE)
    message = refusal("first")
    assert str(twin) in message
    assert str(registry.PACKAGE.parent / "recipes" / "gpt2-nano.yaml") in message


def test_a_folder_named_twice_is_no_twin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_RECIPES", f"{folder}:{folder}/../mine:")
    assert registry.recipes().count("first") == 1


def test_zoo_recipes_must_name_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_RECIPES", "/nowhere/at/all")
    assert refusal("gpt2-nano") == "ZOO_RECIPES names '/nowhere/at/all', which is no folder"


def test_recipes_come_from_plug_ins_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "theirs", BASE)
    (tmp_path / "their_package.py").write_text(f"FOLDER = {str(tmp_path)!r}")
    monkeypatch.syspath_prepend(tmp_path)
    points = {"zoo.recipes": [EntryPoint("theirs", "their_package:FOLDER", "zoo.recipes")]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
    assert registry.recipe("theirs").model.width == 24


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a module as the objective of a name, for as long as the test lasts."""

    def install(name: str, text: str) -> None:
        module = f"plugged_{name}"
        (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        points = {"zoo.objectives": [EntryPoint(name, module, "zoo.objectives")]}
        monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
        registry.objective_files.cache_clear()

    yield install
    monkeypatch.undo()
    registry.objective_files.cache_clear()
    for module in [name for name in sys.modules if name.startswith("plugged_")]:
        del sys.modules[module]


THEIRS = "from zoo.objective import Objective\nclass Theirs(Objective):\n    scales = {'theirs': 1.0}\n"


def test_objectives_come_from_plug_ins_too(folder: Path, plug_in: Any) -> None:
    plug_in("theirs", THEIRS)
    assert registry.recipe("first", objective={"name": "theirs"}).objective == {"name": "theirs"}


@pytest.mark.parametrize("text, number", [("", 0), (THEIRS + THEIRS.replace("Theirs", "Other"), 2)])
def test_an_objective_s_module_defines_one(folder: Path, plug_in: Any, text: str, number: int) -> None:
    plug_in("unclear", text)
    assert f"plugged_unclear must define one subclass of Objective; it defines {number}" in refusal(
        "first", objective={"name": "unclear"}
    )


def test_an_objective_found_twice_names_both(plug_in: Any) -> None:
    plug_in("causal", THEIRS)
    with pytest.raises(
        UserError, match=r"two objectives are named 'causal': zoo\.objectives\.causal and plugged_causal"
    ):
        registry.objectives()


# --- parents


def test_a_child_overrides_its_parent_section_by_section(folder: Path) -> None:
    write(folder, "child", "extends: first\nmodel: {layers: 3}\ntrain: {adam: {beta1: 0.8}}")
    child = registry.recipe("child")
    assert (child.model.layers, child.model.width) == (3, 24)
    assert (child.train.adam.beta1, child.train.adam.beta2) == (0.8, 0.95)
    assert child.name == "child"


def test_what_is_expected_of_a_parent_is_not_expected_of_its_child(folder: Path) -> None:
    write(folder, "child", "extends: first\nmodel: {layers: 3}")
    assert registry.recipe("first").expect is not None
    assert registry.recipe("child").expect is None


def test_another_objective_keeps_no_settings_of_the_first(folder: Path) -> None:
    specials = "specials: {mask: <m>, pad: <p>}"
    write(
        folder,
        "parent",
        BASE.replace("{name: causal}", "{name: masked, rate: 0.3}").replace("size: 257", f"size: 258, {specials}"),
    )
    write(folder, "same", "extends: parent\nobjective: {whole_word: true}")
    write(folder, "other", "extends: parent\nobjective: {name: causal}")
    assert registry.recipe("same").objective["rate"] == 0.3
    assert registry.recipe("other").objective == {"name": "causal"}


def test_special_tokens_are_replaced_as_a_whole(folder: Path) -> None:
    write(folder, "child", "extends: first\ntokenizer: {specials: {pad: <p>}}")
    assert registry.recipe("child").tokenizer.specials == {"pad": "<p>"}


def test_a_parent_beside_the_file_needs_no_registration(tmp_path: Path) -> None:
    write(tmp_path, "alone", BASE)
    child = write(tmp_path, "child", "extends: alone\nmodel: {layers: 5}")
    assert registry.recipe(child).model.layers == 5


@pytest.mark.parametrize(
    "text, told",
    [
        ("extends: frist", ["child.yaml extends 'frist'", "no recipe 'frist'", "did you mean 'first'?"]),
        ("extends: child", ["child.yaml extends itself"]),
        ("extends: second", ["child.yaml extends 'second', which itself extends 'first'", "one level"]),
        ("extends: other", ["child.yaml extends 'other', which extends it in turn"]),
        ("extends: [first]", ["child.yaml: extends is ['first']", "the name of one recipe"]),
    ],
)
def test_a_parent_must_exist_and_stand_alone(folder: Path, text: str, told: list[str]) -> None:
    write(folder, "second", "extends: first")
    write(folder, "other", "extends: child")
    write(folder, "child", text)
    message = refusal("child")
    for part in told:
        assert part in message


# --- the text


@pytest.mark.parametrize(
    "text, told",
    [
        ("model: {width: 24, width: 48}", "bad.yaml, line 1: the key 'width' stands twice"),
        ("extends: first\nmodel: {layers: 1}\nmodel: {layers: 2}", "bad.yaml, line 3: the key 'model' stands twice"),
        ("extends: first\nmodle: {layers: 1}", "bad.yaml: unknown key 'modle'; did you mean 'model'?"),
        ("extends: first\nmodel: {layers: 1", "bad.yaml, line "),
        ("extends: first\nmodel:\n\tlayers: 1", "bad.yaml, line 3: "),
        ("? [a]\n: 1", "bad.yaml, line 1: a key must be a word"),
        ("3: 1", "bad.yaml: unknown key 3; allowed: "),
        ("just words", "bad.yaml holds no recipe"),
        ("", "bad.yaml holds no recipe"),
        ("a: \0", "bad.yaml: "),
        ("model: !!python/object:os.system {}", "bad.yaml, line 1: could not determine a constructor"),
    ],
)
def test_text_that_is_no_recipe(folder: Path, text: str, told: str) -> None:
    write(folder, "bad", text)
    assert told in refusal("bad")


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "bad.yaml").write_bytes(b"model: \xff\xfe")
    assert "bad.yaml cannot be read" in refusal("bad")


def test_a_section_of_comments_alone_changes_nothing(folder: Path) -> None:
    write(folder, "child", "extends: first\nmodel:\n  # layers: 3\ntrain:")
    assert registry.recipe("child").model.layers == 2


@pytest.mark.parametrize(
    "text, value",
    [
        ("6e-4", 6e-4),
        ("1e3", 1e3),
        ("1.e+2", 1e2),
        (".5", 0.5),
        ("-3E-2", -3e-2),
        ("12", 12),
        ("-12", -12),
        ("1_000", 1000),
        ("e4", "e4"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("true", True),
        ("null", None),
    ],
)
def test_plain_scalars(text: str, value: Any) -> None:
    found = registry.read_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_python_writes_is_read_back(value: float) -> None:
    assert registry.read_yaml(repr(value), "here") == value


# --- overrides


def test_overrides_are_yaml() -> None:
    assert registry.parse_override("train.adam.beta1=5e-1") == {"train": {"adam": {"beta1": 0.5}}}
    assert registry.parse_override("data.corpus=a=b") == {"data": {"corpus": "a=b"}}
    assert registry.parse_override("train.clip_norm=null") == {"train": {"clip_norm": None}}
    assert registry.parse_override("tokenizer.specials={pad: <p>}") == {"tokenizer": {"specials": {"pad": "<p>"}}}


@pytest.mark.parametrize("text", ["train.updates", "=3", ".a=3", "a..b=3", ""])
def test_an_override_needs_a_key_and_a_value(text: str) -> None:
    with pytest.raises(UserError, match=r"--set takes key=value such as train\.updates=100; got "):
        registry.parse_override(text)


def test_an_override_that_is_no_yaml() -> None:
    with pytest.raises(UserError, match=r"--set model\.layers=\[1"):
        registry.parse_override("model.layers=[1")


def test_overrides_are_checked_like_the_file(folder: Path) -> None:
    assert registry.recipe("first", model={"layers": 5}).model.layers == 5
    assert refusal("first", model={"layesr": 5}) == "first.yaml: unknown key 'model.layesr'; did you mean 'layers'?"
    assert "train.updates is 0: " in refusal("first", train={"updates": 0})
    assert refusal("first", tran={"updates": 5}) == "a recipe has no section 'tran'; did you mean 'train'?"
    for key in ("name", "extends"):
        with pytest.raises(UserError, match=f"no section {key!r}"):
            registry.settle(folder / "first.yaml", {key: "second"})
