"""Fine-tuning: what is learned, kept, repeated, refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from zoo import accounting, cli
from zoo.corpus.labelled import Asked, Example
from zoo.noise import Noise
from zoo.objective import Vocab
from zoo.saved import open_saved
from zoo.train.budget import fitting_rows
from zoo.train.step import Engine
from zoo.tuning import finetune as room
from zoo.tuning.finetune import Tuned, finetune
from zoo.tuning.labeller import Base, Labeller, load_labeller
from zoo.tuning.labelling import CausalLabelling, Labelling
from zoo.tuning.rows import laid
from zoo.tuning.training import Epoch, Found, settings
from zoo.use.measures import Measure

WORDS = ["the", "state", "of", "union", "congress", "people", "government", "year", "peace", "nation", "law"]


def sentences(count: int) -> list[list[str]]:
    """Random words; every second sentence has "war" in it."""
    draw = np.random.default_rng(count)
    found = [draw.choice(WORDS, 6).tolist() for _ in range(count)]
    for words in found[1::2]:
        words[draw.integers(6)] = "war"
    return found


def write_texts(file: Path, count: int) -> str:
    rows = [{"text": " ".join(words), "label": ["no", "yes"]["war" in words]} for words in sentences(count)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def write_pairs(file: Path, count: int) -> str:
    """The second text alone decides."""
    firsts, seconds = sentences(count + 2)[:count], sentences(count)
    pairs = zip(firsts, seconds, strict=True)
    rows = [{"text_a": " ".join(a), "text_b": " ".join(b), "label": int("war" in b)} for a, b in pairs]
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def write_tags(file: Path, count: int) -> str:
    """The union is a place of two words, war one of one."""
    marks = {"union": "B-LOC", "war": "B-WAR", "peace": "B-WAR"}
    found = []
    for words in sentences(count):
        tags = [marks.get(word, "O") for word in words]
        found.append("".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True)))
    file.write_text("\n".join(found))
    return str(file)


# --- what is learned


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    tmp = tmp_path_factory.mktemp("learned")
    data, test = write_texts(tmp / "train.jsonl", 400), write_texts(tmp / "test.jsonl", 200)
    return finetune("bert-nano", Asked("classify"), data, test=test, out=tmp / "tuned", epochs=2, rates=[2e-3])


def test_a_word_is_learned(learned: Tuned) -> None:
    assert learned.labels == ["no", "yes"]
    assert learned.baseline.value == 0.5
    assert learned.test is not None
    assert learned.test.measures["accuracy"].value > 0.95
    assert learned.test.measures["mcc"].value > 0.9


def test_what_was_learned_is_kept(learned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = sentences(50)
    (tmp_path / "new.csv").write_text("text\n" + "\n".join(map(" ".join, texts)))
    capsys.readouterr()
    assert cli.run(["predict", str(learned.folder), str(tmp_path / "new.csv")]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "index\tprediction"
    wanted = [f"{n}\t{'yes' if 'war' in words else 'no'}" for n, words in enumerate(texts)]
    assert sum(a == b for a, b in zip(lines, wanted, strict=True)) >= 47
    # A text alone finds what it finds among others.
    labeller = load_labeller(learned.folder)
    rows = labeller.framing.rows([Example((" ".join(words),), ()) for words in texts], labeller.labels)
    together = dict(labeller.scores(rows))
    for n in (0, 1):
        ((_, alone),) = labeller.scores(rows[n : n + 1])
        np.testing.assert_allclose(alone, together[n], atol=1e-4)


def test_a_tuned_model_is_a_checkpoint(learned: Tuned) -> None:
    model = zoo.load(learned.folder)
    assert model.fill(["The state of the [MASK]"])[0].blanks
    before, after = open_saved("bert-nano").weights, open_saved(learned.folder).weights
    assert before.keys() == after.keys()
    assert not np.array_equal(before["blocks.0.attend.q.kernel"], after["blocks.0.attend.q.kernel"])
    base = Base.of(open_saved(learned.folder), "pairs")  # it can be fine-tuned again
    assert base.framing.task == "pairs"


@pytest.mark.slow
def test_the_second_text_of_a_pair_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "train.jsonl", 400)
    command = ["finetune", "xlnet-nano", "--data", data, "--task", "pairs", "--out", str(tmp_path / "out")]
    assert cli.run([*command, "--epochs", "4", "--learning-rate", "2e-3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"]["accuracy"]["value"] > 0.95
    assert found["baseline"]["value"] == 0.5


@pytest.mark.slow
def test_tags_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, test = write_tags(tmp_path / "train.conll", 300), write_tags(tmp_path / "test.conll", 40)
    command = ["finetune", "gpt2-nano", "--data", data, "--task", "tag", "--test", test]
    assert cli.run([*command, "--out", str(tmp_path / "out"), "--epochs", "3", "--learning-rate", "3e-3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("the best by f1")
    assert out[1].split() == [
        word for name in ("accuracy", "f1", "precision", "recall") for word in (name, "95%", "interval")
    ]
    accuracy, f1 = (float(out[-1].split()[n]) for n in (1, 5))
    assert out[-1].startswith("test")
    assert min(accuracy, f1) > 0.95
    assert cli.run(["predict", str(tmp_path / "out"), test]) == 0
    assert capsys.readouterr().out.split("\n")[:7].count("") == 1  # an empty line after six words


# --- how it is trained


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of one narrow layer."""
    from zoo.registered import write
    from zoo.train.start import Learner, nominal_vocab, start_backend

    start_backend()
    saved = open_saved("bert-nano")
    recipe = saved.recipe.with_changes(model={"width": 16, "heads": 2, "layers": 1})
    weights = Learner(recipe, nominal_vocab(recipe), "float32").weights
    arrays = {name: weight.value.numpy() for name, weight in weights.items()}
    folder = tmp_path_factory.mktemp("small") / "model"
    return str(write(saved._replace(recipe=recipe, weights=arrays), folder))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_seed_repeats_it_to_the_byte(small: str, tmp_path: Path) -> None:
    data = write_texts(tmp_path / "a.jsonl", 60)
    for out in ("one", "two"):
        finetune(small, Asked("classify"), data, out=tmp_path / out, epochs=1, seed=5)
    one, two = (content(tmp_path / out) for out in ("one", "two"))
    assert one == two
    assert one.keys() >= {"model.safetensors", "head.safetensors", "labels.json", "recipe.yaml", "tokenizer.json"}


def test_an_interrupted_one_leaves_nothing(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "gradient", interrupted)
    data = write_texts(tmp_path / "a.jsonl", 60)
    assert cli.run(["finetune", small, "--data", data, "--out", str(tmp_path / "out")]) == 130
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


class Scripted:
    """A training whose epochs are known beforehand: by learning rate the accuracies."""

    def __init__(self, accuracies: dict[float, list[float]]):
        self.accuracies, self.epochs, self.done = accuracies, 9, []

    def run(self, rate: float) -> Iterator[Epoch]:
        for number, value in enumerate(self.accuracies[rate], 1):
            self.done.append((rate, number))
            yield Epoch(rate, number, 0.0, Found(0.1 * number, {"accuracy": Measure(value, 0, 1)}))

    def weights(self) -> dict[str, Any]:
        return {"epoch": self.done[-1]}


def test_the_best_epoch_of_all_is_kept() -> None:
    training: Any = Scripted({1.0: [0.6, 0.8, 0.8, 0.7, 0.7, 0.9], 0.1: [0.7, 0.85]})
    best, weights = room._best(training, [1.0, 0.1], "accuracy")
    assert (best.learning_rate, best.number) == (0.1, 2)
    assert weights == {"epoch": (0.1, 2)}
    # Of equal ones the lower loss is the better; three later ones that are not end a rate.
    assert training.done == [(1.0, 1), (1.0, 2), (1.0, 3), (1.0, 4), (1.0, 5), (0.1, 1), (0.1, 2)]


def test_next_sentence_prediction_lends_its_pooler() -> None:
    saved = open_saved("bert-nano")
    recipe = saved.recipe.with_changes(objective={"next_sentence": True}, data={"rows": "pairs"})
    shapes = accounting.weights(recipe)
    weights = {name: np.full(shape, 0.25, np.float32) for name, shape in shapes.items()}
    base = Base.of(saved._replace(recipe=recipe, weights=weights), "pairs")
    found = settings(base, 64, 10, seed=0)
    assert 1 <= fitting_rows(found) <= 32
    labeller = Labeller(base, ["a", "b"], found)
    assert labeller.fresh == ["objective.labels.kernel", "objective.labels.bias"]
    assert np.all(labeller.learner.weights["objective.pooler.kernel"].value.numpy() == 0.25)


@pytest.mark.parametrize("name", ["bert-nano", "gpt2-nano", "xlnet-nano", "transformer-xl-nano"])
def test_settings_are_those_published(name: str) -> None:
    base = Base.of(open_saved(name), "classify")
    found = settings(base, base.framing.longest, 1000, seed=3)
    train, causal = found.train, base.family.language > 0
    assert causal == (name in ("gpt2-nano", "transformer-xl-nano"))
    assert found.rows_per_update == 32
    assert 1 <= fitting_rows(found) <= 32
    assert train.learning_rate == (6.25e-5 if causal else 2e-5 if name == "xlnet-nano" else 5e-5)
    assert train.warmup_updates == (2 if causal else 100)
    assert (train.schedule, train.final_share, train.clip_norm) == ("linear", 0.0, 1.0)
    assert found.model.dropout == found.model.attention_dropout == 0.1
    assert train.adam.weight_decay == (0.0 if name == "xlnet-nano" else 0.01)
    assert (train.seed, base.family.epochs, base.family.language) == (3, 3, 0.5 if causal else 0.0)


def test_a_causal_batch_has_the_next_token_beside_the_label() -> None:
    base = Base.of(open_saved("gpt2-nano"), "classify")
    rows = base.framing.rows([Example(("we must act now",), ("b",)), Example(("war",), ("a",))], ["a", "b"])
    objective = CausalLabelling(CausalLabelling.Settings(labels=2, language=0.5), base.vocab, 256)
    batch = objective.make_batch(Noise(0, 0, 0, 3), laid(rows, 3, 16))
    label, language = batch.tasks["label"], batch.tasks["causal"]
    assert label.at[:, 0].tolist()[:2] == [len(row.ids) - 1 for row in rows]
    assert label.target[:, 0].tolist() == [1, 0, 0]
    assert label.weight[:, 0].tolist() == [1, 1, 0]
    for line, row in enumerate(rows):
        size = len(row.ids)
        assert language.target[line, : size - 1].tolist() == row.ids[1:].tolist()
        assert np.flatnonzero(language.weight[line]).tolist() == list(range(size - 1))
    np.testing.assert_allclose(language.weight.sum(axis=1), [1, 1, 0], rtol=1e-6)
    assert objective.scales == {"label": 1.0, "causal": 0.5}
    assert batch.stream.rank[0].tolist() == list(range(16))


def test_words_are_asked_in_one_batch() -> None:
    base = Base.of(open_saved("bert-nano"), "tag")
    rows = base.framing.rows([Example(("we", "must"), ("a", "b"))], ["a", "b"])
    objective = Labelling(Labelling.Settings(labels=2, words=True), Vocab(9, 9, {}), 16)
    asked = objective.make_batch(Noise(0, 0, 0, 1), laid(rows, 1, 16)).tasks["label"]
    assert asked.at[0, :2].tolist() == rows[0].at.tolist()
    assert asked.target[0, :2].tolist() == [0, 1]
    assert asked.weight.sum() == 2


# --- what is refused


@pytest.mark.parametrize(
    "more, told",
    [
        (["--task", "par"], "--task 'par' is none; did you mean 'pairs'?"),
        (["--task", "pairs"], "no column text_a and text_b or sentence1 and sentence2"),
        (["--valid", "unseen.csv"], "unseen.csv: training has no example of the labels maybe; it has no, yes"),
        (["--test", "unseen.csv"], "unseen.csv: training has no example of the labels maybe; it has no, yes"),
        (["--data", "one.csv"], "one.csv: at least two labels are needed, and all examples have a"),
        (["--data", "empty.csv"], "empty.csv: there is no example in it"),
        (["--data", "glue:stsb"], "a regression cannot be trained here"),
        (["--out", "one.csv/x"], "one.csv' takes no new folder"),
        (["--out", "."], "--out '.' is there already; give a new or an empty folder"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "a.jsonl", 20)
    (tmp_path / "unseen.csv").write_text("text,label\nwar,maybe\n")
    (tmp_path / "one.csv").write_text("text,label\nwar,a\npeace,a\n")
    (tmp_path / "empty.csv").write_text("")
    given = ["--data", "a.jsonl"] if "--data" not in more else []
    assert cli.run(["finetune", "bert-nano", *given, *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_what_is_not_tuned_does_not_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str], learned: Tuned) -> None:
    assert cli.run(["predict", str(tmp_path), "a.csv"]) == 2
    assert "holds no fine-tuned model (labels.json is missing)" in capsys.readouterr().err
    for file in learned.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "labels.json").write_text("{}")
    assert cli.run(["predict", str(tmp_path), "a.csv"]) == 2
    assert "is damaged (labels.json has 2 bytes" in capsys.readouterr().err
