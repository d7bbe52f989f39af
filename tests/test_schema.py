"""What a recipe may hold, and how a refusal reads."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.accounting import params
from zoo.errors import UserError
from zoo.registry import recipe, recipes
from zoo.schema import Recipe, checked, merged
from zoo.sections import SPECIALS, Adam, Data, Evaluation, Expect, Model, Section, TokenizerSpec, Train

NAMES = recipes()


def values(**changed: dict[str, Any]) -> dict[str, Any]:
    """A small whole recipe with some values changed."""
    whole: dict[str, Any] = {
        "name": "small",
        "model": {"width": 24, "layers": 2, "heads": 4, "context": 16},
        "tokenizer": {"kind": "bytes", "size": 257},
        "objective": {"name": "causal"},
        "data": {},
        "train": {"tokens_per_update": 64, "updates": 10, "learning_rate": 1e-3},
    }
    return merged(whole, changed)


def refusal(**changed: Any) -> str:
    with pytest.raises(UserError) as caught:
        checked(Recipe, values(**changed), "small.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"model": {"widht": 3}}, "small.yaml: unknown key 'model.widht'; did you mean 'width'?"),
        ({"model": {"zzz": 3}}, "small.yaml: unknown key 'model.zzz'; allowed: activation, attention_bias, "),
        ({"train": {"adam": {"beta3": 0.9}}}, "small.yaml: unknown key 'train.adam.beta3'; did you mean 'beta"),
        ({"expect": {"params": 3, "source": "x", "hup": "y"}}, "unknown key 'expect.hup'; did you mean 'hub'?"),
        ({"modle": {}}, "small.yaml: unknown key 'modle'; did you mean 'model'?"),
        ({"model": {"width": "24"}}, "small.yaml: model.width is '24': input should be a valid integer"),
        ({"model": {"width": 24.0}}, "model.width is 24.0: input should be a valid integer"),
        ({"model": {"width": True}}, "model.width is True: input should be a valid integer"),
        ({"model": {"width": 0}}, "model.width is 0: input should be greater than or equal to 1"),
        ({"model": {"dropout": 1.0}}, "model.dropout is 1.0: input should be less than 1"),
        ({"model": {"norm": "middle"}}, "model.norm is 'middle': input should be 'pre' or 'post'"),
        ({"model": None}, "model is None: input should be a valid dictionary"),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate is inf: input should be a finite number"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate is nan: "),
        ({"train": {"seed": 2**63}}, "train.seed is 9223372036854775808: "),
        ({"train": {"precision": "float16"}}, "train.precision is 'float16': input should be 'auto', 'float32' or "),
        ({"objective": {"name": "masekd"}}, "there is no objective 'masekd'; did you mean 'masked'?"),
        ({"objective": {"name": ["causal"]}}, "there is no objective ['causal']; did you mean 'causal'?"),
        ({"objective": {"rate": 0.2}}, "objective causal: unknown key 'rate'; allowed: nothing"),
        ({"objective": "causal"}, "objective is 'causal': input should be a valid dictionary"),
        ({"objective": {"name": "masked"}}, "masked needs the special tokens mask; tokenizer.specials has eod"),
        ({"model": {"encoder_layers": 1, "positions": "relative"}}, "positions relative are for a model without an"),
        ({"model": {"tied_biases": True}}, "model: tied_biases need positions relative; positions is learned"),
        ({"model": {"cutoffs": [50, 40, 40]}}, "cutoffs [50, 40, 40] do not rise; in order: [40, 50]"),
        ({"model": {"cutoffs": ["9"]}}, "model.cutoffs.0 is '9': input should be a valid integer"),
        ({"model": {"cutoffs": [0]}}, "model.cutoffs.0 is 0: input should be greater than or equal to 1"),
        ({"model": {"cutoffs": 9}}, "model.cutoffs is 9: input should be a valid tuple"),
        ({"model": {"cutoffs": [20, 257]}}, "model.cutoffs [20, 257] are not all below tokenizer.size 257"),
        ({"model": {"cutoffs": [9], "encoder_layers": 1}}, "model: cutoffs [9] go with no encoder, no head_transform"),
        ({"model": {"cutoffs": [9], "head_transform": True}}, "no head_transform and no head_positions"),
        ({"model": {"cutoffs": [9], "head_positions": True}}, "no head_transform and no head_positions"),
        ({"model": {"div_val": 2}}, "div_val 2 is for a vocabulary in bins, and there are no cutoffs"),
        ({"model": {"cutoffs": [9, 20], "div_val": 5}}, "div_val 5 leaves bin 2 no width: 24 // 5**2 is 0; the largest"
         " that does not: 4"),
        ({"model": {"head_positions": True, "positions": "sinusoidal"}}, "head_positions needs positions learned and"),
        ({"model": {"head_positions": True, "head_bias": True}}, "head_bias false; they are learned and true"),
        ({"tokenizer": {"kind": "wordpeice"}}, "tokenizer.kind is 'wordpeice': input should be 'bytes_bpe', "),
    ],
)  # fmt: skip
def test_a_refusal_names_the_key_the_value_and_what_was_allowed(changed: dict[str, Any], told: str) -> None:
    assert told in refusal(**changed)


@pytest.mark.parametrize(
    "section, key, told",
    [("train", "updates", "train.updates is missing"), ("objective", "name", "objective needs a name")],
)
def test_what_is_missing_is_named(section: str, key: str, told: str) -> None:
    whole = values()
    del whole[section][key]
    with pytest.raises(UserError) as caught:
        checked(Recipe, whole, "small.yaml")
    assert str(caught.value) == f"small.yaml: {told}"


@pytest.mark.parametrize(
    "width, heads, near", [(24, 5, 4), (24, 7, 6), (768, 7, 6), (7, 3, 1), (96, 100, 96), (12, 5, 4)]
)
def test_heads_must_divide_the_width(width: int, heads: int, near: int) -> None:
    told = f"model: heads {heads} do not divide width {width}; nearest that does: {near}"
    assert told in refusal(model={"width": width, "heads": heads})
    checked(Recipe, values(model={"width": width, "heads": near}), "small.yaml")


@given(st.integers(1, 200), st.integers(1, 200))
def test_any_heads_are_taken_or_refused_with_some_that_are(width: int, heads: int) -> None:
    shape = {"width": width, "heads": heads, "layers": 1, "context": 8}
    try:
        model = checked(Model, shape, "here")
    except UserError as error:
        near = int(str(error).rpartition(" ")[2])
        assert width % near == 0
        assert not any(width % n == 0 for n in range(1, 400) if abs(n - heads) < abs(near - heads))
    else:
        assert model.head_width * heads == width


@given(st.integers(1, 500), st.integers(1, 500))
def test_an_update_is_a_whole_number_of_rows(tokens: int, row: int) -> None:
    changed = values(model={"context": 500}, data={"row_tokens": row}, train={"tokens_per_update": tokens})
    if tokens % row == 0:
        assert checked(Recipe, changed, "here").rows_per_update * row == tokens
        return
    with pytest.raises(UserError, match="not a multiple of the row length") as caught:
        checked(Recipe, changed, "here")
    near = int(str(caught.value).rpartition(" ")[2])
    changed["train"]["tokens_per_update"] = near
    assert abs(near - tokens) <= row
    checked(Recipe, changed, "here")


def test_cutoffs_are_a_list_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "binned.yaml"
    file.write_text("extends: gpt2-small\nmodel: {cutoffs: [20, 40], div_val: 2}\n")
    found = recipe(file)
    assert found.model.cutoffs == (20, 40)
    assert checked(Recipe, found.model_dump(), "here") == found
    assert recipe(file, model={"cutoffs": [9]}).model.cutoffs == (9,)


STREAM: dict[str, Any] = {"model": {"positions": "relative"}, "data": {"rows": "stream"}}
XLNET = merged(STREAM, {"objective": {"name": "permutation"}, "data": {"reuse": 8, "bidirectional": True}})
XLNET["tokenizer"] = {"kind": "bytes", "size": 300, "specials": {"cls": "<c>", "sep": "<s>"}}


@pytest.mark.parametrize(
    "below, changed, told",
    [
        ({}, {"data": {"reuse": 8}}, "data: reuse and bidirectional are for rows that are a stream; rows is packed"),
        ({}, {"data": {"bidirectional": True}}, "and bidirectional are for rows that are a stream; rows is packed"),
        ({}, {"train": {"streams": 4}}, "train.streams 4 is for rows that are a stream; data.rows is packed"),
        ({}, {"evaluation": {"streams": 4}}, "evaluation.streams 4 is for rows that are a stream; data.rows is packed"),
        ({}, {"model": {"memory": 8}}, "memory, same_length and clamp need positions relative; positions is learned"),
        (STREAM, {"data": {"rows": "packed"}, "model": {"memory": 8}}, "model.memory 8 is for rows that are a stream"),
        (STREAM, {"train": {"streams": 3}}, "streams 3 do not divide the 4 rows of an update; nearest that does: 2"),
        (STREAM, {"train": {"streams": 1}, "data": {"bidirectional": True}}, "and 1 streams have none; nearest: 2"),
        (STREAM, {"model": {"memory": 161}}, "memory 161 is longer than a stream of this run: 160 tokens (10 rows"),
        (STREAM, {"data": {"reuse": 8}}, "objective causal takes no rows of two parts; data.reuse is 8"),
        (XLNET, {"model": {"memory": 81}}, "longer than a stream of this run: 80 tokens (10 rows x 8 new ones)"),
        (XLNET, {"data": {"reuse": 12}}, "leaves no room for two segments in rows of 16 tokens; nearest that does: 11"),
        (XLNET, {"evaluation": {"row_tokens": 8}}, "row_tokens is for rows that are all new; data.reuse is set"),
        (XLNET, {"model": {"positions": "learned", "segments": 2}}, "data.reuse makes 3 segments; model.segments is 2"),
        (XLNET, {"tokenizer": {"specials": {"sep": "<s>"}}}, "data.reuse needs the special tokens cls; tokenizer"),
        (XLNET, {"objective": {"perm_size": 3}}, "3 does not divide parts of 8 and 8 tokens; nearest that does: 2"),
        (XLNET, {"objective": {"perm_size": 4}, "data": {"reuse": 10}}, "of 10 and 6 tokens; nearest that does: 2"),
        (STREAM, {"objective": {"name": "permutation", "perm_size": 6}}, "parts of 16 tokens; nearest that does: 4"),
    ],
)  # fmt: skip
def test_streams_that_cannot_be(below: dict[str, Any], changed: dict[str, Any], told: str) -> None:
    assert told in refusal(**merged(below, changed))


def test_streams_that_can_be() -> None:
    for changed in (STREAM, XLNET, merged(XLNET, {"objective": {"perm_size": 2}, "model": {"memory": 60}})):
        found = checked(Recipe, values(**changed), "here")
        assert found.streams == 4
        shorter = found.with_rows(6, 12)
        assert (shorter.rows_per_update, shorter.row_tokens, shorter.streams) == (6, 12, 6)
        assert shorter.data.reuse == (None if found.data.reuse is None else 6)


def test_rows_are_not_longer_than_the_context() -> None:
    assert "data.row_tokens 17 is above model.context 16" in refusal(data={"row_tokens": 17})


def test_a_tokenizer_has_the_specials_of_its_kind_unless_told() -> None:
    for kind, specials in SPECIALS.items():
        spec = checked(TokenizerSpec, {"kind": kind, "size": 300}, "here")
        assert spec.specials == specials
        assert list(spec.specials) == list(specials)
    own = checked(TokenizerSpec, {"kind": "bytes", "size": 300, "specials": {"pad": "#"}}, "here")
    assert own.specials == {"pad": "#"}


def test_a_recipe_is_frozen() -> None:
    found = recipe("gpt2-nano")
    with pytest.raises(ValueError, match="frozen"):
        found.train.updates = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_changes_are_checked_and_leave_the_first_alone() -> None:
    found = recipe("gpt2-nano")
    changed = found.with_changes(train={"updates": 7}, model={"layers": 1})
    assert (changed.train.updates, changed.model.layers) == (7, 1)
    assert found.train.updates != 7
    assert changed.with_changes(train={"updates": found.train.updates}, model={"layers": found.model.layers}) == found
    with pytest.raises(UserError, match=r"gpt2-nano: unknown key 'train\.update'; did you mean 'updates'"):
        found.with_changes(train={"update": 7})


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_survives_its_own_values(name: str) -> None:
    found = recipe(name)
    assert checked(Recipe, found.model_dump(), name) == found


keys = st.sampled_from(["model", "train", "a"])
tree = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3))
trees = st.dictionaries(keys, tree, max_size=3)


@given(trees, trees)
def test_what_is_laid_over_wins_and_the_rest_stays(below: Any, above: Any) -> None:
    over = merged(below, above)
    assert merged(below, {}) == below == merged({}, below) == merged(below, below)
    assert merged(over, above) == over
    leaves = _leaves(above)
    assert leaves.items() <= _leaves(over).items()
    untouched = {path: leaf for path, leaf in _leaves(below).items() if not _meets(path, leaves)}
    assert untouched.items() <= _leaves(over).items()


def _leaves(section: dict[str, Any], under: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for key, value in section.items():
        found |= _leaves(value, (*under, key)) if isinstance(value, dict) else {(*under, key): value}
    return found


def _meets(path: tuple[str, ...], others: Any) -> bool:
    """Whether one of the paths is the beginning of the other."""
    return any(path[: len(other)] == other[: len(path)] for other in others)


def test_defaults_are_valid() -> None:
    """Pydantic does not check defaults by itself."""
    for kind, least in ((Data, {}), (Adam, {}), (Train, {"tokens_per_update": 1, "updates": 1, "learning_rate": 1.0})):
        made = kind(**least)
        assert kind.model_validate(made.model_dump()) == made


GUIDE = (Path(__file__).parent.parent / "docs" / "add-a-recipe.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", [Model, TokenizerSpec, Data, Train, Adam, Evaluation, Expect])
def test_every_key_is_in_the_guide(section: type[Section]) -> None:
    assert [key for key in section.model_fields if f"`{key}`" not in GUIDE] == []


def test_the_guide_s_example_works(tmp_path: Path) -> None:
    file = tmp_path / "gpt2-wide.yaml"
    file.write_text(GUIDE.partition("```yaml\n")[2].partition("```")[0])
    found = recipe(file)
    assert found.expect is not None
    assert params(found) == found.expect.params
