"""The JAX engine computes what the TensorFlow engine does, and needs nothing of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax_side import MESHES, UPDATES, losses
from shrunk import FAMILIES, STILL, Bench

pytest.importorskip("jax", reason="the extra jax is not installed")
SIDE = Path(__file__).with_name("jax_side.py")
QUICK = "--xla_backend_optimization_level=0"  # compiling is most of what these tests do
OBJECTIVES = [*FAMILIES, "transformer-xl-wt103-base"]


def with_devices(count: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of so many virtual devices."""
    environment = {**os.environ, "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={count}"}
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)


def on_jax(*arguments: str | Path, devices: int = 1, side: Path = SIDE) -> Any:
    """What a function of tests/jax_side.py (or of another such file) finds."""
    done = with_devices(devices, sys.executable, side, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def losses_of(folder: Path) -> dict[tuple[int, str], float]:
    """What a run has in its metrics.jsonl."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(line["step"], line["split"]): line["loss"] for line in lines}


@pytest.mark.slow
def test_half_precision_has_whole_weights() -> None:
    """Losses differ by what a number of 8 bits is rounded by, 2^-9, and what is trained is float32."""
    here = losses(Bench("gpt2-small", 3, updates=UPDATES, precision="bfloat16"))
    there = on_jax("equality", "gpt2-small", "3", "{}", json.dumps({"precision": "bfloat16"}))
    for number in range(UPDATES):
        del here[number]["norm"], there[number]["norm"]
        assert there[number] == pytest.approx(here[number], rel=2**-9), f"update {number}"


@pytest.mark.parametrize("kind", ["causal", "full"])
def test_fused_attention_is_the_masked_one(kind: str) -> None:
    """Rows that are full, short, and padding alone."""
    differences = on_jax("attention", kind)
    assert differences.pop("called") == 1
    assert max(differences.values()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name, meshes", [(OBJECTIVES[0], MESHES), *((name, MESHES[-1:]) for name in FAMILIES[1:])])
def test_a_mesh_of_devices_changes_nothing(name: str, meshes: tuple[dict[str, int], ...]) -> None:
    """With dropout; rows of micro-batches are fewer than devices, so that some devices have rows of padding alone."""
    alone = on_jax("on_mesh", name, "{}", "8")
    for mesh in meshes:
        together = on_jax("on_mesh", name, json.dumps(mesh), "3", devices=8)
        assert set(together["compiled"]) == {1}, mesh
        assert together["losses"][0]["norm"] == pytest.approx(alone["losses"][0]["norm"], rel=1e-5), mesh
        for number in range(UPDATES):
            for task in alone["losses"][number].keys() - {"norm"}:
                here, there = (each["losses"][number][task] for each in (alone, together))
                assert there == pytest.approx(here, rel=1e-4), f"{mesh}, update {number}, {task}"
        assert len(set(together["bytes"].values())) == 1
        share = together["bytes"]["0"] / (4 * alone["parameters"])
        cut = mesh.get("fsdp", 1) * mesh.get("model", 1)
        assert 1 / cut <= share <= (1.0 if cut == 1 else 1.35 / cut), mesh


@pytest.mark.parametrize(
    "name, model, remat",
    [
        (OBJECTIVES[0], STILL, False),
        *(pytest.param(name, STILL, False, marks=pytest.mark.slow) for name in OBJECTIVES[1:]),
        pytest.param("bert-base", {}, False, marks=pytest.mark.slow),
        pytest.param("gpt2-small", {}, True, marks=pytest.mark.slow),
        pytest.param("xlnet-base", {}, "matmuls", marks=pytest.mark.slow),
    ],
)
def test_twenty_updates_have_the_same_losses(name: str, model: dict[str, float], remat: Any) -> None:
    """In micro-batches of 3 of 8 rows; with dropout too, whose noise is the same bits on both engines, and where blocks
    are run again."""
    here = losses(Bench(name, 3, model, updates=UPDATES))
    there = on_jax("equality", name, "3", json.dumps(model), json.dumps({"remat": remat}))
    # Later norms are those of weights that Adam has moved by the sign of rounding errors, where a gradient is zero.
    assert there[0]["norm"] == pytest.approx(here[0]["norm"], rel=1e-5)
    for number in range(UPDATES):
        del here[number]["norm"], there[number]["norm"]
        assert there[number] == pytest.approx(here[number], rel=1e-4), f"update {number}"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(f"{n} rivers, {n * n} bridges and {n % 7} roads lead to town {n}." for n in range(300)))
    return file


def zoo(
    *arguments: str, engine: str, stops: tuple[str, ...] = (), devices: int = 1
) -> subprocess.CompletedProcess[str]:
    """A command, in a process in which importing any of the packages `stops` fails."""
    script = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        assert name.split('.')[0] not in {stops!r}, name\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from zoo.cli import main\n"
        "main()\n"
    )
    return with_devices(devices, sys.executable, "-c", script, *arguments, "--engine", engine)


SMALL = ["--set", "tokenizer.size=300", "--set", "train.tokens_per_update=512", "--set", "train.warmup_updates=2"]
SMALL += ["--set", "model.width=32", "--set", "model.layers=2", "--set", "train.evaluate_every=4"]
SMALL += ["--set", "train.precision=float32"]  # auto is bfloat16 where there is AMX


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, first, second", [("bert-nano", "jax", "tensorflow"), ("transformer-xl-nano", "tensorflow", "jax")]
)
def test_a_run_started_on_one_engine_goes_on_on_the_other(
    name: str, first: str, second: str, text: Path, tmp_path: Path
) -> None:
    """With no import of TensorFlow, nor of PyTorch, wherever JAX trains; dropout is on."""
    found = {}
    for kind, engines in (("whole", [second]), ("both", [first, second])):
        folder = tmp_path / kind
        for part, engine in enumerate(engines, 1):
            stop = ["--stop-at", "4"] if part < len(engines) else []
            stops = ("tensorflow", "torch") if engine == "jax" else ("jax",)
            asked = ["pretrain", name, "--data", str(text), "--out", str(folder), "--updates", "8", "--resume", *stop]
            done = zoo(*asked, *SMALL, "--set", "model.dropout=0.1", engine=engine, stops=stops)
            assert done.returncode == 0, done.stderr[-3000:]
        found[kind] = losses_of(folder)
    assert [step for step, split in found["both"] if split == "train"] == list(range(1, 9))
    assert found["both"] == pytest.approx(found["whole"], rel=1e-4)


@pytest.mark.slow
def test_processes_share_a_mesh(text: Path, tmp_path: Path) -> None:
    """Two of two devices each, by jax.distributed, which have three rows of a micro-batch each; one is empty."""
    asked = ["--data", str(text), "--updates", "4", *SMALL, "--set", "model.dropout=0.1", "--set", "mesh.model=2"]
    asked += ["--set", "train.micro_rows=3", "--set", "data.row_tokens=64"]
    found = {}
    for kind, command in (("alone", ["pretrain", "gpt2-nano"]), ("two", ["launch", "gpt2-nano", "--workers", "2"])):
        done = zoo(*command, *asked, "--out", str(tmp_path / kind), engine="jax", devices=2)
        assert done.returncode == 0, done.stderr[-3000:]
        found[kind] = losses_of(tmp_path / kind)
    assert found["two"] == pytest.approx(found["alone"], rel=1e-4)


BAD = {
    ("--engine", "jaks"): "--engine is 'jaks'; allowed: jax, tensorflow",
    ("--set", "mesh.data=3", "--set", "mesh.model=2"): "devices",
    ("--set", "mesh.model=3"): "mesh.model 3 does not divide model.heads 4; nearest that does: 2",
    ("--set", "mesh.rows=3"): "rows",
}


@pytest.mark.parametrize("given", BAD, ids=str)
def test_bad_input_is_told_in_a_line(given: tuple[str, ...], text: Path, tmp_path: Path) -> None:
    asked = ["pretrain", "gpt2-nano", "--data", str(text), "--out", str(tmp_path / "run"), *SMALL]
    done = zoo(*asked, *([] if "--engine" in given else given), engine=given[1] if "--engine" in given else "jax")
    assert done.returncode == 2, done.stderr[-3000:]
    assert BAD[given] in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_mesh_needs_the_engine_that_has_one(text: Path, tmp_path: Path) -> None:
    asked = ["pretrain", "gpt2-nano", "--data", str(text), "--out", str(tmp_path / "run"), *SMALL]
    done = zoo(*asked, "--set", "mesh.data=2", engine="tensorflow")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "zoo: mesh is for --engine jax; TensorFlow's replicas share the rows of an update, and nothing else",
    )


def test_an_engine_that_is_not_installed_names_the_extra(tmp_path: Path) -> None:
    script = "import importlib.util as util\nfind = util.find_spec\n"
    script += "util.find_spec = lambda name, *rest: None if name == 'jax' else find(name, *rest)\n"
    script += "from zoo.cli import main\nmain()\n"
    command = [sys.executable, "-c", script, "pretrain", "gpt2-nano", "--engine", "jax", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "--engine jax needs JAX, which is not installed: pip install 'objective-zoo[jax]'"
    )


def test_keras_that_runs_on_jax_already_is_the_engine() -> None:
    script = "import keras; from zoo.train import engines, start; start.use_backend()\n"
    script += "print(start.engine(), engines.replicas().__name__, engines.step().__name__)"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=True)
    assert done.stdout.split() == ["jax", "zoo.train.replicas_jax", "zoo.train.step_jax"]


def test_sums_are_empty_once_they_are_applied() -> None:
    """As on TensorFlow; --minutes times the second one."""
    first, second = on_jax("emptied")
    assert first > 0
    assert second == 0


def test_dropout_draws_the_same_bits(tmp_path: Path) -> None:
    from zoo.kernels.random import reference_words

    for seed, update, first, rows, size in [(0, 0, 0, 3, 17), (2**62 + 5, 77, 5, 4, 64), (7, 3, 2**31 - 5, 2, 1 << 16)]:
        expected = reference_words(seed, update, "blocks.1.attend", first, rows, size)
        drawn = on_jax("noise", *(str(number) for number in (seed, update, first, rows, size)))
        assert drawn == [int(expected.astype(np.uint64).sum()), expected[-1, -8:].tolist()]


def test_the_loss_goes_back_by_its_formula() -> None:
    exact, rounded = on_jax("cross_entropy")
    assert exact < 1e-6
    assert rounded < 1e-2
