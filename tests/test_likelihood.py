"""Likelihoods of long texts, in windows and by samples, against what is computed one token at a time."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shrunk import STILL, shrunk

import zoo
from zoo import cli, evaluations
from zoo.batch import Rows, Stream
from zoo.corpus.prepare import open_texts, tokenized
from zoo.home import home
from zoo.objective import Vocab
from zoo.registry import objective
from zoo.use.evaluate import evaluate
from zoo.use.likelihood import likelihood, mean_of, pseudo_likelihood, windows, words

BYTES = {"kind": "bytes", "size": 260, "specials": {"eod": "<end>", "mask": "<hidden>"}}
FAMILIES = {"causal": "gpt2-small", "permutation": "xlnet-base", "masked": "bert-base"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(f"The {n}th law of the {n % 7} nations,  has {n * n} parts." for n in range(90)))
    return file


@pytest.fixture(scope="module")
def runs(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind, hardly trained, on rows that are packed."""
    plain = {"rows": "packed", "reuse": None, "bidirectional": False, "row_tokens": 24, "across_documents": True}
    made = {}
    for kind, name in FAMILIES.items():
        recipe = shrunk(name, {"init_std": 0.3, "memory": 0, **STILL}).with_changes(
            tokenizer=BYTES, data=plain, objective={"next_sentence": False} if kind == "masked" else {}
        )
        made[kind] = zoo.pretrain(recipe, text, tmp_path_factory.mktemp(kind) / "run").folder
    return made


def split(run: Path) -> tuple[Any, Any]:
    """The model, and the tokens of its validation split."""
    model = zoo.load(run)
    corpus = tokenized(model.recipe, open_texts(model.recipe.data.corpus, model.recipe.data), {}, home())
    return model, corpus.valid


def laid(rows: list[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Token and doc [rows, width], padded at the end."""
    token, doc = np.zeros((2, len(rows), width), np.int32)
    for n, row in enumerate(rows):
        token[n, : len(row)], doc[n, : len(row)] = row, 1
    return token, doc


def nats(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[n, V] and [n]: how unlikely each target is."""
    logits = logits.astype(np.float64)
    return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(target)), target]


def window_of(place: int, width: int, stride: int) -> int:
    """Where the first window begins that holds a token."""
    return 0 if place < width else -(-(place - width + 1) // stride) * stride


@given(st.integers(1, 60), st.integers(2, 20), st.data())
def test_every_token_is_new_once(size: int, width: int, data: Any) -> None:
    stride = data.draw(st.integers(1, width - 1))
    table = windows(size, width, stride)
    new = [range(begin + first, begin + length) for begin, length, first in table.tolist()]
    assert [token for each in new for token in each] == list(range(1, size))
    assert all(begin >= 0 and length <= width and begin + length <= size for begin, length, _ in table.tolist())
    assert all(first >= width - stride for _, _, first in table[1:].tolist())


@pytest.mark.parametrize("stride", [1, 7, 24])
def test_a_causal_likelihood_is_the_sum_over_tokens(runs: dict[str, Path], stride: int) -> None:
    model, tokens = split(runs["causal"])
    ids = np.asarray(tokens.token)
    before = [ids[window_of(place, 25, stride) : place] for place in range(1, len(ids))]
    token, doc = laid(before, 24)
    last = np.array([[len(row) - 1] for row in before])
    expected = nats(model.logits(token, doc, at=last)[:, 0], ids[1:]).mean()
    found = likelihood(model, tokens, stride)
    assert found.mean == pytest.approx(expected, rel=1e-5)
    assert found.low < found.mean < found.high
    some = likelihood(model, tokens, stride, 5)
    assert some.mean != found.mean
    assert some.high - some.low > found.high - found.low


def test_a_permutation_likelihood_is_from_left_to_right(runs: dict[str, Path]) -> None:
    """As if those behind each token were not there, and those before it saw nothing behind themselves."""
    model, tokens = split(runs["permutation"])
    ids = np.asarray(tokens.token)
    until = [ids[window_of(place, 24, 9) : place + 1] for place in range(1, len(ids))]
    token, doc = laid(until, 24)
    nothing, column = np.zeros_like(token), np.broadcast_to(np.arange(24, dtype=np.int32), token.shape)
    last = np.array([[len(row) - 1] for row in until], np.int32)
    hidden = model.network.read_blind(Stream(token, doc, column, nothing, column), last, model.learner.layers.blank)
    expected = nats(np.asarray(model.network.logits(hidden))[:, 0], ids[1:]).mean()
    assert likelihood(model, tokens, 9).mean == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("within_word", [False, True])
def test_a_pseudo_likelihood_hides_one_token_at_a_time(runs: dict[str, Path], within_word: bool) -> None:
    model, tokens = split(runs["masked"])
    ids, hidden, special = np.asarray(tokens.token), model.tokenizer.special["mask"], model.tokenizer.special["eod"]
    starts = (np.asarray(tokens.flags) & 1) > 0
    rows, at, targets = [], [], []
    for place in np.flatnonzero(ids != special):
        begin = place // 24 * 24
        row = ids[begin : begin + 24].astype(np.int32)
        after = [n for n in range(place + 1, begin + len(row)) if starts[n] or ids[n] == special]
        row[place - begin : (min([*after, begin + 24]) if within_word else place + 1) - begin] = hidden
        rows.append(row)
        at.append([place - begin])
        targets.append(ids[place])
    token, doc = laid(rows, 24)
    every = nats(model.logits(token, doc, at=np.array(at))[:, 0], np.array(targets))
    found = pseudo_likelihood(model, tokens, within_word=within_word)
    # A sample of 2,048 of some 400 tokens has nearly all of them several times.
    assert found.mean == pytest.approx(every.mean(), abs=2 * every.std() / math.sqrt(2048))
    assert found.low < every.mean() < found.high


def test_the_interval_is_that_of_a_mean() -> None:
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        counts = draws.integers(1, 9, 60).astype(float)
        found = mean_of(counts * draws.exponential(2.0, 60), counts)
        held += found.low < 2.0 < found.high
    assert 0.90 < held / 400 < 0.985
    assert mean_of(np.ones(1), np.ones(1)).high == math.inf


def test_words_are_counted_as_those_of_wikitext(runs: dict[str, Path], text: Path) -> None:
    model, tokens = split(runs["causal"])
    written = model.tokenizer.decode(np.asarray(tokens.token))
    assert text.read_text().endswith(written.replace("<end>", ""))
    expected = len(written.split()) + written.count("\n") + 1
    assert words(tokens, model.tokenizer, "bytes") == expected
    assert words(tokens, model.tokenizer, "wordpiece") is None
    found = evaluate(runs["causal"], stride=12)
    assert found["perplexity_per_word"] == pytest.approx(math.exp(found["loss"] * len(tokens.token) / expected))


def test_what_is_told_of_each_kind(runs: dict[str, Path]) -> None:
    """Likelihoods and pseudo-likelihoods never under one name."""
    found = {kind: evaluate(run) for kind, run in runs.items()}
    assert found["causal"].keys() >= {"loss", "perplexity", "perplexity_per_word", "bits_per_byte"}
    assert found["permutation"].keys() >= {"loss", "stride", "bits_per_byte", "bits_per_byte_interval"}
    assert found["masked"].keys() >= {"loss", "pseudo_bits_per_byte", "pseudo_bits_per_byte_interval"}
    assert not found["permutation"].keys() & {"perplexity", "perplexity_per_word"}
    assert not found["masked"].keys() & {"perplexity", "bits_per_byte"}
    assert found["permutation"]["stride"] == 12
    low, high = found["masked"]["pseudo_bits_per_byte_interval"]
    assert low < found["masked"]["pseudo_bits_per_byte"] < high
    # In rows that follow one another a causal model's windows are those of training.
    assert evaluate(runs["causal"], stride=24)["loss"] == pytest.approx(found["causal"]["loss"], rel=1e-6)
    assert evaluate(runs["causal"], stride=24)["bits_per_byte"] == pytest.approx(found["causal"]["bits_per_byte"])


def test_rows_that_overlap_are_read_as_often_as_the_text_fills_them(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLNet's repeat half of the row before, and run both ways: all of them hold a split four times."""
    specials = {**BYTES["specials"], "cls": "<cls>", "sep": "<sep>"}
    data = {"reuse": 12, "bidirectional": True, "row_tokens": 24}
    recipe = shrunk("xlnet-base", {"memory": 0, **STILL}).with_changes(
        tokenizer={**BYTES, "specials": specials}, data=data, train={"updates": 1}
    )
    run = zoo.pretrain(recipe, text, tmp_path / "run").folder
    seen = []
    monkeypatch.setattr(
        "zoo.use.evaluate.evaluate_split", lambda evaluator, split, shown: seen.append(split) or {"loss": 1.0}
    )
    evaluate(run)
    (held_out,) = seen
    tokens, whole = len(held_out.tokens.token), held_out.feed.plan.rows_in_epoch
    assert 3 < whole * 24 / tokens < 4
    assert tokens <= held_out.feed.rows * 24 < tokens + 24 * 4  # all streams go equally far


def test_what_is_found_stays_with_the_run(runs: dict[str, Path], capsys: Any) -> None:
    run = runs["causal"]
    assert cli.run(["eval", str(run), "--stride", "12"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    kept = evaluations.read(run)["text"][evaluations.VALIDATION]
    assert kept.pop("step") == 4
    assert kept == evaluate(run, stride=12)
    assert told["stride"] == "12"
    assert float(told["loss"]) == pytest.approx(kept["loss"], rel=1e-3)
    assert [float(one) for one in told["bits_per_byte_interval"].split()] == pytest.approx(
        kept["bits_per_byte_interval"], rel=1e-3
    )
    assert evaluations.known(run, "text", evaluations.VALIDATION, 4) == {"step": 4, **kept}
    assert evaluations.known(run, "text", evaluations.VALIDATION, 5) is None
    (run / evaluations.EVALUATION).write_text(json.dumps({})[:1])
    assert cli.run(["eval", str(run), "--stride", "12"]) == 2
    assert "evaluation.json' cannot be read" in capsys.readouterr().err
    (run / evaluations.EVALUATION).unlink()


@pytest.mark.parametrize(
    "kind, asked, told",
    [
        ("causal", ["--stride", "25"], "--stride 25 leaves tokens out: a window predicts 24; allowed: 1 to 24"),
        ("causal", ["--within-word"], "--within-word is for --suite, and for models that hide tokens; gpt2-small is"),
        ("permutation", ["--stride", "24"], "a window predicts 23; allowed: 1 to 23"),
        ("masked", ["--stride", "3"], "--stride is for models that give a text a likelihood; bert-base gives it none"),
        ("masked", ["--stride", "0"], "'0' is not a whole number of 1 or more"),
    ],
)
def test_what_cannot_be_asked(runs: dict[str, Path], kind: str, asked: list[str], told: str, capsys: Any) -> None:
    capsys.readouterr()
    assert cli.run(["eval", str(runs[kind]), *asked]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err.splitlines()[-1]
    assert not (runs[kind] / evaluations.EVALUATION).exists()


def test_who_has_no_order_says_so() -> None:
    rows = Rows(*np.zeros((6, 1, 4), np.int32))
    kind = objective("masked")
    made = kind(kind.Settings(), Vocab(10, 10, {"mask": 1}), 4)
    with pytest.raises(zoo.errors.UserError, match="gives a text no likelihood"):
        made.in_order(rows, rows.token > 0)
