"""Features of frozen models, and what a linear classifier reads off them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import cli
from zoo.corpus.labelled import Asked
from zoo.registry import recipe
from zoo.report.measures import probe_table
from zoo.schema import Recipe
from zoo.train.start import Learner, nominal_vocab
from zoo.use import probe as probe_room
from zoo.use.features import features
from zoo.use.frame import Frame
from zoo.use.loaded import Loaded, load
from zoo.use.probe import probe

TEXTS = ["The state of the Union is strong.", "", "The Congress of the United States must act, now."]
WORDS = ["the", "state", "of", "union", "congress", "people", "government", "year", "peace", "nation", "law"]


def means(model: Loaded, read: Any) -> list[np.ndarray]:
    """Every text read alone by `read(token)` without padding, and its states' mean over its own tokens; [D] each."""
    frame, found = Frame(model), []
    for text in TEXTS:
        ids = model.tokenizer.encode(text)
        states = np.asarray(read(np.array([[*frame.before, *ids, *frame.after]])))[0]
        own = states[len(frame.before) : len(frame.before) + len(ids)]
        found.append(own.mean(axis=0) if len(ids) else np.zeros(states.shape[1]))
    return found


@pytest.mark.parametrize("name", ["gpt2-nano", "bert-nano", "xlnet-nano", "transformer-xl-nano"])
def test_the_last_layer_is_what_the_head_is_given(name: str) -> None:
    model = load(name)
    found = features(model, TEXTS)
    assert found.shape == (5, 3, 128)
    np.testing.assert_allclose(found[-1], means(model, model.hidden), atol=2e-5)


def test_layer_0_is_the_embeddings() -> None:
    gpt, bert = load("gpt2-nano"), load("bert-nano")

    def added(model: Loaded, token: np.ndarray) -> np.ndarray:
        embed = model.network.embed
        assert embed.position is not None
        found = np.asarray(embed.token.table)[token] + np.asarray(embed.position.table)[: token.shape[1]]
        return found if embed.segment is None else found + np.asarray(embed.segment.table)[0]

    def normed(token: np.ndarray) -> np.ndarray:
        x, norm = added(bert, token), bert.network.embed.norm
        assert norm is not None
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + norm.epsilon)
        return x * np.asarray(norm.scale) + np.asarray(norm.bias)

    np.testing.assert_allclose(features(gpt, TEXTS)[0], means(gpt, lambda token: added(gpt, token)), atol=1e-5)
    np.testing.assert_allclose(features(bert, TEXTS)[0], means(bert, normed), atol=1e-5)


def test_a_layer_is_what_a_shallower_model_gives() -> None:
    model = load("bert-nano")
    shallow = model.recipe.with_changes(model={"layers": 2})
    learner = Learner(shallow, model.learner.objective.vocab, "float32", drawn=False)
    learner.set_weights({name: model.learner.weights[name].value.numpy() for name in learner.weights})
    small = Loaded(shallow, model.tokenizer, learner)
    np.testing.assert_allclose(features(model, TEXTS)[2], features(small, TEXTS)[2], atol=1e-5)


def test_an_encoder_decoder_is_read_at_its_encoder() -> None:
    small: Recipe = recipe("transformer-nano").with_changes(model={"width": 16, "heads": 2, "layers": 1})
    bert = load("bert-nano")  # which lends its tokenizer
    small = small.with_changes(tokenizer={"size": 4096})
    vocab = nominal_vocab(small)._replace(special={"eod": 0, "bos": 1})
    learner = Learner(small, vocab, "float32")
    model = Loaded(small, bert.tokenizer, learner)
    found = features(model, TEXTS)
    assert found.shape == (1 + small.model.encoder_layers, 3, 16)
    eod = model.source_tokenizer.special["eod"]
    for n, text in enumerate(TEXTS):
        ids = model.tokenizer.encode(text)
        states = np.asarray(model.network.encode(model.source_stream(np.array([[*ids, eod]]))))[0, : len(ids)]
        np.testing.assert_allclose(found[-1, n], states.mean(axis=0) if len(ids) else 0.0, atol=1e-5)


def test_long_texts_are_cut_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = load("bert-nano")
    long = "the union " * 100
    found = features(model, [long, "the"])
    assert "1 of 2 texts are cut to the" in capsys.readouterr().err
    ids, frame = model.tokenizer.encode(long), Frame(model)
    most = 64 - len(frame.before) - len(frame.after)
    states = model.hidden(np.array([[*frame.before, *ids[:most], *frame.after]]))[0]
    own = states[len(frame.before) :][:most]
    np.testing.assert_allclose(found[-1, 0], own.mean(axis=0), atol=2e-5)


# --- what is read off


def write_table(file: Path, count: int, *, random: bool = False) -> str:
    """Texts of random words; those with "war" have the label yes, or any where `random`."""
    draw = np.random.default_rng(count)
    rows = []
    for n in range(count):
        words = draw.choice(WORDS, 8).tolist()
        if n % 2:
            words[draw.integers(8)] = "war"
        label = draw.integers(2) if random else n % 2
        rows.append(json.dumps({"text": " ".join(words), "label": ["no", "yes"][label]}))
    file.write_text("\n".join(rows))
    return str(file)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(probe_room, "STRENGTHS", (0.01, 1.0))
    monkeypatch.setattr(probe_room, "FOLDS", 3)


def test_a_word_is_read_off_and_chance_is_not(quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["probe", "gpt2-nano", "--data", write_table(tmp_path / "a.jsonl", 300)]
    assert cli.run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["labels"], found["trained_on"], found["held_out"]) == (["no", "yes"], 240, 60)
    assert found["baseline"]["value"] == 0.5
    for layer in found["layers"]:
        assert layer["accuracy"]["low"] > found["baseline"]["high"]
        assert layer["accuracy"]["value"] > 0.9

    model, test = load("gpt2-nano"), write_table(tmp_path / "test.jsonl", 200, random=True)
    by_chance = probe(model, write_table(tmp_path / "b.jsonl", 300, random=True), Asked("classify"), test)
    head, *rows = probe_table(by_chance)
    assert head.split()[:3] == ["accuracy", "95%", "interval"]
    assert [row.split()[0] for row in rows] == ["majority", "embeddings", *["layer"] * 4]
    for layer in by_chance.layers:
        assert abs(layer.measures["accuracy"].value - 0.5) < 0.125  # 3.5 standard deviations


def test_large_data_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(probe_room, "MOST", 60)
    assert len(probe_room._read(write_table(tmp_path / "a.jsonl", 300), Asked("classify"))) == 60
    assert "a.jsonl: 60 of its 300 examples, chosen at random, are used" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data, test, told",
    [
        ("text,label\na,x\nb,x\n", None, "at least two labels are needed, and all examples have x"),
        ("text,label\na,x\nb,y\n", "text,label\na,z\n", "training has no example of the labels z; it has x, y"),
        ("text,label\na,x\nb,y\nc,x\n", "text,label\na,x\n", "there is one of y"),
        ("text\na\n", None, "no column label; it has text (--label names a column)"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str, test: str | None, told: str
) -> None:
    (tmp_path / "a.csv").write_text(data)
    more = []
    if test is not None:
        (tmp_path / "test.csv").write_text(test)
        more = ["--test", str(tmp_path / "test.csv")]
    assert cli.run(["probe", "bert-nano", "--data", str(tmp_path / "a.csv"), *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
