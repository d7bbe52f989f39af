"""What a GPU's time went into, read from the trace that jax.profiler writes.

The file is JSON of Chrome's trace event format: "M" events name processes and threads, "X" events have a duration in
microseconds. A GPU is a process `/device:GPU:0`, and kernels stand on its threads `Stream #...`; other threads of it
tell the same time again by module and by operation.
"""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

# Parts of the names that libraries give to kernels with matrix products in them: cuBLAS (nvjet on Hopper and later),
# CUTLASS, Triton as XLA has it (gemm_fusion_dot), attention of cuDNN (sdpa, flash, fmha) and of Pallas (mha, attend).
MATMUL = (
    "gemm",
    "gemv",
    "cublas",
    "nvjet",
    "cutlass",
    "xmma",
    "wgmma",
    "dot",
    "sdpa",
    "flash",
    "fmha",
    "mha",
    "atten",
)
COPIES = ("memcpy", "memset")  # which are no kernels


class Kernels(NamedTuple):
    """Seconds of all kernels of a trace, of those with matrix products, and from the first one's start to the end."""

    every: float
    matmul: float
    span: float


def kernels(events: Iterable[dict[str, Any]]) -> Kernels | None:
    """The sums of a trace's events; None where no kernel of a GPU is among them."""
    events = list(events)
    named = [event for event in events if event.get("ph") == "M"]
    gpus = {e["pid"] for e in named if e["name"] == "process_name" and e["args"]["name"].startswith("/device:GPU")}
    streams = {
        (e["pid"], e["tid"])
        for e in named
        if e["name"] == "thread_name" and e["pid"] in gpus and e["args"]["name"].startswith("Stream")
    }
    every = matmul = 0.0
    begin, end = float("inf"), 0.0
    for event in events:
        if event.get("ph") != "X" or (event["pid"], event["tid"]) not in streams:
            continue
        name = f"{event['name']} {event.get('args', {}).get('hlo_op', '')}".lower()
        if name.startswith(COPIES):
            continue
        every += event["dur"]
        matmul += event["dur"] * any(part in name for part in MATMUL)
        begin, end = min(begin, event["ts"]), max(end, event["ts"] + event["dur"])
    return Kernels(every / 1e6, matmul / 1e6, (end - begin) / 1e6) if every else None


def read(folder: Path) -> list[dict[str, Any]]:
    """The events that jax.profiler wrote in a folder."""
    (file,) = folder.rglob("*.trace.json.gz")
    with gzip.open(file) as lines:
        return json.load(lines)["traceEvents"]
