"""Labelled text: read from whatever it comes in, parted, counted, laid out in rows as each family was published."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.corpus import glue as glues
from zoo.corpus.glue import glue, split_of
from zoo.corpus.labelled import Asked, Example, part_off, read_examples, reservoir
from zoo.errors import UserError
from zoo.saved import open_saved
from zoo.tuning.family import BERT, GPT, XLNET, Family
from zoo.tuning.labeller import Base
from zoo.tuning.rows import LabelledRows, laid
from zoo.use.measures import marks_entities, of_labels, of_tags, spans

CLASSIFY, PAIRS, TAG = (Asked(task) for task in ("classify", "pairs", "tag"))
TEXTS = [Example(("so it is",), ("yes",)), Example(("not, so",), ("no",))]


def read(place: Any, asked: Asked = CLASSIFY, **more: Any) -> list[Example]:
    return list(read_examples(str(place), asked, **more))


# --- reading


@pytest.mark.parametrize("column", ["text", "sentence"])
def test_a_table_is_read_whatever_it_is(tmp_path: Path, column: str) -> None:
    table = pandas.DataFrame({"id": [1, 2], column: ["so it is", "not, so"], "label": ["yes", "no"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    table.to_csv(tmp_path / "a.csv.gz", index=False)
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "a.parquet")
    for file in sorted(tmp_path.iterdir()):
        assert read(file) == TEXTS
        assert read(file, labelled=False) == [Example(each.texts, ()) for each in TEXTS]
        assert read(file, Asked("classify", [column], "id"))[1].labels == ("2",)
    assert read(tmp_path) == 5 * TEXTS  # a folder is all its files


@pytest.mark.parametrize(
    "names", [("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence")]
)
def test_pairs_have_their_usual_names(tmp_path: Path, names: tuple[str, str]) -> None:
    pandas.DataFrame({names[1]: ["second"], names[0]: ["first"], "label": [1]}).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", PAIRS) == [Example(("first", "second"), ("1",))]
    assert read(tmp_path / "a.parquet", Asked("pairs", names[::-1])) == [Example(("second", "first"), ("1",))]


def test_words_and_tags(tmp_path: Path) -> None:
    wanted = [Example(("Ann", "left"), ("B-PER", "O")), Example(("Rome",), ("B-LOC",))]
    lines = [{"tokens": each.texts, "tags": each.labels} for each in wanted]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read(tmp_path / "a.jsonl", TAG) == wanted
    # CoNLL-2003's four columns, and two; the last is the tag.
    (tmp_path / "a.conll").write_text("-DOCSTART- -X- O O\n\nAnn NNP I-NP B-PER\nleft VBD I-VP O\n\nRome\tB-LOC")
    assert read(tmp_path / "a.conll", TAG) == wanted
    (tmp_path / "b.txt").write_text("Ann\nleft\n\n\nRome\n\n")
    assert read(tmp_path / "b.txt", TAG, labelled=False) == [Example(each.texts, ()) for each in wanted]


@pytest.mark.parametrize(
    "asked, name, content, told",
    [
        (CLASSIFY, "a.csv", "", "a.csv: there is no example in it"),
        (CLASSIFY, "a.csv", "text,label\n", "a.csv: there is no example in it"),
        (CLASSIFY, "a.jsonl", "\n", "a.jsonl: there is no example in it"),
        (CLASSIFY, "a.csv", "body,label\nx,1\n", "no column text or sentence; it has body, label (--text names"),
        (CLASSIFY, "a.csv", "text,stars\nx,1\n", "no column label; it has text, stars (--label names"),
        (Asked("classify", ["b"]), "a.csv", "text,label\nx,1\n", "no column b; it has text, label (--text names"),
        (Asked("pairs", ["text"]), "a.csv", "text,label\nx,1\n", "--task pairs reads 2 columns of text; --text names"),
        (CLASSIFY, "a.csv", "text,label\nx,\n", "a.csv:2: it has no label"),
        (CLASSIFY, "a.jsonl", '{"text": "x", "label": 2.5}', "a.jsonl:1: the label 2.5 is no class; a regression"),
        (CLASSIFY, "a.jsonl", '{"text": 3, "label": 2}', "a.jsonl:1: the text is a int (3), not a string"),
        (CLASSIFY, "a.jsonl", '{"text": "x", "label": 1}\n{"text": "x"}', "a.jsonl:2: no column 'label'"),
        (CLASSIFY, "a.txt", "so", "a.txt: labels need a table; known are .csv, .tsv, .jsonl, .parquet"),
        (TAG, "a.jsonl", '{"tokens": ["a"], "tags": []}', "a.jsonl:1: 1 words and 0 tags"),
        (TAG, "a.jsonl", '{"tokens": "a", "tags": []}', "a.jsonl:1: 'a' is no list of words or tags (--text"),
        (TAG, "a.conll", "Ann B-PER\nleft\n", "a.conll:2: 'left' has no tag"),
    ],
)
def test_what_is_not_labelled_is_refused(tmp_path: Path, asked: Asked, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as refusal:
        read(tmp_path / name, asked)
    assert told in str(refusal.value)


# --- the Hub and GLUE


def test_numbers_of_the_hub_are_named(hub: Path) -> None:
    import datasets

    def feature(names: list[str]) -> Any:
        return datasets.ClassLabel(names=names)

    kinds = datasets.Features({"text": datasets.Value("string"), "label": feature(["bad", "good"])})
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=kinds).to_parquet(hub / "train.parquet")
    datasets.Dataset.from_dict({"text": ["c"], "label": [-1]}, features=kinds).to_parquet(hub / "test.parquet")
    assert read("hf:some/set") == [Example(("a",), ("good",)), Example(("b",), ("bad",))]
    assert read("hf:some/set::test", labelled=False) == [Example(("c",), ())]
    with pytest.raises(UserError, match=r"its label is hidden \(-1\)"):
        read("hf:some/set::test")
    with pytest.raises(UserError, match="no column tokens or words; it has text, label"):
        read("hf:some/set", TAG)
    with pytest.raises(UserError, match="hf:some/set:"):
        read("hf:some/set::dev")


@pytest.mark.parametrize("name, task", glues.TASKS.items())
def test_every_task_of_glue_has_its_columns(
    hub: Path, monkeypatch: pytest.MonkeyPatch, name: str, task: glues.Glue
) -> None:
    monkeypatch.setattr("zoo.corpus.labelled.HUB", "hf:some/set")
    config = hub / name
    config.mkdir()
    row = {column: [column, "x"] for column in task.columns} | {"label": [0, len(task.labels) - 1], "idx": [0, 1]}
    for split in ("train", task.valid, task.valid_too, task.test):
        if split:
            pandas.DataFrame(row).to_parquet(config / f"{split}-00000-of-00001.parquet")
    (hub / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {name}\n  data_files:\n"
        + "".join(
            f"  - split: {split}\n    path: {name}/{split}-*\n"
            for split in ("train", task.valid, task.valid_too, task.test)
            if split
        )
        + "---\n"
    )
    asked = PAIRS if len(task.columns) == 2 else CLASSIFY
    wanted = [
        Example(task.columns, task.labels[:1]),
        Example(("x",) * len(task.columns), task.labels[-1:]),
    ]
    assert read(f"glue:{name}", asked) == wanted
    assert read(split_of(f"glue:{name}", task.valid), asked) == wanted
    with pytest.raises(UserError, match=f"glue:{name} is not of --task tag"):
        read(f"glue:{name}", TAG)
    with pytest.raises(UserError, match="Bad split: dev"):
        read(f"glue:{name}:dev", asked)


def test_glue_is_judged_as_published() -> None:
    found = {name: (len(task.columns), task.measure) for name, task in glues.TASKS.items()}
    assert found == {
        "cola": (1, "mcc"),
        "sst2": (1, "accuracy"),
        "mrpc": (2, "f1"),
        "qqp": (2, "f1"),
        "mnli": (2, "accuracy"),
        "qnli": (2, "accuracy"),
        "rte": (2, "accuracy"),
        "wnli": (2, "accuracy"),
    }
    assert glue("reviews.csv") is None
    with pytest.raises(UserError, match="a regression cannot be trained here"):
        glue("glue:stsb")
    with pytest.raises(UserError, match="did you mean 'sst2'"):
        glue("glue:sst-2")


# --- parting


@given(st.lists(st.sampled_from("aab"), min_size=2, max_size=60), st.floats(0.05, 0.5))
def test_a_part_has_its_share_of_every_label(labels: list[str], share: float) -> None:
    examples = [Example((str(n),), (label,)) for n, label in enumerate(labels)]
    rest, held = part_off(examples, share)
    assert sorted(rest + held) == sorted(examples)
    assert held
    counts = {label: round(share * labels.count(label)) for label in set(labels)}
    if any(counts.values()):
        assert {label: sum(e.labels == (label,) for e in held) for label in counts} == counts
    assert part_off(examples, share) == (rest, held)


def test_a_reservoir_is_a_fair_sample() -> None:
    examples = [Example((str(n),), ("a",)) for n in range(2000)]
    kept, count = reservoir(iter(examples), 400)
    assert (len(kept), count) == (400, 2000)
    assert len({each.texts for each in kept}) == 400
    places = [int(each.texts[0]) for each in kept]
    assert 900 < np.mean(places) < 1100  # 4 standard deviations of the mean: 103
    assert reservoir(iter(examples), 2000) == (examples, 2000)


# --- measures


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.sampled_from([2, 4]))
def test_measures_are_those_of_scikit_learn(found: list[tuple[int, int]], count: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    gold, guess = (np.array(each) % count for each in zip(*found, strict=True))
    measured = of_labels(gold, guess, count)
    wanted = {
        "accuracy": metrics.accuracy_score(gold, guess),
        "macro_f1": metrics.f1_score(gold, guess, average="macro"),
        "mcc": _mcc(gold, guess),
    }
    if count == 2:
        wanted["f1"] = metrics.f1_score(gold, guess, zero_division=0.0)
    assert {name: each.value for name, each in measured.items()} == pytest.approx(wanted)
    assert all(each.low <= each.high for each in measured.values())


def _mcc(gold: np.ndarray, guess: np.ndarray) -> float:
    """The correlation of the labels' indicators (Gorodkin 2004, equation 2)."""
    a, b = (np.eye(4)[labels] - np.eye(4)[labels].mean(axis=0) for labels in (gold, guess))
    spread = np.sqrt((a * a).sum() * (b * b).sum())
    return (a * b).sum() / spread if spread > 1e-9 else 0.0


def test_an_interval_of_the_bootstrap_has_its_width() -> None:
    gold = np.arange(400) % 2
    guess = np.where(np.arange(400) % 10 < 8, gold, 1 - gold)
    measured = of_labels(gold, guess, 2)
    wilson, bootstrap = measured["accuracy"], measured["macro_f1"]  # the same number here
    assert bootstrap.value == pytest.approx(0.8)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((wilson.low, wilson.high), abs=0.01)


@pytest.mark.parametrize(
    "tags, wanted",
    [
        ("B-A I-A O B-B", {(0, 2, "A"), (3, 4, "B")}),
        ("B-A B-A I-A", {(0, 1, "A"), (1, 3, "A")}),
        ("O I-A I-A", {(1, 3, "A")}),
        ("B-A I-B I-B", {(0, 1, "A"), (1, 3, "B")}),
        ("O O", set()),
    ],
)
def test_entities_are_counted_as_by_conlleval(tags: str, wanted: set[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == wanted


def test_tags_are_measured_by_token_and_by_entity() -> None:
    gold = [["B-A", "I-A", "O"], ["O", "B-B"]]
    guess = [["B-A", "O", "O"], ["O", "B-B"]]
    found = of_tags(gold, guess)
    assert {name: each.value for name, each in found.items()} == {
        "accuracy": 0.8,
        "f1": 0.5,
        "precision": 0.5,
        "recall": 0.5,
    }
    assert list(of_tags([["N", "V"]], [["N", "N"]])) == ["accuracy"]
    assert marks_entities({"O", "B-A"})
    assert not marks_entities({"O", "NOUN"})


# --- rows


def framed(family: Family, *parts: Sequence[int]) -> tuple[list[int], list[int]]:
    special = {"cls": 1, "sep": 2, "eod": 3}
    ids, segment = family.framed([np.array(part, np.int32) for part in parts], special)
    assert len(ids) == sum(map(len, parts)) + family.around(len(parts))
    return ids.tolist(), segment.tolist()


def test_each_family_frames_texts_as_published() -> None:
    assert framed(BERT, [7, 8]) == ([1, 7, 8, 2], [0, 0, 0, 0])
    assert framed(BERT, [7, 8], [9]) == ([1, 7, 8, 2, 9, 2], [0, 0, 0, 0, 1, 1])
    assert framed(XLNET, [7, 8]) == ([7, 8, 2, 1], [0, 0, 0, 2])
    assert framed(XLNET, [7, 8], [9]) == ([7, 8, 2, 9, 2, 1], [0, 0, 0, 1, 1, 2])
    assert framed(GPT, [7, 8])[0] == [3, 7, 8, 1]
    assert framed(GPT, [7, 8], [9])[0] == [3, 7, 8, 2, 9, 1]
    only_eod, _ = GPT.framed([np.array([7]), np.array([8])], {"eod": 3})
    assert only_eod.tolist() == [3, 7, 3, 8, 3]
    with pytest.raises(UserError, match="fine-tuning needs the special tokens cls, or eod in their place"):
        BERT.framed([np.array([7])], {"sep": 2})


@pytest.mark.parametrize(
    "name, family", [("bert-nano", BERT), ("xlnet-nano", XLNET), ("gpt2-nano", GPT), ("transformer-xl-nano", GPT)]
)
def test_a_family_follows_from_the_objective(name: str, family: Family, capsys: pytest.CaptureFixture[str]) -> None:
    base = Base.of(open_saved(name), "classify")
    assert base.family is family
    rows = base.framing.rows([TEXTS[0], Example(("war " * 600,), ("no",))], ["no", "yes"])
    assert "1 of 2 texts are cut to the" in capsys.readouterr().err
    assert len(rows[1].ids) == base.framing.longest
    for row in rows:
        assert row.at.tolist() == [0 if family is BERT else len(row.ids) - 1]
        asked = row.ids[row.at[0]]
        assert asked == base.vocab.special["cls"]
    assert [row.label.tolist() for row in rows] == [[1], [0]]


def test_a_pair_loses_tokens_of_the_longer_text(capsys: pytest.CaptureFixture[str]) -> None:
    base = Base.of(open_saved("bert-nano"), "pairs")
    short, long = "we must act", "the state of the union " * 40
    ids, special = base.framing.tokenizer.encode(short).tolist(), base.vocab.special
    (one, two) = base.framing.rows([Example((short, long), ("a",)), Example((long, short), ("a",))], ["a"])
    assert capsys.readouterr().err == "2 of 2 texts are cut to the 64 tokens that are read at once\n"
    assert one.ids[: len(ids) + 2].tolist() == [special["cls"], *ids, special["sep"]]
    assert two.ids[-len(ids) - 2 :].tolist() == [special["sep"], *ids, special["sep"]]
    assert len(one.ids) == len(two.ids) == 64
    assert two.segment.tolist() == [0] * (64 - len(ids) - 1) + [1] * (len(ids) + 1)


@pytest.mark.parametrize("name", ["bert-nano", "gpt2-nano", "xlnet-nano"])
def test_a_word_is_asked_at_its_first_token(name: str) -> None:
    base = Base.of(open_saved(name), "tag")
    tokenizer, before = base.framing.tokenizer, len(base.family.before)
    sentences = [("Préamble", "of", "misunderstandings", "«", "x"), ("The", "Union")]
    rows = base.framing.rows([Example(words, ("a",) * len(words)) for words in sentences], ["a"])
    for words, row in zip(sentences, rows, strict=True):
        assert len(row.at) == len(words)
        ends = [*row.at[1:].tolist(), len(row.ids) - len(base.family.after)]
        pieces = [tokenizer.decode(row.ids[begin:end]) for begin, end in zip(row.at.tolist(), ends, strict=True)]
        assert [piece.strip() for piece in pieces] == list(words)
        assert row.at[0] == before


def test_words_that_do_not_fit_are_not_asked() -> None:
    base = Base.of(open_saved("bert-nano"), "tag")
    (row,) = base.framing.rows([Example(("union",) * 100, ("a",) * 100)], ["a"])
    assert len(row.ids) == 64
    assert len(row.at) == len(row.label) < 100
    assert row.at.max() < 63


def test_an_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    base = Base.of(open_saved("bert-nano"), "classify")
    examples = [Example((f"the state {'war ' * (n % 30)}",), (str(n),)) for n in range(40)]
    rows = base.framing.rows(examples, [str(n) for n in range(40)])
    plan = LabelledRows(rows, 16, 64, seed=3)
    labels = [plan.rows(update, 0, 16).label.max(axis=1).tolist() for update in range(5)]  # pyright: ignore
    seen = [label for update in labels for label in update]
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))
    assert seen[:40] != seen[40:]
    # A row is the same however the update is split.
    whole, part = plan.rows(2, 0, 16), plan.rows(2, 5, 3)
    assert all(np.array_equal(a[5:8], b) for a, b in zip(whole[:5], part[:5], strict=True))
    assert laid(rows[:2], 3, 64).doc[2].sum() == 0
