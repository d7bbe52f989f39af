"""Several workers: who they are, one run that they train together, and what happens when one of them is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from zoo.cli import app
from zoo.errors import UserError
from zoo.registry import recipe
from zoo.tensors import TensorFile
from zoo.train.checkpoint import named as named_checkpoints
from zoo.train.cluster import cluster
from zoo.train.launch import local_workers

TF_CONFIG = {"cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"]}, "task": {"type": "worker", "index": 1}}
SLURM = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_JOB_ID": "5"}
SLURM |= {"SLURM_STEP_NODELIST": "n[3-4]", "SLURM_STEP_TASKS_PER_NODE": "2,1"}
SMALL = ["--set", "train.tokens_per_update=1024", "--set", "train.precision=float32", "--set", "model.layers=1"]
SMALL += ["--set", "model.width=32", "--set", "train.evaluate_tokens=2048", "--set", "tokenizer.size=512"]


@pytest.mark.parametrize(
    "environment, addresses, worker",
    [
        ({"TF_CONFIG": json.dumps(TF_CONFIG)}, ("a:1", "b:2", "c:3"), 2),
        ({"ZOO_WORKERS": "a:1, b:2", "ZOO_WORKER": "1"}, ("a:1", "b:2"), 1),
        ({"ZOO_WORKERS": "a:1,b:2", "JOB_COMPLETION_INDEX": "0"}, ("a:1", "b:2"), 0),
        (SLURM, ("n3:20080", "n3:20081", "n4:20080"), 2),
    ],
    ids=["TF_CONFIG", "ZOO_WORKERS", "Kubernetes", "Slurm"],
)
def test_the_environment_says_who_trains(environment: dict[str, str], addresses: tuple[str, ...], worker: int) -> None:
    found = cluster(environment)
    assert found is not None
    assert (found.addresses, found.worker) == (addresses, worker)


@pytest.mark.parametrize(
    "environment",
    [{}, {"TF_CONFIG": "{}"}, {"ZOO_WORKERS": "a:1", "ZOO_WORKER": "0"}, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}],
)
def test_one_worker_is_none(environment: dict[str, str]) -> None:
    assert cluster(environment) is None


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG cannot be read"),
        ({"TF_CONFIG": json.dumps({**TF_CONFIG, "task": {"type": "ps", "index": 0}})}, "a task of type 'ps'"),
        ({"TF_CONFIG": json.dumps({"cluster": {"ps": ["a:1"]}})}, "tasks of type 'ps'"),
        ({"ZOO_WORKERS": "a:1,b:2"}, "ZOO_WORKER is ''"),
        ({"ZOO_WORKERS": "a:1,b:2", "ZOO_WORKER": "2"}, "this is worker 2, and it has 2 workers"),
    ],
)
def test_an_environment_that_makes_no_sense(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        cluster(environment)


def test_files_for_a_cluster() -> None:
    asked = ["launch", "gpt2-nano", "--workers", "3", "--updates", "9", "--print"]
    script = CliRunner().invoke(app, [*asked, "slurm"]).stdout
    assert "#SBATCH --nodes=3" in script
    assert script.splitlines()[-1].endswith("zoo pretrain gpt2-nano --updates 9 --out runs/gpt2-nano --resume")
    service, job = yaml.safe_load_all(CliRunner().invoke(app, [*asked, "kubernetes"]).stdout)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    found = cluster({**environment, "JOB_COMPLETION_INDEX": "2"})
    assert found is not None
    assert (len(found.addresses), found.how) == (3, "Kubernetes")
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 3
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]


def plan(*given: str, code: int = 0) -> str:
    """What scripts/plan_cluster.py tells, of both streams."""
    script = Path(__file__).parents[1] / "scripts" / "plan_cluster.py"
    done = subprocess.run([sys.executable, str(script), *given, "--tflops", "150"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_the_plan_of_a_cluster_says_when_it_is_not_enough() -> None:
    good = plan("gpt2-small", "--workers", "8", "--gbps", "100")
    # 2 x 7/8 x 4 bytes x 124,439,808 over 12.5 GB a second
    assert "gradients: 2 x 7 / 8 x 4 bytes x 124,439,808 = 871.1 MB / 12.5 GB/s = 0.07 s" in good
    assert "not enough" not in good
    bad = plan("gpt2-small", "--workers", "1000", "--gbps", "10", "--memory", "2")
    assert bad.count("not enough") == 3


def test_the_plan_in_the_documents_is_what_is_printed() -> None:
    document = (Path(__file__).parents[1] / "docs" / "clusters.md").read_text(encoding="utf-8")
    blocks = re.findall(r"    \$ \.venv/bin/python scripts/plan_cluster\.py (.*)\n((?:    .*\n)+)", document)
    assert len(blocks) == 2
    for asked, shown in blocks:
        given = asked.replace("--tflops 150", "").split()
        assert plan(*given) == re.sub("^    ", "", shown, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "name, workers, mesh, message",
    [
        ("gpt2-large", "64", "data=3,model=2", "data 3 x fsdp 1 x model 2 = 6 devices, and there are 64; data: 32"),
        ("gpt2-xl", "64", "model=4", "mesh.model 4 does not divide model.heads 25; nearest that does: 5"),
        ("gpt2-small", "96", "fsdp=3", "= 96 devices; nearest that do: 64"),
        ("gpt2-small", "8", "pipeline=2", "unknown key 'mesh.pipeline'; allowed: data, fsdp, model"),
        ("gpt2-small", "8", "fsdp", "mesh.fsdp is ''"),
    ],
)
def test_meshes_that_are_refused(name: str, workers: str, mesh: str, message: str) -> None:
    told = plan(name, "--workers", workers, "--mesh", mesh, "--gbps", "100", code=2)
    assert message in told
    assert told.count("\n") == 1


def zoo(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """One `zoo` command, under way."""
    everything = {**os.environ, **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "zoo", *arguments], env=everything, start_new_session=True, **pipes)


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    told, _ = process.communicate(timeout=240)
    assert process.returncode == code, told[-4000:]
    return told


def workers(count: int, *arguments: str, **environment: str) -> list[subprocess.Popen[str]]:
    """So many workers of one `zoo pretrain`."""
    return [zoo("pretrain", *arguments, **described, **environment) for described in local_workers(count)]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def until_updates(folder: Path, count: int) -> None:
    """Waits until a run has done so many."""
    metrics, end = folder / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > count):
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_a_run_of_one_then_four_then_two_workers_is_a_run_of_one(tmp_path: Path) -> None:
    name = "transformer-xl-nano"  # which has all there is: streams that stay on their worker, and a memory of each
    asked = [name, *SMALL, "--updates", "12", "--set", "train.save_at_words=[500, 1K]"]
    done(zoo("pretrain", *asked, "--out", str(tmp_path / "one")))
    together = [*asked, "--out", str(tmp_path / "several"), "--resume"]
    done(zoo("pretrain", *together, "--stop-at", "4"))
    done(zoo("launch", *together, "--stop-at", "8", "--workers", "4"))
    told = done(zoo("launch", *together, "--workers", "2"))
    assert "[0] run: " in told
    one, several = lines(tmp_path / "one"), lines(tmp_path / "several")
    assert [line["step"] for line in one] == [line["step"] for line in several]
    for alone, shared in zip(one, several, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    states = [(tmp_path / run / "checkpoints/step-00000012/state.json").read_text() for run in ("one", "several")]
    assert states[0] == states[1]
    named = [named_checkpoints(tmp_path / run) for run in ("one", "several")]
    assert named[0].keys() == {"chck_500", "chck_1K"}
    assert [path.resolve().name for path in named[0].values()] == [path.resolve().name for path in named[1].values()]
    last = "checkpoints/step-00000012/model.safetensors"
    weights, expected = TensorFile(tmp_path / "several" / last), TensorFile(tmp_path / "one" / last)
    rates = 12 * recipe(name).train.learning_rate
    for key in expected:
        if not key.endswith("k.bias"):  # whose gradient is zero: Adam scales up its rounding
            assert np.abs(weights[key] - expected[key]).max() <= 1e-3 * rates, key


@pytest.mark.slow
def test_a_worker_that_is_lost_ends_the_others_and_the_run_goes_on(tmp_path: Path) -> None:
    asked = ["gpt2-nano", *SMALL, "--updates", "4000", "--out", str(tmp_path / "run"), "--resume"]
    asked += ["--set", "train.checkpoint_every=5", "--set", "train.evaluate_every=null"]
    first, second = workers(2, *asked)
    until_updates(tmp_path / "run", 12)
    second.send_signal(signal.SIGKILL)
    begin = time.monotonic()
    told = done(first, 1)
    assert time.monotonic() - begin < 25
    assert re.search(r"zoo: worker 1 \(127\.0\.0\.1:\d+\) is lost, so that all stop; --resume continues", told)
    done(second, -signal.SIGKILL)
    told = done(zoo("pretrain", *asked, "--stop-at", "20"))
    assert re.search(r"resumed from .*step-000000(10|15)", told)


@pytest.mark.slow
def test_a_signal_stops_all_after_the_same_update(tmp_path: Path) -> None:
    asked = ["gpt2-nano", *SMALL, "--updates", "4000", "--set", "train.evaluate_every=null"]
    launched = zoo("launch", *asked, "--out", str(tmp_path / "run"), "--workers", "2")
    until_updates(tmp_path / "run", 3)
    launched.send_signal(signal.SIGTERM)
    told = done(launched, 128 + signal.SIGTERM)
    (saved,) = re.findall(r"\[0\] zoo: saved after update (\d+) of 4000; to continue: zoo pretrain", told)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{int(saved):08d}"]
    assert "is lost" not in told


@pytest.mark.slow
def test_workers_that_differ_do_not_train(tmp_path: Path) -> None:
    asked = ["pretrain", "gpt2-nano", *SMALL, "--out", str(tmp_path / "run")]
    described = enumerate(local_workers(2))
    each = [zoo(*asked, "--seed", str(seed), **own, ZOO_WAIT="60") for seed, own in described]
    for process in each:
        told = done(process, 2)
        assert "worker 1 (127.0.0.1" in told
        assert "was started otherwise than worker 0: recipe.train.seed (was 0, now 1)" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_named(tmp_path: Path) -> None:
    asked = ["gpt2-nano", "--out", str(tmp_path / "run")]
    told = done(zoo("pretrain", *asked, **local_workers(2)[0], ZOO_WAIT="5"), 2)
    assert "waiting for the others, 5 s at most" in told
    assert re.search(r"zoo: worker 1 \(127\.0\.0\.1:\d+\) did not come in 5 s", told)
    assert not (tmp_path / "run").exists()
