"""Objectives side by side: equal budgets, the same evaluation, one report; what goes on and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shrunk import STILL, shrunk

import zoo
from zoo import accounting, cli, evaluations
from zoo.errors import UserError
from zoo.report.comparison import ALIKE, COMPARISON, REPORT, Budget, of_names, of_objectives
from zoo.train import run
from zoo.train.run import differences, to_yaml

BYTES = {
    "kind": "bytes",
    "size": 262,
    "lowercase": False,
    "specials": {"eod": "<end>", "mask": "<hidden>", "cls": "<c>", "sep": "<s>"},
}
PLAIN = {"rows": "packed", "reuse": None, "bidirectional": False, "row_tokens": 24, "across_documents": True}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(" ".join(f"The {n}th law of the {n % 7} nations has {n * n} parts." for n in range(60)))
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipes of a causal and a masked model, on the same rows."""
    folder, made = tmp_path_factory.mktemp("recipes"), {}
    for name, known in (("left", "gpt2-small"), ("both", "bert-base")):
        own = {"next_sentence": False} if name == "both" else {}
        recipe = shrunk(known, {"segments": 0, **STILL}, evaluate_every=2).with_changes(
            tokenizer=BYTES, data=PLAIN, objective=own
        )
        made[name] = folder / f"{name}.yaml"
        made[name].write_text(to_yaml(recipe.model_copy(update={"expect": None})))
    return made


@pytest.fixture(scope="module")
def compared(files: dict[str, Path], text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A comparison that ran through, and its command."""
    out = tmp_path_factory.mktemp("compared") / "out"
    suite = text.parent / "suite.jsonl"
    suite.write_text(json.dumps({"sentence_good": "The law.", "sentence_bad": "Law the."}) + "\n")
    command = ["compare", str(files["left"]), str(files["both"]), "--tokens", "1.152K", "--data", str(text)]
    command += ["--suite", str(suite)]
    assert cli.run([*command, "--out", str(out)]) == 0
    return out, command


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in zoo.load(folder).learner.weights.items()}


def test_budgets_are_equal_and_schedules_keep_their_shape() -> None:
    recipe = shrunk("gpt2-small", updates=100, warmup_updates=10, evaluate_every=50)
    assert recipe.train.tokens_per_update == 192
    given = Budget(tokens=192 * 40).given(recipe).train
    assert (given.updates, given.warmup_updates, given.evaluate_every) == (40, 4, 20)
    cost = accounting.flops(recipe).per_token * 192
    assert Budget(flops=cost * 30.4).given(recipe).train.updates == 30
    assert Budget().given(recipe) == recipe
    # evaluations on the way read 1% of the budget, or what the recipe says where that is less
    assert Budget(tokens=192 * 400).given(recipe).train.evaluate_tokens == 192 * 4
    sampled = recipe.with_changes(train={"evaluate_tokens": 500})
    assert Budget(tokens=192 * 400).given(sampled).train.evaluate_tokens == 500
    assert Budget(flops=cost * 100).given(sampled).train.evaluate_tokens == 192
    assert Budget(tokens=192).given(recipe).train.evaluate_every == 1
    with pytest.raises(UserError, match=r"--tokens 90 is less than half an update of gpt2-small, which takes 192"):
        Budget(tokens=90).given(recipe)
    with pytest.raises(UserError, match=r"--flops 10 is less than half an update of gpt2-small, which takes"):
        Budget(flops=10).given(recipe)


def test_only_the_objective_differs() -> None:
    names = ["causal", "masked", "permutation"]
    members = of_objectives("gpt2-nano", names, {}, Budget(tokens=5e6), 2, Path("out"))
    labels = [f"gpt2-nano-{name}-seed{seed}" for name in names for seed in (0, 1)]
    assert [member.folder for member in members] == [Path("out") / label for label in labels]
    first, *others = [member.recipe.model_dump(exclude={"name"}) for member in members if member.recipe]
    for one in others:
        changed = {
            key.partition(" ")[0].partition(".")[0] for key in differences(first, {**one, "train": first["train"]})
        }
        assert changed <= {"objective", "expect"}
        assert {**one["train"], "seed": 0} == first["train"]
    assert [member.recipe.objective["name"] for member in members[::2] if member.recipe] == names
    with pytest.raises(UserError, match="there is no objective 'maskd'; did you mean 'masked'"):
        of_objectives("gpt2-nano", ["maskd"], {}, Budget(), 1, Path("out"))


def test_all_are_trained_and_measured_alike(compared: tuple[Path, list[str]]) -> None:
    out, _ = compared
    for name, scored, bits in (("left", "log-likelihood", "bits"), ("both", "pseudo-log-likelihood", "pseudo_bits")):
        last = run.read_metrics(out / name)[-1]
        assert last["step"] == 6  # 1,152 tokens of 192
        kept = evaluations.read(out / name)
        text, (suite,) = kept["text"][ALIKE], kept["suite"].values()
        assert text["step"] == suite["step"] == 6
        low, high = text[f"{bits}_per_byte_interval"]
        assert low < text[f"{bits}_per_byte"] < high
        assert (suite["score"], suite["pairs"]) == (scored, 1)
    page = (out / REPORT).read_text()
    assert "left" in page
    assert "pseudo" in page
    assert (out / "left" / "tokenizer.json").read_bytes() == (out / "both" / "tokenizer.json").read_bytes()


def test_asked_again_nothing_is_done_twice(compared: tuple[Path, list[str]], capsys: Any) -> None:
    out, command = compared
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in (REPORT, ".lock", run.METRICS)]
    before = {path: path.stat().st_mtime_ns for path in files}
    lines = {name: run.read_metrics(out / name) for name in ("left", "both")}
    capsys.readouterr()
    assert cli.run([*command, "--out", str(out)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert {name: run.read_metrics(out / name) for name in lines} == lines
    assert told[0].startswith("left: loss ")
    assert "both: loss " in told[1]
    assert "pseudo bits per byte" in told[1]
    assert told[-1] == str(out / REPORT)


@pytest.mark.slow
def test_what_was_interrupted_goes_on(
    compared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, command = compared
    from zoo.train import pretrain as trained

    real = trained.pretrain

    def interrupted(*given: Any, **named: Any) -> Any:
        real(*given, **named, stop_at=3)
        raise KeyboardInterrupt

    monkeypatch.setattr(trained, "pretrain", interrupted)
    out = tmp_path / "out"
    assert cli.run([*command, "--out", str(out)]) == 130
    assert (out / COMPARISON).is_file()
    assert not (out / REPORT).exists()
    monkeypatch.setattr(trained, "pretrain", real)
    assert cli.run([*command, "--out", str(out)]) == 0
    for name in ("left", "both"):
        mine, theirs = weights(out / name), weights(whole / name)
        assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)


def test_runs_that_are_there_are_taken_with_a_warning_where_they_differ(
    compared: tuple[Path, list[str]], tmp_path: Path, capsys: Any
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(" ".join(f"A {n} is no {n + 1}, and the {n} knows." for n in range(70)))
    recipe = shrunk("gpt2-small", STILL, updates=5).with_changes(tokenizer=BYTES, data=PLAIN)
    zoo.pretrain(recipe, other, tmp_path / "mine", stop_at=2)
    capsys.readouterr()
    taken = str(compared[0] / "left")
    assert cli.run(["compare", taken, str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "out" / REPORT)
    assert "warning: " in err
    assert "text.txt" in err
    assert "other.txt" in err
    page = (tmp_path / "out" / REPORT).read_text()
    assert "other.txt" in page
    assert "at update 2 of 5" in page


@pytest.mark.parametrize(
    "given, told",
    [
        ([], "what is compared is either NAME..., or --base NAME with --objectives A,B"),
        (["gpt2-nano", "--base", "gpt2-nano"], "what is compared is either"),
        (["--base", "gpt2-nano"], "what is compared is either"),
        (["gpt2-nano", "bert-nao"], "there is no recipe 'bert-nao'; did you mean 'bert-nano'"),
        (["gpt2-nano", "gpt2-nano"], "a run stands twice among"),
        (["gpt2-nano", "--tokens", "5M", "--flops", "1e9"], "--tokens and --flops are two budgets; give one"),
        (["gpt2-nano", "--tokens", "many"], "'many' is no number of 1 or more, such as 5M, 1.5B or 1e15"),
        (["gpt2-nano", "--tokens", "0"], "'0' is no number of 1 or more"),
        (["gpt2-nano", "--seeds", "0"], "'0' is not a whole number of 1 or more"),
        (["--base", "xlnet-nano", "--objectives", "causal"], "takes no rows of two parts"),
    ],
)
def test_what_cannot_be_compared(given: list[str], told: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert cli.run(["compare", *given, "--out", str(out)]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_is_kept_for_its_comparison(compared: tuple[Path, list[str]], tmp_path: Path, capsys: Any) -> None:
    out, command = compared
    changed = [word if word != "1.152K" else "2K" for word in command]
    assert cli.run([*changed, "--out", str(out)]) == 2
    assert "runs.both.train.updates (was 6, now 10)" in capsys.readouterr().err
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / COMPARISON).write_text((out / COMPARISON).read_text()[:30])
    assert cli.run([*command, "--out", str(tmp_path / "cut")]) == 2
    assert "comparison.json' cannot be read" in capsys.readouterr().err
    (tmp_path / "own.txt").write_text("mine")
    assert cli.run([*command, "--out", str(tmp_path)]) == 2
    assert "holds files that are not a comparison's" in capsys.readouterr().err
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert cli.run([*command[:-1], str(empty), "--out", str(tmp_path / "new")]) == 2
    assert "there is no pair in it" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_name_is_a_recipe_and_a_folder_a_run(compared: tuple[Path, list[str]], files: dict[str, Path]) -> None:
    out, _ = compared
    members = of_names([str(out / "left"), str(files["both"])], {}, Budget(), 1, Path("there"))
    assert members[0] == (out / "left", None)
    assert members[1].folder == Path("there/both")
    assert members[1].recipe is not None
