"""Checkpoints of weights that a mesh cuts: never whole on a host, and read by any mesh and by the other engine."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jax_parts import BEFORE, MESHES, bench_of, gone_on
from test_jax import losses_of, on_jax, with_devices

from zoo.errors import UserError
from zoo.saved import open_saved
from zoo.train import checkpoint
from zoo.train.session import Session

pytest.importorskip("jax", reason="the extra jax is not installed")
SIDE = Path(__file__).with_name("jax_parts.py")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What meshes of 8 devices saved, and how."""
    folder = tmp_path_factory.mktemp("saved")
    return folder, on_jax(folder, "save", devices=8, side=SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_what_is_cut_is_never_whole_on_the_host(mesh: str, saved: tuple[Path, dict[str, Any]]) -> None:
    folder, found = saved[0] / mesh, saved[1][mesh]
    assert found["whole"] == []
    assert found["fetched"] == found["sizes"]
    assert bool(found["cut"]) == (mesh != "data")
    assert found["read"]
    for name, share in found["read"]:
        assert share <= 1 / found["cut"].get(name, 1)
    there = checkpoint.folder_of(folder, BEFORE)
    weights, slots, _, _ = checkpoint.load(there)
    names = {"data": ["model.safetensors"]}.get(mesh, ["model-00001-of-00001.safetensors"])
    assert [file.name for file in checkpoint.files(there, checkpoint.WEIGHTS)] == names
    numbers = sum(value.size for each in (weights, slots) for value in each.values())
    assert sum(found["sizes"]) == numbers  # nothing twice
    size = sum(file.stat().st_size for file in there.glob("*.safetensors"))
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in there.glob("*.safetensors"))
    assert size == 4 * numbers + headers


@pytest.mark.slow
def test_any_mesh_goes_on_from_any_other(saved: tuple[Path, dict[str, Any]]) -> None:
    """With the losses that the mesh which saved had itself; on one device and on TensorFlow too."""
    folder, found = saved
    there = {f"mesh {name}": each["from"] for name, each in found.items()}
    there["one device"] = on_jax(folder, "read", side=SIDE)
    bench = bench_of()
    there["TensorFlow"] = {name: gone_on(bench, folder / name) for name in MESHES}
    for where, losses in there.items():
        for mesh in MESHES:
            assert losses[mesh] == pytest.approx(found[mesh]["after"], rel=1e-5), f"{where} from {mesh}"


SMALL = ["--set", "train.tokens_per_update=2048", "--set", "train.precision=float32", "--set", "model.layers=1"]
SMALL += ["--set", "model.width=32", "--set", "train.evaluate_tokens=2048", "--set", "tokenizer.size=512"]
SMALL += ["--set", "train.checkpoint_every=2", "--set", "train.average_checkpoints=2", "--updates", "6"]


def trained(folder: Path, *arguments: str, count: int = 1, code: int = 0) -> str:
    command = [sys.executable, "-m", "zoo", *arguments, *SMALL, "--out", str(folder), "--resume"]
    done = with_devices(count, *command)
    told = done.stdout + done.stderr
    assert done.returncode == code, told[-4000:]
    return told


@pytest.mark.slow
def test_two_processes_write_one_checkpoint_and_go_on(tmp_path: Path) -> None:
    """A Transformer-XL, which has a memory too; then with another mesh, then on one process of the other engine."""
    name, one, two = "transformer-xl-nano", tmp_path / "one", tmp_path / "two"
    trained(one, "pretrain", name)
    launched = ["launch", name, "--workers", "2", "--engine", "jax"]
    told = trained(two, *launched, "--set", "mesh.fsdp=8", "--stop-at", "2", count=4)
    assert "could not be written" not in told
    there = checkpoint.folder_of(two, 2)
    assert sorted(path.name for path in there.iterdir() if "-of-" in path.name) == [
        f"{kind}-0000{number}-of-00002.safetensors" for kind in ("model", "optimizer") for number in (1, 2)
    ]
    sizes = [file.stat().st_size for file in there.glob("model-*")]
    assert max(sizes) < 1.1 * min(sizes)
    assert [path.name for path in there.parent.iterdir()] == [there.name]
    told = trained(two, *launched, "--set", "mesh.fsdp=2", "--set", "mesh.model=2", "--stop-at", "4", count=4)
    assert re.search(r"resumed from .*step-00000002", told)
    trained(two, "pretrain", name, "--engine", "tensorflow")
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-4)
    assert open_saved(there).weights["embed.token.table"].shape == (512, 32)


def test_a_worker_that_does_not_see_the_folder_is_named(tmp_path: Path) -> None:
    session = Session.__new__(Session)
    session.folder = tmp_path
    session.replicas = SimpleNamespace(exchange=lambda own: [own, own] if isinstance(own, tuple) else [True, own])
    with pytest.raises(UserError, match=r"worker 1 does not see '.*', the folder of worker 0; where a mesh cuts"):
        session._told(None)
    (tmp_path / "recipe.yaml").touch()
    assert session._told(tmp_path / "checkpoints" / "step-00000002") == checkpoint.folder_of(tmp_path, 2)
