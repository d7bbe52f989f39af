"""Reference curves: what comes with the zoo, how it is made, and how a run is judged by it."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.cli import run as command
from zoo.registered import SHIPPED
from zoo.report import reference
from zoo.report.reference import FOLDER, POINTS, compare, references
from zoo.saved import read_facts
from zoo.train import run as runs

ROOT = Path(__file__).parent.parent
TEXT = "a fingerprint"


def losses(updates, seed, faster=1.0):
    """A loss that falls from 8 to 4, with noise of its own for every seed."""
    noise = np.random.default_rng(seed).normal(0, 0.1, updates)
    return 4 + 4 * np.exp(-5 * faster * np.arange(updates) / updates) + noise


def made(folder, name="gpt2-nano", *, seed=0, corpus=TEXT, steps=None, faster=1.0, **changes):
    """A run's folder as training leaves it; steps: how far it went."""
    recipe = zoo.recipe(name, **changes).with_changes(train={"seed": seed})
    updates = recipe.train.updates
    folder.mkdir()
    runs.write_recipe(folder, recipe)
    runs.write_environment(folder, corpus_fingerprint=corpus, device="CPU, 2 cores")
    lines = []
    for step, loss in enumerate(losses(updates, seed, faster)[:steps].tolist(), start=1):
        lines.append({"step": step, "split": "train", "loss": loss})
        if step % recipe.train.evaluate_every == 0 or step == updates:
            lines.append({"step": step, "split": "valid", "loss": loss + 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if steps is None:
        (folder / "sample.txt").write_text("We must\n")
    return folder


def make_curves(monkeypatch, *folders):
    spec = importlib.util.spec_from_file_location("make_curves", ROOT / "scripts" / "make_curves.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["make_curves.py", *map(str, folders)])
    script.main()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """References of our own: two seeds of gpt2-nano, one of bert-nano."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "curves")
    (tmp_path / "curves").mkdir()
    folders = [made(tmp_path / "one"), made(tmp_path / "two", seed=2), made(tmp_path / "bert", "bert-nano")]
    make_curves(monkeypatch, *folders)
    return tmp_path


def test_a_reference_has_means_of_all_updates_and_every_validation_loss(kept):
    found = references()["gpt2-nano"]
    assert list(found.seeds) == [0, 2]
    all_losses = losses(1400, 0)
    at = found.seeds[0].at
    assert len(at) == POINTS
    assert at[-1] == 1400
    expected = [all_losses[a:b].mean() for a, b in zip([0, *at[:-1]], at, strict=True)]
    np.testing.assert_allclose(found.seeds[0].train, expected, atol=1e-4)
    assert found.seeds[0].valid == pytest.approx({700: all_losses[699] + 0.5, 1400: all_losses[1399] + 0.5}, abs=1e-4)
    text = (reference.FOLDER / "gpt2-nano.json").read_text()
    assert len(text) < 6000
    assert str(kept) not in text  # no place of this machine
    assert found.made["command"] == "zoo pretrain gpt2-nano"
    apart = np.abs(found.seeds[0].train - found.seeds[2].train)
    assert found.spread.train == (pytest.approx(apart.max()), at[apart.argmax()])


def test_what_is_no_finished_run_of_equal_settings_makes_no_curve(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    one, half = made(tmp_path / "one"), made(tmp_path / "half", steps=700)
    other = made(tmp_path / "other", seed=1, train={"learning_rate": 1e-3})
    with pytest.raises(SystemExit, match="half has not finished"):
        make_curves(monkeypatch, half)
    with pytest.raises(SystemExit, match=r"train.learning_rate \(was 0.006, now 0.001\)"):
        make_curves(monkeypatch, one, other)
    assert not list(tmp_path.glob("*.json"))


def verdict(folder, capsys):
    assert command(["curves", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()[-1]


def test_a_run_that_learns_as_another_seed_does_is_the_same(kept, capsys):
    machine = {"precision": "bfloat16", "compile": "whole", "micro_rows": 2, "keep_every": 100, "save_at_words": [5]}
    run = made(kept / "any name", seed=5, train=machine)
    told = verdict(run, capsys)
    assert told.startswith("any name: the same: at most 0.")
    assert "in validation; seeds of gpt2-nano are 0." in told


def test_a_run_of_the_same_seed_is_compared_with_that_seed(kept):
    found = compare(kept / "two")
    assert found.seed == 2
    assert found.losses.apart(found.reference.seeds[2]).train[0] < 1e-4


def test_a_run_that_learns_more_slowly_is_not_the_same(kept, capsys):
    told = verdict(made(kept / "slow", seed=5, faster=0.6), capsys)
    assert told.startswith("slow: NOT the same: at most 0.")
    told = verdict(made(kept / "broken", seed=5, faster=float("nan")), capsys)
    assert told.startswith("broken: NOT the same: at most inf")


def test_a_run_in_progress_is_compared_as_far_as_it_went(kept, capsys):
    run = made(kept / "half", seed=5, steps=710)
    assert compare(run).losses.at.max() <= 710
    assert verdict(run, capsys).startswith("half: the same")
    assert "no verdict yet" in verdict(made(kept / "young", steps=3), capsys)
    (kept / "young" / "metrics.jsonl").write_text('{"step": 1, "spl')
    assert command(["curves", str(kept / "young")]) == 2
    assert "no update" in capsys.readouterr().err


def test_other_settings_are_named_and_not_judged(kept, capsys):
    told = verdict(made(kept / "wide", train={"learning_rate": 1e-3}, model={"layers": 2}), capsys)
    assert told == (
        "wide: no verdict: other settings than those of gpt2-nano:"
        " model.layers (was 4, now 2), train.learning_rate (was 0.006, now 0.001)"
    )
    told = verdict(made(kept / "text", corpus="another"), capsys)
    assert told.endswith("other settings than those of gpt2-nano: the text")


def test_where_one_seed_was_trained_the_spread_of_another_recipe_is_named(kept, capsys):
    assert "seeds of gpt2-nano are" in verdict(made(kept / "mine", "bert-nano", seed=3), capsys)
    (reference.FOLDER / "gpt2-nano.json").unlink()
    assert verdict(kept / "mine", capsys).endswith("how far other seeds are apart is not known")


def test_a_recipe_s_curves_are_shown(kept, capsys, tmp_path):
    assert command(["curves", "gpt2-nano", "--png", str(tmp_path / "look.png")]) == 0
    out = capsys.readouterr().out
    assert "zoo pretrain gpt2-nano" in out
    assert "SEED 0  SEED 2" in out
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")
    assert command(["curves", str(kept / "one"), "--png", str(tmp_path / "none" / "look.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_what_is_not_there_is_refused(kept, capsys):
    for given, told in (
        (["gpt2-nanoo"], "no reference curve of 'gpt2-nanoo'; did you mean 'gpt2-nano'"),
        ([str(kept / "none")], "holds no run"),
        (["--png", "look.png"], "--png is for one recipe or run"),
    ):
        assert command(["curves", *given]) == 2
        assert told in capsys.readouterr().err


def test_those_that_come_with_the_zoo_are_of_its_recipes_as_they_stand(capsys):
    """And their losses are those of the shipped checkpoints, but for what machines and versions make of one seed."""
    assert references()
    assert command(["curves"]) == 0
    listed = capsys.readouterr().out
    for name, one in references().items():
        assert name in listed
        assert one.differing(zoo.recipe(name), one.corpus) == []
        assert (FOLDER / f"{name}.json").stat().st_size < 8000
        last = one.recipe.train.updates
        assert one.seeds[0].valid[last] == pytest.approx(read_facts(SHIPPED / name)["valid"]["loss"], abs=0.02)
