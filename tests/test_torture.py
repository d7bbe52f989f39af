"""A run that is killed again and again comes to the same end; and scripts/torture.py would notice if it did not."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from shrunk import shrunk

from zoo.train.run import to_yaml

SCRIPT = Path(__file__).parents[1] / "scripts" / "torture.py"
TEXT = "".join(f"The {n}th cat sat on the mat and slept until the dog came home.\n" for n in range(400))


@pytest.mark.slow
def test_three_kills(tmp_path: Path) -> None:
    """Of a run with two tasks, summed micro-batches and dropout."""
    specials = {role: f"<{role}>" for role in ("pad", "cls", "sep", "mask", "eod")}
    recipe = shrunk("bert-base", micro_rows=3).with_changes(
        tokenizer={"kind": "bytes", "size": 300, "specials": specials}
    )
    (tmp_path / "small.yaml").write_text(to_yaml(recipe))
    (tmp_path / "text.txt").write_text(TEXT)
    settings = ["train.updates=40", "train.evaluate_every=4", "train.evaluate_tokens=4096", "data.document=line"]
    command = [sys.executable, str(SCRIPT), "small.yaml", "--data", "text.txt", "--kills", "3"]
    command += [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert "3 kills (" in last
    assert "all equal to the run that was left alone" in last


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that are equal but for timings."""
    for name, speed in (("one", 1.0), ("other", 2.0)):
        folder = tmp_path / name / "checkpoints" / "step-00000001"
        folder.mkdir(parents=True)
        save_file({"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}, folder / "model.safetensors")
        lines = [{"step": step, "loss": 1.0, "tokens_per_second": speed} for step in (1, 2)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / name / "environment.json").write_text(name)
        (tmp_path / name / "sample.txt").write_text("text")
    return tmp_path / "one", tmp_path / "other"


def test_differences_are_named(runs: tuple[Path, Path]) -> None:
    differences = runpy.run_path(str(SCRIPT))["differences"]
    one, other = runs
    assert not list(differences(one, other))
    metrics = other / "metrics.jsonl"
    lines = metrics.read_text()
    metrics.write_text(lines.replace("1.0", "1.5"))
    assert "'loss': 1.5" in next(differences(one, other))
    metrics.write_text(lines + lines.splitlines()[-1])
    assert list(differences(one, other)) == ["metrics.jsonl: 2 and 3 lines"]
    metrics.write_text(lines)
    weights = {"a": np.zeros(3, np.float32), "b": np.array([1, 1 + 1e-7], np.float32)}
    save_file(weights, other / "checkpoints" / "step-00000001" / "model.safetensors")
    (other / "sample.txt").write_text("texts")
    shutil.copytree(one / "checkpoints" / "step-00000001", one / "checkpoints" / ".step-00000001.partial")
    assert list(differences(one, other)) == [
        f"only {one} has checkpoints/.step-00000001.partial/model.safetensors",
        "checkpoints/step-00000001/model.safetensors: 1 of 2 tensors, ['b']",
        "sample.txt",
    ]
