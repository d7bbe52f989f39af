"""What scripts/bench_gpu.py makes of a trace and of a device's name; and that it runs, here on a processor."""

import gzip
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
GPU, HOST = 1, 701
COMPUTE, COPY, MODULES = 14, 16, 3  # threads


def event(name: str, start: float, microseconds: float, tid: int = COMPUTE, pid: int = GPU, **args: str) -> Any:
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "ts": start, "dur": microseconds, "args": args}


def named(pid: int, name: str, tid: int | None = None) -> Any:
    of = {"name": "process_name"} if tid is None else {"name": "thread_name", "tid": tid}
    return {"ph": "M", "pid": pid, "args": {"name": name}, **of}


EVENTS = [
    named(GPU, "/device:GPU:0"),
    named(GPU, "Stream #14(Compute)", COMPUTE),
    named(GPU, "Stream #16(MemcpyD2H)", COPY),
    named(GPU, "XLA Modules", MODULES),
    named(HOST, "/host:CPU"),
    named(HOST, "Stream of the host", COMPUTE),
    event("nvjet_hsh_256x128_64x4_2x1_v_bz_coopA_NNT", 1000, 300),
    event("loop_convert_fusion_3", 1300, 100),
    event("custom_kernel", 1500, 50, hlo_op="cublas-gemm.7.0"),
    event("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", 1550, 150),
    event("input_reduce_fusion", 1900, 100),
    event("MemcpyD2H", 2000, 700, COPY),
    event("jit__whole_update", 1000, 1000, MODULES),
    event("gemm on the host", 0, 5000, pid=HOST),
    {},  # the last event of a trace is empty
]


def test_kernels_of_a_trace_are_summed(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPTS / "kernel_trace.py"))
    folder = tmp_path / "plugins" / "profile" / "today"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": EVENTS}, file)
    found = script["kernels"](script["read"](tmp_path))
    assert found.every == pytest.approx(700e-6)
    assert found.matmul == pytest.approx(500e-6)
    assert found.span == pytest.approx(1000e-6)
    assert script["kernels"](EVENTS[4:6] + EVENTS[-2:]) is None


@pytest.mark.parametrize(
    "name, tflops",
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("a toaster", 0.5),
    ],
)
def test_the_peak_of_a_device(name: str, tflops: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    peak_of = runpy.run_path(str(SCRIPTS / "bench_gpu.py"))["peak_of"]
    found = {"device": name, "matmul_flops_per_second": 0.5e12}
    assert peak_of(found, None)[0] == tflops * 1e12
    assert peak_of(found, 7.0)[0] == 7e12


@pytest.mark.slow
def test_runs_on_a_processor(tmp_path: Path) -> None:
    """With what a machine with a GPU has: the script itself fails where TensorFlow or PyTorch was imported."""
    pytest.importorskip("jax", reason="the extra jax is not installed")
    file = tmp_path / "found.json"
    command = [sys.executable, SCRIPTS / "bench_gpu.py", "gpt2-nano", "--rows", "2", "--updates", "2", "--json", file]
    done = subprocess.run([*command, "--peer-python", "false"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "false has no torch" in done.stderr
    assert "| zoo, JAX | 2 |" in done.stdout
    assert "the best of one product measured here" in done.stdout
    (found,) = json.loads(file.read_text())["gpt2-nano"]["zoo"]
    assert found["tokens_per_second"] > 0
    assert found["flops_per_token"] == 9437184


def test_refuses_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "bench_gpu.py"]
    for wrong, told in ((["gpt3"], "gpt3: no such case"), (["--peer-python", "no-python"], "no such program")):
        done = subprocess.run([*command, *wrong], capture_output=True, text=True)
        assert done.returncode == 2
        assert told in done.stderr.splitlines()[-1]
