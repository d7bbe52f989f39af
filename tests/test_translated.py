"""Rows of parallel text: every pair whole, once an epoch, beside others and apart from them."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.corpus.parallel import open_parallel
from zoo.corpus.prepare import prepare_parallel
from zoo.corpus.rows import plan
from zoo.corpus.translated import Translated, packed
from zoo.errors import UserError
from zoo.sections import Data, TokenizerSpec

SPECIAL = {"pad": 0, "eod": 1, "bos": 2}
DATA = Data(rows="parallel")
BYTES = TokenizerSpec(kind="bytes", size=300, specials={"pad": "<pad>", "eod": "</s>", "bos": "<s>"})
SIZES = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=60)


class Side(NamedTuple):
    token: np.ndarray
    flags: np.ndarray
    documents: np.ndarray
    sentences: np.ndarray
    source: Any = None
    chosen: Any = None


def side(sizes: list[int], first: int) -> Side:
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    token = first + np.arange(bounds[-1], dtype=np.int32)
    return Side(token, np.zeros(len(token), np.uint8), bounds, bounds)


def made(sizes: list[tuple[int, int]], width: int = 16, **given: Any) -> Translated:
    """Pairs of such sizes; an id says where in its side a token stands, and which side it is."""
    source, target = side([a for a, _ in sizes], 10), side([b for _, b in sizes], 100_010)
    options: dict[str, Any] = {"row_tokens": width, "extra": 0, "rows_per_update": 3, "special": SPECIAL, "seed": 5}
    found = plan(target._replace(source=source), DATA, **(options | given))  # pyright: ignore[reportArgumentType]
    assert isinstance(found, Translated)
    return found


def pairs(rows: Any) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The pairs of some rows, by the tokens of both sides."""
    found = []
    for row in range(len(rows.token)):
        for doc in range(1, rows.doc[row].max() + 1):
            sides = (rows.source, rows)
            found.append(tuple(tuple(one.token[row, one.doc[row] == doc].tolist()) for one in sides))
    return found


@given(sizes=SIZES, epoch=st.integers(0, 3))
def test_every_pair_that_fits_is_whole_and_there_once(sizes: list[tuple[int, int]], epoch: int) -> None:
    fitting = [n for n, size in enumerate(sizes) if max(size) <= 16]
    if not fitting:
        with pytest.raises(UserError, match=f"none of {len(sizes)} pairs fits into data.row_tokens 16"):
            made(sizes)
        return
    found = made(sizes)
    assert found.too_long == len(sizes) - len(fitting)
    rows = found.cut(found.table(0))
    bounds = [np.concatenate([[0], np.cumsum([size[n] for size in sizes])]) for n in range(2)]
    wanted = [
        tuple(
            tuple(range(first + bounds[n][pair], first + bounds[n][pair + 1])) for n, first in ((0, 10), (1, 100_010))
        )
        for pair in fitting
    ]
    assert sorted(pairs(rows)) == sorted(wanted)
    other = found.table(epoch)  # of another epoch: as many rows, of pairs that exist
    assert other.shape == found.table(0).shape
    assert set(pairs(found.cut(other))) <= set(wanted)


@given(sizes=SIZES)
def test_a_row_has_room_for_both_sides_of_its_pairs(sizes: list[tuple[int, int]]) -> None:
    sizes = [size for size in sizes if max(size) <= 16] or [(1, 1)]
    source, target = (np.array(one) for one in zip(*sizes, strict=True))
    rows = packed(np.arange(len(sizes)), source, target, 16)
    assert sorted(pair for row in rows for pair in row) == list(range(len(sizes)))
    assert all(max(source[row].sum(), target[row].sum()) <= 16 for row in rows)


@given(sizes=SIZES)
def test_positions_count_within_a_text_and_padding_is_at_the_end(sizes: list[tuple[int, int]]) -> None:
    found = made([size for size in sizes if max(size) <= 16] or [(1, 1)])
    rows = found.rows(0, 0, 3)
    assert rows.source is not None
    for one in (rows, rows.source):
        for doc, position, token in zip(one.doc, one.position, one.token, strict=True):
            real = doc > 0
            assert (np.diff(real.astype(int)) <= 0).all()
            assert (token[~real] == SPECIAL["pad"]).all()
            starts = np.flatnonzero(np.diff(doc, prepend=0) * real)
            assert (position[starts] == 0).all()
            assert (np.diff(position)[(np.diff(doc) == 0) & real[1:]] == 1).all()


def test_a_row_is_a_function_of_its_place() -> None:
    draw = np.random.default_rng(0)
    found = made(draw.integers(1, 16, (80, 2)).tolist())
    whole = found.rows(7, 0, 3)
    for row in range(3):
        alone = found.rows(7, row, 1)
        np.testing.assert_array_equal(alone.token[0], whole.token[row])
        np.testing.assert_array_equal(alone.source.token[0], whole.source.token[row])


def test_sentences_leave_little_padding() -> None:
    """Lengths as of image captions, both sides nearly alike: less than a tenth is padding."""
    draw = np.random.default_rng(1)
    source = np.clip(draw.normal(14, 4, 4000), 4, 40).astype(int)
    target = np.clip(source + draw.normal(0, 2, 4000), 4, 40).astype(int)
    rows = packed(np.arange(4000), source, target, 128)
    assert source.sum() / (len(rows) * 128) > 0.9
    assert target.sum() / (len(rows) * 128) > 0.9


# --- the corpus

TEXTS = [(f"line {n}", f"zeile {n}") for n in range(200)]


def corpus(texts: Any, home: Any, **given: Any) -> Any:
    return prepare_parallel(open_parallel(texts, DATA), BYTES, **({"seed": 3} | given), home=home)


def told(tokens: Any, tokenizer: Any) -> list[tuple[str, str]]:
    """The pairs of a split as texts."""
    chosen = range(len(tokens.documents) - 1) if tokens.chosen is None else tokens.chosen
    return [
        tuple(
            tokenizer.decode(one.token[one.documents[n] : one.documents[n + 1] - 1]) for one in (tokens.source, tokens)
        )
        for n in chosen
    ]  # pyright: ignore[reportReturnType]


def test_what_is_held_out_is_drawn_by_the_seed_and_not_trained_on(tmp_path: Any) -> None:
    found, again, other = (corpus(TEXTS, tmp_path, seed=seed) for seed in (3, 3, 4))
    splits = [told(tokens, found.tokenizer) for tokens in (found.train, found.valid, found.test)]
    assert [len(one) for one in splits] == [180, 10, 10]
    assert sorted(pair for one in splits for pair in one) == sorted(TEXTS)
    assert told(again.valid, found.tokenizer) == splits[1]
    assert told(other.valid, found.tokenizer) != splits[1]
    assert found.fingerprint == again.fingerprint != other.fingerprint
    assert found.valid.unigram.sum() == sum(len(target) + 1 for _, target in splits[1])
    assert found.facts["pairs"] == {"valid": 10, "test": 10, "train": 180}


def test_splits_that_are_given_are_taken(tmp_path: Any) -> None:
    given = {"valid": open_parallel(TEXTS[:7], DATA), "test": open_parallel(TEXTS[7:12], DATA)}
    found = corpus(TEXTS, tmp_path, **given)
    assert told(found.train, found.tokenizer) == TEXTS
    assert told(found.valid, found.tokenizer) == TEXTS[:7]
    assert told(found.test, found.tokenizer) == TEXTS[7:12]
    assert corpus(TEXTS, tmp_path, valid=given["valid"]).test is None


def test_too_few_pairs_to_hold_any_out(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="3 pairs are too few to hold some out"):
        corpus(TEXTS[:3], tmp_path)


def test_pairs_without_a_side_are_counted_again_from_the_cache(tmp_path: Any, capsys: Any) -> None:
    for _ in range(2):
        assert corpus([*TEXTS, ("", "x"), ("y", " ")], tmp_path).facts["skipped"] == 2
        assert "2 with an empty side are left out" in capsys.readouterr().err


def test_each_side_may_have_a_vocabulary_of_its_own(tmp_path: Any) -> None:
    words = TokenizerSpec(kind="characters", size=60, specials={"pad": "<pad>", "eod": "</s>", "unk": "<unk>"})
    found = corpus(TEXTS, tmp_path, source_spec=words)
    assert found.source_tokenizer is not None
    assert found.tokenizers.keys() == {"tokenizer", "source_tokenizer"}
    source = found.train.source
    assert found.source_tokenizer.decode(source.token[: source.documents[1] - 1]) == "line 0"


# --- a run


def small(**train: Any) -> Any:
    return zoo.recipe("transformer-nano").with_changes(
        model={"width": 20, "heads": 2, "inner": 28, "context": 24, "layers": 1, "encoder_layers": 1},
        tokenizer={"kind": "bytes", "size": 300},
        data={"row_tokens": 24},
        train={
            **{"tokens_per_update": 96, "updates": 8, "warmup_updates": 2, "precision": "float32"},
            **{"checkpoint_every": 2, "keep_checkpoints": 3, "average_checkpoints": 3, "evaluate_every": 4, **train},
        },
    )


def test_a_run_ends_with_the_mean_of_its_last_checkpoints(tmp_path: Any) -> None:
    from zoo.tensors import TensorFile

    run = zoo.pretrain(small(), TEXTS, tmp_path / "run")
    folders = [tmp_path / "run" / "checkpoints" / f"step-{step:08d}" for step in (4, 6, 8)]
    means = TensorFile(tmp_path / "run" / "checkpoints" / "averaged" / "model.safetensors")
    for name, mean in means.items():
        parts = [TensorFile(folder / "model.safetensors")[name] for folder in folders]
        np.testing.assert_allclose(mean, np.mean(parts, axis=0), atol=1e-7)
    loaded = run.load()
    for name, weight in loaded.learner.weights.items():
        np.testing.assert_array_equal(weight.value.numpy(), means[name])
    splits = [line["split"] for line in run.history[-2:]]
    assert splits == ["valid", "test"]
    assert run.history[-2]["averaged"] == 3
    assert all(0 <= line["accuracy"] <= 1 for line in run.history[-2:])
    assert run.sample is not None
    assert run.sample.count("written:") >= 1


def test_a_finished_run_is_left_alone_and_a_checkpoint_of_it_can_be_loaded(tmp_path: Any, capsys: Any) -> None:
    run = zoo.pretrain(small(), TEXTS, tmp_path / "run")
    again = zoo.pretrain(small(), TEXTS, tmp_path / "run", resume=True)
    assert again.history == run.history
    step, averaged = (zoo.load(tmp_path / "run" / "checkpoints" / name) for name in ("step-00000008", "averaged"))
    token, source = np.full((1, 5), 7), np.full((1, 4), 9)
    assert not np.array_equal(step.logits(token, source=source), averaged.logits(token, source=source))
    with (tmp_path / "run" / "checkpoints" / "averaged" / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    whole = zoo.load(tmp_path / "run")
    assert "averaged is damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(whole.logits(token, source=source), step.logits(token, source=source))


def test_accuracy_is_the_share_of_tokens_that_were_guessed(tmp_path: Any) -> None:
    run = zoo.pretrain(small(average_checkpoints=None), TEXTS, tmp_path / "run")
    model = run.load()
    held_out = told(corpus(TEXTS, zoo.home.home(), seed=0).valid, model.tokenizer)
    right = total = 0
    for source, target in held_out:
        special = model.tokenizer.special
        wanted = [*model.tokenizer.encode(target), special["eod"]]
        read = np.array([[*model.tokenizer.encode(source), special["eod"]]])
        logits = model.logits(np.array([[special["bos"], *wanted[:-1]]]), source=read)
        right += int((logits[0].argmax(axis=-1) == wanted).sum())
        total += len(wanted)
    valid = [line for line in run.history if line["split"] == "valid"][-1]
    assert valid["accuracy"] == pytest.approx(right / total, abs=1e-6)


def test_too_many_checkpoints_to_average() -> None:
    with pytest.raises(UserError, match="average_checkpoints 4 is above keep_checkpoints 3"):
        small(average_checkpoints=4)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"data": {"rows": "packed"}}, "objective translation needs data.rows parallel, not packed"),
        ({"model": {"encoder_layers": 0}}, "objective translation reads a source and needs an encoder"),
    ],
)
def test_recipes_that_do_not_fit_together(changes: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        small().with_changes(**changes)
    with pytest.raises(UserError, match="objective causal has no source to read with an encoder"):
        zoo.recipe("gpt2-nano", model={"encoder_layers": 1})
    with pytest.raises(UserError, match=r"data\.rows parallel has a source, which objective causal does not read"):
        zoo.recipe("gpt2-nano", data={"rows": "parallel"})
