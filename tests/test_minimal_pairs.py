"""Minimal pairs: read from whatever they come in, and counted."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import cli
from zoo.errors import UserError
from zoo.report.minimal_pairs import as_numbers, table
from zoo.use.minimal_pairs import Accuracy, Pair, Z, judge, read_pairs

BLIMP = Path(__file__).parents[2] / "shared" / "data" / "blimp" / "BLiMP.zip"
PAIRS = [
    Pair("The cats sleep.", "The cats sleeps.", "agreement", "morphology"),
    Pair("A dog barks.", "A dog bark.", "agreement", "morphology"),
    Pair("Who left?", "Who leave?", "question", "syntax"),
]


def line(pair: Pair) -> str:
    record = {"sentence_good": pair.good, "sentence_bad": pair.bad, "UID": pair.paradigm, "pairID": "0"}
    return json.dumps({**record, "linguistics_term": pair.phenomenon}) + "\n"


def test_a_suite_comes_in_a_file_a_folder_or_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "agreement.jsonl").write_text("".join(map(line, PAIRS[:2])))
    with gzip.open(folder / "question.jsonl.gz", "wt") as file:
        file.write(line(PAIRS[2]) + "\n")
    (folder / "README.txt").write_text("Not a pair.")
    assert read_pairs(str(folder)) == PAIRS
    assert read_pairs(str(folder / "agreement.jsonl")) == PAIRS[:2]
    with zipfile.ZipFile(tmp_path / "suite.zip", "w") as packed:
        packed.writestr("data/b.jsonl", line(PAIRS[2]))
        packed.writestr("data/a.jsonl", "".join(map(line, PAIRS[:2])))
        packed.writestr("data/about.txt", "Not a pair.")
        packed.writestr("__MACOSX/data/._a.jsonl", b"\xb0\x00")
    assert read_pairs(str(tmp_path / "suite.zip")) == PAIRS


def test_a_pair_without_a_paradigm_is_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"sentence_good": "So it is.", "sentence_bad": "So it are."}')
    assert read_pairs(str(tmp_path)) == [Pair("So it is.", "So it are.", "mine", "mine")]


def test_a_suite_of_the_hub_is_all_its_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from zoo.use import minimal_pairs

    asked = []

    def opened(place: str, columns: dict[str, str]) -> tuple[str, Any]:
        asked.append(place)
        rows = [pair for pair in PAIRS if pair.paradigm == place.rpartition(":")[2]]
        keys = ("sentence_good", "sentence_bad", "UID", "linguistics_term")
        assert tuple(columns) == keys
        return "commit", [dict(zip(keys, pair, strict=True)) for pair in rows]

    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: ["agreement", "question"])
    monkeypatch.setattr(minimal_pairs, "open_hub", opened)
    assert read_pairs("hf:some/blimp") == PAIRS
    assert read_pairs("hf:some/blimp:question") == PAIRS[2:]
    assert asked == ["hf:some/blimp:agreement", "hf:some/blimp:question", "hf:some/blimp:question"]


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "there is no pair in it"),
        ("\n\n", "there is no pair in it"),
        ("[1]", r"bad.jsonl:1: \[1\] is no JSON object with sentence_good and sentence_bad"),
        ("\n{", "bad.jsonl:2: no JSON"),
        ('{"sentence_good": "a"}', "bad.jsonl:1: it has no 'sentence_bad'"),
        ('{"sentence_good": "a", "sentence_bad": 3}', "bad.jsonl:1: sentence_bad is 3, not a sentence"),
        ('{"sentence_good": " ", "sentence_bad": "b"}', "bad.jsonl:1: sentence_good is ' ', not a sentence"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(UserError, match=told):
        read_pairs(str(tmp_path / "bad.jsonl"))


def test_a_zip_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_text("text")
    with pytest.raises(UserError, match=r"bad\.zip: not a sound zip file"):
        read_pairs(str(tmp_path / "bad.zip"))
    with pytest.raises(UserError, match="no such file or folder"):
        read_pairs(str(tmp_path / "missing.zip"))
    with zipfile.ZipFile(tmp_path / "latin.zip", "w") as packed:
        packed.writestr("a.jsonl", b"\xb0")
    with pytest.raises(UserError, match=r"latin\.zip: a\.jsonl cannot be read"):
        read_pairs(str(tmp_path / "latin.zip"))


class Longer:
    """A model that finds longer texts less likely, and no difference between those of equal length."""

    def score(self, texts: list[str], *, within_word: bool) -> np.ndarray:
        assert len(set(texts)) == len(texts)  # each is read once
        assert within_word
        return np.array([-float(len(text)) for text in texts])


def test_a_suite_is_counted_by_phenomenon_and_paradigm() -> None:
    tie = Pair("A cat sat.", "A sat cat.", "order", "syntax")
    model: Any = Longer()
    judged = judge(model, [*PAIRS, tie, PAIRS[0]], within_word=True)
    assert judged.overall == Accuracy("overall", 3, 5)  # a tie is wrong
    assert [phenomenon.whole for phenomenon in judged.phenomena] == [
        Accuracy("morphology", 2, 3),
        Accuracy("syntax", 1, 2),
    ]
    assert judged.phenomena[1].paradigms == [Accuracy("question", 1, 1), Accuracy("order", 0, 1)]
    numbers = as_numbers(judged)
    assert numbers["accuracy"] == 0.6
    assert numbers["paradigms"]["order"]["pairs"] == 1
    shown = table(judged)
    assert shown[1].split()[:3] == ["overall", "5", "60.0%"]
    assert [row.split()[0] for row in shown[1:]] == [
        "overall",
        "morphology",
        "agreement",
        "syntax",
        "question",
        "order",
    ]


@given(st.integers(1, 5000), st.floats(0, 1))
def test_the_interval_is_wilsons(pairs: int, share: float) -> None:
    """Its ends are the shares from which the one that was found is Z standard errors away."""
    found = Accuracy("any", round(share * pairs), pairs)
    low, high = found.interval
    assert -1e-12 <= low <= found.share + 1e-12 <= high + 2e-12 <= 1 + 3e-12
    for end in (low, high):
        assert abs(found.share - end) == pytest.approx(Z * np.sqrt(max(end * (1 - end), 0) / pairs), abs=1e-7)


@pytest.mark.skipif(not BLIMP.exists(), reason="BLiMP does not lie beside the project")
def test_blimp_is_read_as_it_comes() -> None:
    pairs = read_pairs(str(BLIMP))
    assert len(pairs) == 67_000
    assert len({pair.paradigm for pair in pairs}) == 67
    assert (
        len({pair.phenomenon for pair in pairs}) == 13
    )  # one more than in the paper, which adds s-selection to another
    assert sum(pair.good == pair.bad for pair in pairs) == 7


@pytest.mark.parametrize("name, more", [("gpt2-nano", []), ("bert-nano", ["--within-word"])])
def test_a_checkpoint_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, more: list[str]) -> None:
    (tmp_path / "suite.jsonl").write_text("".join(map(line, PAIRS)))
    asked = ["eval", name, "--suite", str(tmp_path / "suite.jsonl"), *more]
    assert cli.run(asked) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["overall", "3"]
    assert cli.run([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 3


def test_settings_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", "gpt2-nano", "--suite", "x.zip", "--data", "sotu"]) == 2
    assert "--suite" in capsys.readouterr().err
    assert cli.run(["eval", "gpt2-nano", "--suite", "x.zip", "--stride", "3"]) == 2
    assert "--suite" in capsys.readouterr().err
    assert cli.run(["eval", "gpt2-nano", "--within-word"]) == 2
    assert "--within-word is for --suite" in capsys.readouterr().err
