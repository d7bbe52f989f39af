"""Losses of a trained model on held-out text, with lengths of their own."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from shrunk import shrunk

import zoo
from zoo import cli
from zoo.errors import UserError
from zoo.use.evaluate import evaluate

BYTES = {"kind": "bytes", "size": 260, "specials": {"eod": "<end>"}}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(" ".join(f"The {n}th law of the {n % 7} nations has {n * n} parts." for n in range(120)))
    return file


@pytest.fixture(scope="module")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    recipe = shrunk("transformer-xl-nano", {"init_std": 0.2}, tokens_per_update=96, streams=4).with_changes(
        tokenizer=BYTES, evaluation={"row_tokens": 12, "memory": 16, "streams": 2}
    )
    return zoo.pretrain(recipe, text, tmp_path_factory.mktemp("run") / "run")


def test_a_run_is_evaluated_as_it_was(run: Any) -> None:
    (valid,) = [line for line in run.history if line["split"] == "valid"]
    found = evaluate(run.folder)
    assert found["loss"] == pytest.approx(valid["loss"], rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["bits_per_character"] == pytest.approx(found["loss"] / math.log(2))
    assert found["bits_per_byte"] == pytest.approx(found["bits_per_character"], rel=0.01)  # but for the end of the text


def test_the_segmentation_changes_nothing_where_all_look_equally_far(run: Any) -> None:
    """The published evaluation: windows of one length, whatever is read at once."""
    settings = {"memory": 9, "same_length": True, "streams": 2}
    first, *others = [evaluate(run.folder, row_tokens=tokens, **settings)["loss"] for tokens in (1, 5, 9, 24)]
    assert others == pytest.approx([first] * 3, rel=1e-6)
    assert evaluate(run.folder, row_tokens=5, **settings | {"memory": 3})["loss"] != pytest.approx(first, rel=1e-6)
    assert evaluate(run.folder, row_tokens=5, **settings, clamp=2)["loss"] != pytest.approx(first, rel=1e-6)


def test_a_text_of_one_s_own_is_evaluated_as_a_whole(run: Any, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "own.txt"
    file.write_text("The people has a law. " * 12)
    command = ["eval", str(run.folder), "--data", str(file), "--set", "evaluation.streams=1", "--json"]
    capsys.readouterr()
    assert cli.run(command) == 0
    told = json.loads(capsys.readouterr().out)
    # every character and the end of the text, but for the first, which nothing stands before
    assert told == evaluate(run.folder, file, streams=1)
    assert told["bits_per_byte"] == pytest.approx(told["bits_per_character"] * (22 * 12 + 1) / (22 * 12))


@pytest.mark.parametrize(
    "settings, told",
    [
        (["model.width=8"], "zoo eval reads a model that is made: --set takes keys of evaluation, not of model"),
        (["evaluation.memry=8"], "unknown key 'evaluation.memry'; did you mean 'memory'?"),
        (["evaluation.row_tokens=0"], "evaluation.row_tokens is 0: input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_asked(run: Any, settings: list[str], told: str, capsys: Any) -> None:
    capsys.readouterr()
    assert cli.run(["eval", str(run.folder), *(word for one in settings for word in ("--set", one))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1


def test_a_corpus_needs_a_tokenizer(run: Any, tmp_path: Path) -> None:
    for name in ("recipe.yaml", "environment.json", "checkpoints", "metrics.jsonl"):
        (tmp_path / name).symlink_to(run.folder / name)
    with pytest.raises(UserError, match=r"has no tokenizer.json, and a corpus is text"):
        evaluate(tmp_path)
