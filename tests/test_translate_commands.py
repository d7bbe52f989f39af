"""`zoo translate` and `zoo parse`: lines in, lines out, and how good they are."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.cli import run
from zoo.corpus.trees import read_trees, words
from zoo.errors import UserError

PAIRS = [(f"line {n}", f"zeile {n}") for n in range(100)]
TREE = "( (S (NP (DT the) (NN {})) (VP (VBZ sleeps)) (. .)) )"


def small(name: str, **data: Any) -> Any:
    return zoo.recipe(name).with_changes(
        model={"width": 20, "heads": 2, "inner": 28, "context": 32, "layers": 1, "encoder_layers": 1},
        tokenizer={"size": 300},
        data={"row_tokens": 32, **data},
        train={"tokens_per_update": 64, "updates": 2, "warmup_updates": 1, "average_checkpoints": None},
    )


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.pretrain(small("transformer-nano"), PAIRS, tmp_path_factory.mktemp("runs") / "run").folder


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    file = folder / "train.mrg"
    file.write_text("\n".join(TREE.format(f"{a}{b}") for a in "abcdefgh" for b in "ijklmnop"))
    return zoo.pretrain(small("transformer-parse"), str(file), folder / "run").folder


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def test_a_file_is_translated_line_by_line_and_scored(translator: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "in").write_text(lines("line 1", "", "line 2\r", "a\u2028b"))
    (tmp_path / "right").write_text(lines("zeile 1", "", "zeile 2", "x"))
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert run(["translate", str(translator), *files, "--reference", str(tmp_path / "right"), "--beam", "2"]) == 0
    written = (tmp_path / "out").read_text().split("\n")
    assert len(written) == 5
    assert written[1] == written[4] == ""
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["BLEU", "BLEU", "chrF2"]
    assert "case:mixed" in told[0]
    assert "tok:13a" in told[0]
    assert "case:lc" in told[1]


def test_what_stands_on_standard_input_is_translated(translator: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"line 1\nline 2\n")))
    assert run(["translate", str(translator)]) == 0
    written = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert written == zoo.load(translator).translate(["line 1", "line 2"])


@pytest.mark.parametrize(
    "content, options, told",
    [
        (b"a\nb\n", ["--reference", "one"], "one has 1 lines and the input 2"),
        (b"a\n", ["--output", "no/where"], "'no/where' cannot be written: its folder is not there"),
        (b"\xff\n", [], "'in' is no UTF-8 text"),
        (b"a " * 40, [], "text 1 has"),
    ],
)
def test_input_that_cannot_be_used(
    translator: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, content: bytes, options: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").write_bytes(content)
    Path("one").write_text("a\n")
    assert run(["translate", str(translator), "--input", "in", *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zoo: ")]
    assert told in line


def test_trees_come_out_and_are_scored(parser: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "right.mrg").write_text(lines(TREE.format("ai"), TREE.format("zz")))
    files = ["--reference", str(tmp_path / "right.mrg"), "--output", str(tmp_path / "out.mrg")]
    assert run(["parse", str(parser), *files, "--beam", "2"]) == 0
    parsed = list(read_trees(tmp_path / "out.mrg"))
    assert [words(tree) for tree in parsed] == [["the", "ai", "sleeps", "."], ["the", "zz", "sleeps", "."]]
    told = capsys.readouterr()
    assert told.out.startswith("F1 ")
    assert "of 2 trees had to be repaired" in told.err


def test_each_side_of_a_treebank_has_its_tokenizer(parser: Path) -> None:
    assert {file.name for file in parser.glob("*tokenizer.json")} == {"tokenizer.json", "source_tokenizer.json"}
    model = zoo.load(parser)
    assert "(NP" in model.tokenizer.tokens(range(model.tokenizer.size))
    assert "sleeps" in model.source_tokenizer.tokens(range(model.source_tokenizer.size))
    assert "(NP" in (parser / "sample.txt").read_text()


def test_a_model_of_no_trees_parses_nothing(translator: Path) -> None:
    with pytest.raises(UserError, match="was not trained on trees"):
        zoo.load(translator).parse(["the cat"])


def test_a_corpus_without_trees(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sotu has no trees"):
        zoo.pretrain(small("transformer-parse"), out=tmp_path / "run")
    with pytest.raises(UserError, match=r"data\.document tree is for rows of parallel text"):
        zoo.recipe("gpt2-nano", data={"document": "tree"})
