"""Trained models are found by folder and by name, and are whole or refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shrunk import shrunk

import zoo
from zoo import disk, registered
from zoo.errors import UserError
from zoo.saved import open_saved
from zoo.tensors import TensorFile, write_tensors

TEXTS = [f"the house of the people has a law, number {n} of the great nation." for n in range(40)]
SPECIALS = {role: f"<{role}>" for role in ("pad", "cls", "sep", "mask", "eod")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two updates."""
    recipe = shrunk("gpt2-small", updates=2).with_changes(
        tokenizer={"kind": "bytes", "size": 290, "specials": SPECIALS}
    )
    return zoo.pretrain(recipe, TEXTS, tmp_path_factory.mktemp("runs") / "run").folder


@pytest.fixture
def named(trained, zoo_home):
    return registered.register(open_saved(trained), "mine")


def same(a, b):
    return all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights) and len(a.weights) == len(
        b.weights
    )


def test_a_run_its_checkpoint_and_its_copy_are_one_model(trained, named):
    run = open_saved(trained)
    assert same(run, open_saved(trained / "checkpoints/step-00000002"))
    assert same(run, open_saved("mine"))
    assert same(run, open_saved(str(named)))
    assert open_saved("mine").recipe == run.recipe
    assert open_saved("mine").facts == run.facts
    assert run.facts["step"] == 2
    assert run.facts["valid"]["split"] == "valid"


def test_a_model_loaded_by_name_computes_what_the_run_does(trained, named):
    token = np.arange(12).reshape(2, 6)
    assert np.array_equal(zoo.load("mine").logits(token), zoo.load(trained).logits(token))


def test_a_name_is_given_once(trained, named):
    with pytest.raises(UserError, match="'mine' is taken by a registered checkpoint"):
        registered.register(open_saved(trained), "mine")
    with pytest.raises(UserError, match="'gpt2-small' is taken by a published checkpoint"):
        registered.register(open_saved(trained), "gpt2-small")


@pytest.mark.parametrize("name", ["", "a/b", "..", "../up", "-x", "hf:a", "ä", "a b"])
def test_a_name_that_could_be_a_path_is_refused(trained, zoo_home, name):
    with pytest.raises(UserError, match="cannot be a checkpoint's name"):
        registered.register(open_saved(trained), name)


def test_a_broken_recipe_is_in_nobodys_way(named, tmp_path, monkeypatch):
    (tmp_path / "broken.yaml").write_text("model: 3")
    monkeypatch.setenv("ZOO_RECIPES", str(tmp_path))
    assert open_saved("mine").where == str(named)
    with pytest.raises(UserError, match=r"broken\.yaml"):
        open_saved("gpt2-small")  # a published one: only its recipe tells where it lies


def test_an_unknown_name_has_near_misses(named):
    with pytest.raises(UserError, match="no checkpoint 'mein'; did you mean 'mine'"):
        open_saved("mein")


def test_a_folder_of_that_name_is_pointed_to(named, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint 'other'; the folder is \./other"):
        open_saved("other")


def test_a_damaged_copy_is_named(named):
    (named / "recipe.yaml").write_text("model: {}")
    with pytest.raises(UserError, match=r"mine is damaged \(recipe\.yaml has"):
        open_saved("mine")


def test_a_checkpoint_needs_its_run(trained, tmp_path):
    shutil.copytree(trained / "checkpoints/step-00000002", tmp_path / "alone")
    with pytest.raises(UserError, match="is a checkpoint without its run"):
        open_saved(tmp_path / "alone")


def test_weights_that_do_not_fit_are_named(named):
    weights = dict(TensorFile(named / "model.safetensors"))
    weights["blocks.0.attend.q.kernel"] = weights["blocks.0.attend.q.kernel"][:-1]
    del weights["final_norm.bias"]
    weights["blocks.9.attend.q.bias"] = np.zeros(3, np.float32)
    write_tensors(weights, named / "model.safetensors")
    (named / disk.MANIFEST).unlink()
    disk.write_manifest(named)
    with pytest.raises(UserError) as refused:
        open_saved("mine")
    told = str(refused.value)
    assert "missing final_norm.bias" in told
    assert "extra blocks.9.attend.q.bias" in told
    assert "blocks.0.attend.q.kernel is [19, 20] and must be [20, 20]" in told


def test_half_precision_is_read_back(trained, tmp_path):
    saved = open_saved(trained)
    half = open_saved(registered.write(saved, tmp_path / "half", dtype="bfloat16"))
    token = np.arange(12).reshape(2, 6)
    close = zoo.load(tmp_path / "half").logits(token) - zoo.load(trained).logits(token)
    assert 0 < np.abs(close).max() < 0.02
    assert sum(value.nbytes for value in half.weights.values()) * 2 == sum(v.nbytes for v in saved.weights.values())


def test_others_may_read_weights_as_they_may_read_what_lies_beside_them(named):
    modes = {file.name: file.stat().st_mode for file in named.iterdir()}
    assert modes["model.safetensors"] == modes["recipe.yaml"]


def test_sizes_in_a_header_are_checked_against_the_file(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(UserError, match="cannot be read"):
        TensorFile(tmp_path / "x.safetensors")


def test_what_is_shipped_is_whole_and_small():
    folders = [path for path in registered.SHIPPED.iterdir() if path.is_dir()]
    assert {path.name for path in folders} >= {"gpt2-nano", "bert-nano", "xlnet-nano"}
    for folder in folders:
        saved = open_saved(folder)
        assert saved.recipe.model_dump(exclude={"train"}) == zoo.recipe(folder.name).model_dump(exclude={"train"})
        assert saved.facts["commit"]
        assert saved.facts["valid"]["loss"] > 0
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) <= 20e6


@pytest.mark.slow
def test_the_commands(trained, tmp_path):
    """Register, generate, fill, score: as processes, their results on stdout."""

    def run(*arguments, code=0):
        command = [sys.executable, "-m", "zoo", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    assert run("register", str(trained), "--name", "by-command").strip().endswith("by-command")
    assert "by-command" in run("checkpoints")
    texts = run("generate", "by-command", "--prompt", "the", "--prompt", "a law", "--tokens", "5").split("\n\n")
    assert [text[:3] for text in texts] == ["the", "a l"]
    (tmp_path / "lines.txt").write_text("the house\n\na law\n")
    scores = run("score", "by-command", "lines.txt").splitlines()
    assert [line.split("\t")[1] for line in scores] == ["the house", "a law"]
    assert all(float(line.split("\t")[0]) < 0 for line in scores)
    assert "fills no blanks" in run("fill", "by-command", "a [MASK]", code=2)
    assert "'none.txt' cannot be read" in run("score", "by-command", "none.txt", code=2)
    assert "did you mean 'by-command'" in run("generate", "by-comand", "--prompt", "x", code=2)
    assert "reads at most 24" in run("generate", "by-command", "--prompt", "x" * 40, code=2)
    shutil.rmtree(Path(run("register", str(trained), "--name", "gone").strip()))


def test_the_shape_of_the_folder_decides_not_its_name(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained.parent)
    assert open_saved("./run").recipe == open_saved(trained).recipe
    with pytest.raises(UserError, match="no run, checkpoint or Hugging Face folder"):
        open_saved(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no whole checkpoint"):
        open_saved(tmp_path)
