"""Whole runs on a small corpus: what they leave behind, how they go on, what they refuse."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shrunk import FAMILIES, shrunk

import zoo
from zoo import disk
from zoo.errors import Interrupted, RunFailed, UserError
from zoo.train import checkpoint
from zoo.train.telemetry import Display

WORDS = (
    "the",
    "a",
    "of",
    "house",
    "senate",
    "people",
    "war",
    "peace",
    "year",
    "law",
    "great",
    "nation",
    "union",
    "has",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Thirty documents of made-up sentences."""
    draws = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("text")
    for number in range(30):
        sentences = (" ".join(draws.choice(WORDS, 9)).capitalize() + "." for _ in range(12))
        (folder / f"{number:02d}.txt").write_text(" ".join(sentences))
    return folder


SPECIALS = {role: f"<{role}>" for role in ("pad", "cls", "sep", "mask", "eod", "bos")}
PAIRS = [(f"the law {n}", f"a law {n}") for n in range(200)]


QUICK = ("bert-base", "summed micro-batches")


def small(name, **train):
    """A family's recipe shrunk, on bytes, so that no tokenizer is trained."""
    tokenizer = {"kind": "bytes", "size": 300, "specials": SPECIALS}
    train = {"updates": 6, "evaluate_every": 3, "micro_rows": 3, **train}
    return shrunk(name, **train).with_changes(tokenizer=tokenizer)


def without_timings(history):
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in history]


def state(run, step):
    folder = checkpoint.folder_of(run.folder, step)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


KINDS = {
    "summed micro-batches": {},
    "one micro-batch": {"micro_rows": 8},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, one micro-batch": {"precision": "bfloat16", "micro_rows": 8},
}
PARTS = [
    pytest.param(name, train, id=f"{name}, {kind}", marks=() if (name, kind) == QUICK else pytest.mark.slow)
    for name in FAMILIES
    for kind, train in KINDS.items()
]


@pytest.mark.parametrize("name, train", PARTS)
def test_a_run_in_two_parts_equals_a_run_in_one(name, train, text, tmp_path):
    """With dropout everywhere; BERT's rows are pairs of sentences. As if the run had died in its sixth update."""
    recipe, corpus = small(name, checkpoint_every=4, **train), PAIRS if name == "transformer-base" else text
    one = zoo.pretrain(recipe, corpus, tmp_path / "one")
    shutil.copytree(one.folder, tmp_path / "two")
    shutil.rmtree(checkpoint.folder_of(tmp_path / "two", 6))
    two = zoo.pretrain(recipe, corpus, tmp_path / "two", resume=True)
    assert without_timings(one.history) == without_timings(two.history)
    assert state(one, 6) == state(two, 6)


def test_what_a_run_leaves_behind(text, tmp_path, capsys):
    run = zoo.pretrain(small("bert-base", checkpoint_every=2, keep_checkpoints=2), text, tmp_path / "run")
    capsys.readouterr()
    names = {p.name for p in run.folder.iterdir() if not p.name.startswith(".")}
    assert {"recipe.yaml", "environment.json", "tokenizer.json", "metrics.jsonl", "checkpoints"} <= names
    assert list(checkpoint.found(run.folder)) == [6, 4]
    train = [line for line in run.history if line["split"] == "train"]
    valid = [line for line in run.history if line["split"] == "valid"]
    assert [line["step"] for line in train] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in valid] == [3, 6]
    assert train[-1]["tokens"] == 6 * 192
    for line in run.history:
        assert line["loss"] == pytest.approx(line["masked"] + line["next_sentence"])
    for key in ("learning_rate", "grad_norm", "tokens_per_second"):
        assert all(line[key] > 0 for line in train)
    stored = zoo.recipe(run.folder / "recipe.yaml")
    assert stored.train.precision == "float32"
    assert stored.data.corpus == str(text)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["versions"]["zoo"] == zoo.__version__
    weights = load_file(checkpoint.folder_of(run.folder, 6) / "model.safetensors")
    assert "blocks.1.attend.q.kernel" in weights
    assert "objective.pooler.kernel" in weights


@pytest.mark.slow
def test_every_objective_learns_and_loads(text, tmp_path):
    for name in ("gpt2-small", "bert-base", "xlnet-base"):
        recipe = small(name, learning_rate=1e-2, clip_norm=1.0).with_changes(
            train={"updates": 60, "evaluate_every": None}
        )
        recipe = recipe.with_changes(model={"dropout": 0.0, "attention_dropout": 0.0})
        run = zoo.pretrain(recipe, text, tmp_path / name)
        task = next(iter(run.load().learner.objective.scales))
        assert run.history[0][task] == pytest.approx(np.log(300), rel=0.05)
        assert run.history[-1][task] < run.history[0][task] - 1.5
        logits = run.load().logits(np.array([[60, 61, 62], [80, 81, 0]]), doc=np.array([[1, 1, 1], [1, 1, 0]]))
        assert logits.shape == (2, 3, 300)
        assert logits.dtype == np.float32


def test_a_finished_run_has_nothing_left_to_do(text, tmp_path, capsys):
    recipe = small("gpt2-small")
    before = zoo.pretrain(recipe, text, tmp_path / "run")
    capsys.readouterr()
    after = zoo.pretrain(recipe, text, tmp_path / "run", resume=True)
    assert after.history == before.history
    assert "nothing is left to do" in capsys.readouterr().err


def test_resume_starts_where_there_is_nothing(text, tmp_path):
    run = zoo.pretrain(small("gpt2-small"), text, tmp_path / "new", resume=True, stop_at=1)
    assert [line["step"] for line in run.history] == [1]


@pytest.fixture(scope="module")
def started(text, tmp_path_factory):
    """A run that stopped early; tests below must leave it as it is."""
    return zoo.pretrain(small("gpt2-small"), text, tmp_path_factory.mktemp("runs") / "started", stop_at=2)


def refuse(match, *arguments, **options):
    with pytest.raises(UserError, match=match) as caught:
        zoo.pretrain(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_another_run_in_the_same_folder_is_refused(started, text):
    refuse("already holds a run", small("gpt2-small"), text, started.folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"train": {"learning_rate": 0.5}}, r"train.learning_rate \(was 0.0006, now 0.5\)"),
        ({"model": {"layers": 3}}, "model.layers"),
        ({"objective": {"name": "masked"}}, "objective.name"),
        ({"data": {"rows": "document"}}, "data.rows"),
    ],
)
def test_resume_with_another_setting_names_it(started, text, change, named):
    recipe = small("gpt2-small").with_changes(**change)
    refuse(named, recipe, text, started.folder, resume=True)


def test_resume_with_other_updates_is_refused(started, text):
    refuse("train.updates", small("gpt2-small"), text, started.folder, resume=True, updates=9)


def test_resume_with_another_corpus_is_refused(started, tmp_path):
    (tmp_path / "other.txt").write_text("Something else. " * 300)
    refuse("another corpus", small("gpt2-small"), tmp_path / "other.txt", started.folder, resume=True)


def test_a_folder_with_other_files_is_refused(text, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refuse("not a run's", small("gpt2-small"), text, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_refused_corpus_leaves_no_folder(tmp_path):
    refuse("nowhere", small("gpt2-small"), tmp_path / "nowhere.txt", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"updates": 0}, "--updates is 0"),
        ({"stop_at": -1}, "--stop-at is -1"),
        ({"minutes": 0}, "--minutes is 0"),
        ({"minutes": 1, "updates": 5}, "exclude each other"),
    ],
)
def test_numbers_that_cannot_be(options, named, text, tmp_path):
    refuse(named, small("gpt2-small"), text, tmp_path / "run", **options)


def test_too_few_minutes_names_settings_that_would_do(text, tmp_path):
    recipe = small("gpt2-small").with_changes(train={"tokens_per_update": 24 * 4000, "micro_rows": 8})
    refuse("--set train.tokens_per_update=", recipe, text, tmp_path / "run", minutes=0.02)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.slow
def test_minutes_are_fitted_and_stored(text, tmp_path):
    recipe = small("gpt2-small").with_changes(train={"warmup_updates": 1000})
    run = zoo.pretrain(recipe, text, tmp_path / "run", minutes=2, stop_at=2)
    stored = zoo.recipe(run.folder / "recipe.yaml").train
    assert stored.updates >= 50
    assert stored.warmup_updates <= stored.updates // 10
    fresh = zoo.pretrain(zoo.recipe(run.folder / "recipe.yaml"), text, tmp_path / "fresh", stop_at=2)
    assert without_timings(fresh.history) == without_timings(run.history)  # measuring left no trace
    again = zoo.pretrain(recipe, text, run.folder, minutes=2, resume=True, stop_at=3)
    assert zoo.recipe(again.folder / "recipe.yaml").train == stored


def test_a_disk_too_full_for_a_checkpoint_is_refused(text, tmp_path, monkeypatch):
    from zoo.train import run

    monkeypatch.setattr(run.shutil, "disk_usage", lambda folder: run.shutil._ntuple_diskusage(10**9, 10**9, 1000))
    refuse("a checkpoint needs .* MB and .* has 0 MB free", small("gpt2-small"), text, tmp_path / "run")


def test_a_loss_that_is_not_finite_names_its_update(text, tmp_path):
    recipe = small("gpt2-small", learning_rate=1e30, clip_norm=None)
    with pytest.raises(RunFailed, match=r"update [2-4] had a loss"):
        zoo.pretrain(recipe, text, tmp_path / "run")


def test_init_from_takes_weights_and_tokenizer(started, text, tmp_path, capsys):
    recipe = small("gpt2-small").with_changes(model={"layers": 3})
    capsys.readouterr()
    run = zoo.pretrain(recipe, text, tmp_path / "run", init_from=started.folder, stop_at=1)
    told = capsys.readouterr().err
    assert "weights and the tokenizer taken" in told
    assert "fresh: blocks.2." in told
    assert (run.folder / "tokenizer.json").read_text() == (started.folder / "tokenizer.json").read_text()


def test_texts_and_data_frames_are_corpora(tmp_path):
    import pandas

    texts = [" ".join(WORDS) + f" number {n}." for n in range(40)]
    one = zoo.pretrain(small("gpt2-small"), texts, tmp_path / "one", stop_at=1)
    frame = pandas.DataFrame({"text": texts})
    two = zoo.pretrain(small("gpt2-small"), frame, tmp_path / "two", stop_at=1)
    assert one.history[0]["loss"] == two.history[0]["loss"]


# --- what is saved on the way, and how a run goes on from it


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(text, tmp_path, capsys):
    """Which is also how a run looks that was killed: metrics.jsonl is ahead of the newest whole checkpoint."""
    recipe = small("gpt2-small", checkpoint_every=2, keep_checkpoints=1, keep_every=4, evaluate_every=2)
    whole = zoo.pretrain(recipe, text, tmp_path / "run")
    kept, expected, sample = list(checkpoint.found(whole.folder)), state(whole, 6), whole.sample
    best = min((line for line in whole.history if line["split"] == "valid"), key=lambda line: line["loss"])["step"]
    assert set(kept) == {best, 4, 6}
    (checkpoint.folder_of(whole.folder, 6) / "state.json").write_text("{}")
    (whole.folder / "sample.txt").unlink()
    capsys.readouterr()
    again = zoo.pretrain(recipe, text, whole.folder, resume=True)
    assert "damaged-step-00000006" in capsys.readouterr().err
    assert state(again, 6) == expected
    assert without_timings(again.history) == without_timings(whole.history)
    assert again.sample == sample
    assert list(checkpoint.found(again.folder)) == kept


def test_a_checkpoint_is_written_while_training_goes_on(text, tmp_path, monkeypatch):
    """And metrics.jsonl is on the disk, with all lines up to its step, before it has its name."""
    flush, rename, done, behind = disk.flush, os.rename, [], []

    def flushed(path):
        done.append(path.name)
        flush(path)

    def renamed(old, new):
        if new.name.startswith("step"):
            lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
            steps = [json.loads(line)["step"] for line in lines if json.loads(line)["split"] == "train"]
            assert steps[-1] >= int(new.name[-8:])
            assert done[done.index("metrics.jsonl") :].count("model.safetensors") == 1
            done.clear()
            behind.append(threading.current_thread() is not threading.main_thread())
        rename(old, new)

    monkeypatch.setattr(disk, "flush", flushed)
    monkeypatch.setattr(disk.os, "rename", renamed)
    zoo.pretrain(small("gpt2-small", checkpoint_every=2, keep_checkpoints=9), text, tmp_path / "run")
    assert behind == [True, True, True]


@pytest.mark.slow
def test_a_checkpoint_comes_with_time(text, tmp_path):
    recipe = small("gpt2-small", checkpoint_minutes=1e-9, keep_checkpoints=9)
    assert 1 in checkpoint.found(zoo.pretrain(recipe, text, tmp_path / "run", stop_at=3).folder)


def test_tensors_of_another_version_are_refused(started, text, tmp_path):
    shutil.copytree(started.folder, tmp_path / "run")
    newest = checkpoint.folder_of(tmp_path / "run", 2)
    weights = load_file(newest / "model.safetensors")
    weights["blocks.0.gate"] = weights.pop("blocks.0.attend.q.bias")
    save_file(weights, newest / "model.safetensors")
    (newest / "MANIFEST.json").unlink()
    disk.write_manifest(newest)
    refuse("do not fit its recipe", small("gpt2-small"), text, tmp_path / "run", resume=True)


@pytest.mark.slow
def test_a_disk_that_refuses_a_save_does_not_end_the_run(text, tmp_path, monkeypatch, capsys):
    write = checkpoint.write_tensors

    def full(arrays, file):
        if any(f"{step:08d}" in file.parent.name for step in refused):
            raise OSError(28, "No space left on device")
        write(arrays, file)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    recipe, refused = small("gpt2-small", checkpoint_every=2, evaluate_every=None), [4]
    run = zoo.pretrain(recipe, text, tmp_path / "run")
    assert "warning: the checkpoint after update 4 could not be written ([Errno 28] No space" in capsys.readouterr().err
    assert list(checkpoint.found(run.folder)) == [6, 2]
    refused.append(6)
    with pytest.raises(RunFailed, match=r"last checkpoint could not be written .*No space"):
        zoo.pretrain(recipe, text, tmp_path / "failed", stop_at=6)
    assert list(checkpoint.found(tmp_path / "failed")) == [2]
    refused.clear()
    after = zoo.pretrain(recipe, text, tmp_path / "failed", resume=True)
    assert state(after, 6) == state(run, 6)
    assert without_timings(after.history) == without_timings(run.history)


def test_what_a_run_began_with_is_not_needed_again(started, text, tmp_path):
    """Not even when the run was killed before its first checkpoint of its own."""
    recipe = small("gpt2-small").with_changes(train={"seed": 5, "evaluate_every": None})
    origin = tmp_path / "origin"
    shutil.copytree(started.folder, origin)
    whole = zoo.pretrain(recipe, text, tmp_path / "run", init_from=origin, stop_at=3)
    shutil.rmtree(origin)
    assert list(checkpoint.found(whole.folder)) == [3, 0]
    expected = state(whole, 3)
    shutil.rmtree(checkpoint.folder_of(whole.folder, 3))
    again = zoo.pretrain(recipe, text, tmp_path / "run", init_from=origin, stop_at=3, resume=True)
    assert state(again, 3) == expected
    assert without_timings(again.history) == without_timings(whole.history)


def interrupted(monkeypatch, updates):
    """SIGTERM comes after so many updates of the next run."""
    update = Display.update
    seen = []

    def interrupting(*arguments):
        update(*arguments)
        seen.append(1)
        if len(seen) == updates:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Display, "update", interrupting)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "--seed 7 --data texts/0?.txt",
        "--minutes 2 --stop-at 4 --data texts --set train.warmup_updates=1000",
        "--init-from ./origin --stop-at 4 --data texts",
        "--data texts --updates 5 --set data.valid=texts/29.txt",
    ],
)
def test_the_command_that_is_told_continues(options, started, text, tmp_path, monkeypatch, capsys):
    """From another folder, too, where the run is given by its absolute path."""
    from zoo import cli
    from zoo.train.run import to_yaml

    monkeypatch.chdir(tmp_path)
    shutil.copytree(text, "texts")
    shutil.copytree(started.folder, "origin")
    Path("small.yaml").write_text(to_yaml(small("gpt2-small")))
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    out = elsewhere / "a run"
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        assert cli.run(["pretrain", "small.yaml", "--out", str(out), *options.split()]) == 128 + signal.SIGTERM
    told = capsys.readouterr().err.splitlines()[-1]
    assert "saved after update 2 of " in told
    command = shlex.split(told.partition("to continue: ")[2])
    assert command[:2] == ["zoo", "pretrain"]
    monkeypatch.chdir(elsewhere)
    assert cli.run(command[1:]) == 0
    stopped = next(iter(checkpoint.found(out)))
    assert stopped == (4 if "--stop-at" in options else zoo.recipe(out / "recipe.yaml").train.updates)
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["split"] == "train"] == list(range(1, stopped + 1))


def test_how_to_continue_on_texts_from_memory_is_told(tmp_path, monkeypatch):
    texts = [" ".join(WORDS) + f" number {n}." for n in range(40)]
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        with pytest.raises(Interrupted, match="saved after update 2 of 6; to continue: ") as caught:
            zoo.pretrain(small("gpt2-small"), texts, tmp_path / "run", stop_at=3)
    line = str(caught.value).partition("to continue: ")[2].replace("the same texts", "texts")
    refuse("was in the memory of a Python process", tmp_path / "run" / "recipe.yaml", out=tmp_path / "run", resume=True)
    done = eval(line, {"zoo": zoo, "texts": texts})
    assert [line["step"] for line in done.history if line["split"] == "train"] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(text, tmp_path, number):
    recipe = tmp_path / "endless.yaml"
    from zoo.train.run import to_yaml

    recipe.write_text(to_yaml(small("gpt2-small").with_changes(train={"updates": 100000, "evaluate_every": None})))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "zoo", "pretrain", str(recipe), "--data", str(text), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.1)
    process.send_signal(number)
    printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (128 + number, ""), told
    assert "to continue: zoo pretrain " in told
    assert "--resume" in told.splitlines()[-1]
    assert "Traceback" not in told
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    saved = checkpoint.newest(out)
    assert saved.name == f"step-{lines[-1]['step']:08d}"
    more = str(lines[-1]["step"] + 2)
    subprocess.run([*command, "--resume", "--stop-at", more], check=True, capture_output=True)
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, int(more) + 1))
