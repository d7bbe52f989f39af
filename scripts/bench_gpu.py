"""Training speed on one GPU by the JAX engine, and beside it Hugging Face transformers on PyTorch.

    PYTHONPATH=. python scripts/bench_gpu.py [CASE ...] [--peer-python PATH] [--json FILE]

Ours needs JAX for the GPU, Keras, numpy, pydantic and PyYAML; the peer torch and transformers, in any other Python.
Work: whole updates on random tokens from random weights, one micro-batch each, without dropout (or with the recipe's,
by --dropout), batches made in a thread meanwhile; gradients clipped, AdamW, float32 weights, bfloat16 products. GPT-2
predicts every token, BERT 15% of them and the next sentence, XLNet a sixth in a random order without memory. Rows
double from 8 until they do not fit or are no faster; the fastest count. The peer: torch.compile, bfloat16 autocast,
PyTorch's own attention where the class has it, fused AdamW, the same rows (halved until they fit). Every measurement is
a process of its own; its first two updates, which compile, do not count. Prints Markdown.

MFU is matrix products alone (`zoo show NAME` counts them; all pairs of tokens count, hidden ones too) over the peak
that the maker publishes; of a device that PEAKS lacks, over the best rate of one product measured here.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from bench_peers import CASES, Case, described
from peers import run

from zoo import recipe
from zoo.registry import parse_override
from zoo.schema import merged

ASKED = ("gpt2-small", "bert-base", "xlnet-base")
PLACES = {"gpt2-small": 0, "bert-base": 77, "xlnet-base": 85, "gpt2-nano": 0, "bert-nano": 10, "xlnet-nano": 21}
STILL = dict.fromkeys(("dropout", "attention_dropout", "inner_dropout", "final_dropout"), 0.0)
FEWEST_ROWS, GAIN = 8, 1.01  # twice the rows that are less than this much faster are the last

# Dense bfloat16 with float32 sums, in TFLOP/s, by a part of the name that the driver gives; the first that fits. From
# NVIDIA's data sheets (B200, H100, H200, A100, A10, L40S, L40, L4; half of what they print "with sparsity"), Amazon's
# page of G5 instances (A10G), NVIDIA's papers on Ada (RTX 4090) and GA102 (RTX 3090).
PEAKS = {
    "B200": 2250,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200 NVL": 835,
    "H200": 989,
    "A100": 312,
    "A10G": 70,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
Found = dict[str, Any]


def ours(name: str, case: Case, rows: int, updates: int, dropout: bool) -> Found:
    """Our training with so many rows; {} where they do not fit."""
    changes: dict[str, Any] = {} if dropout else {"model": STILL}
    for setting in case.changes:
        changes = merged(changes, parse_override(setting))
    given = {"name": name, "tokens": case.tokens, "rows": rows, "updates": updates, "changes": changes}
    return run([sys.executable, "scripts/gpu_training.py", json.dumps(given)])


def tried(name: str, case: Case, fixed: int | None, updates: int, dropout: bool) -> list[Found]:
    """Our training with more and more rows, while that is faster and fits."""
    found: list[Found] = []
    rows = fixed or FEWEST_ROWS
    while one := ours(name, case, rows, updates, dropout):
        found.append(one | {"rows": rows})
        print(f"{name}: {json.dumps(found[-1])}", file=sys.stderr, flush=True)
        last = found[-2]["tokens_per_second"] * GAIN if len(found) > 1 else 0.0
        if fixed or one["tokens_per_second"] < last:
            break
        rows *= 2
    return found


def peer(python: str, name: str, case: Case, best: Found, updates: int, dropout: bool) -> Found:
    """The peer's training with our rows, or half of them as often as they do not fit; {} where it fails."""
    device = "cpu" if best["platform"] == "cpu" else "cuda"
    given = described(name, case, best["precision"]) | {"updates": updates, "device": device}
    given |= {} if dropout else {"dropout": 0.0}
    rows = best["rows"]
    while rows:
        command = [python, "scripts/peer_training.py", "compile", json.dumps(given | {"rows": rows})]
        try:
            found: Found = run(command)
        except SystemExit as failure:
            print(failure, file=sys.stderr)
            return {}
        if found:
            print(f"{name}: {json.dumps(found)}", file=sys.stderr, flush=True)
            return found | {"rows": rows}
        rows //= 2
    return {}


def has_torch(python: str) -> bool:
    lacks = subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode
    if lacks:
        print(f"{python} has no torch and transformers: no peer is measured (--peer-python)", file=sys.stderr)
    return not lacks


def peak_of(best: Found, asked: float | None) -> tuple[float, str]:
    """FLOP/s that MFU is a share of, and where the number is from."""
    if asked is not None:
        return asked * 1e12, "as given by --peak-tflops"
    for part, tflops in PEAKS.items():
        if part in best["device"]:
            return tflops * 1e12, "the published peak, dense bfloat16"
    return best["matmul_flops_per_second"], "the best of one product measured here, for want of a published peak"


def table(name: str, case: Case, best: Found, other: Found, peak: float, source: str, dropout: bool) -> str:
    """Markdown."""
    versions = ", ".join(one["versions"] for one in (best, other) if one)
    flops = best["flops_per_token"]
    lines = [
        f"{name}, rows of {case.tokens:,} tokens, {best['precision']}, {'with' if dropout else 'without'} dropout"
        f" ({best['device']}; {versions}; {date.today():%B %Y})\n",
        "| | rows | tokens/s | zoo is faster by | MFU | peak memory | first update | kernels' time in matmuls | busy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for who, one in (("zoo, JAX", best), ("transformers, torch.compile", other)):
        if not one:
            continue
        rate = one["tokens_per_second"]
        times = "" if one is best else f"{best['tokens_per_second'] / rate:.2f}x"
        matmuls, busy = (f"{one[key]:.0%}" if key in one else "" for key in ("matmul_share", "busy_share"))
        lines.append(
            f"| {who} | {one['rows']} | {rate:,.0f} | {times} | {rate * flops / peak:.1%} |"
            f" {one['peak_bytes'] / 1e9:.1f} GB | {one['first_update_seconds']:.0f} s | {matmuls} | {busy} |"
        )
    lines.append(f"\nMFU: {flops / 1e6:,.0f} MFLOP a token, over {peak / 1e12:,.4g} TFLOP/s, {source}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(PLACES)}; default: {', '.join(ASKED)}")
    parser.add_argument("--rows", type=int, help=f"so many alone; default: {FEWEST_ROWS}, 16, ...")
    parser.add_argument("--updates", type=int, default=20, help="that are timed")
    parser.add_argument("--dropout", action="store_true", help="the recipe's own, for the peer too")
    parser.add_argument("--peak-tflops", type=float, metavar="N", help="of the GPU, for MFU")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PATH", help="a Python with torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all that is found goes too")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(PLACES):
        parser.error(f"{', '.join(sorted(unknown))}: no such case; there are {', '.join(PLACES)}")
    if shutil.which(given.peer_python) is None:
        parser.error(f"--peer-python is {given.peer_python!r}: there is no such program")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    peers, everything = has_torch(given.peer_python), {}
    for name in given.cases or ASKED:
        case = CASES[name]._replace(tokens=recipe(name).model.context, places=PLACES[name])
        found = tried(name, case, given.rows, given.updates, given.dropout)
        if not found:
            print(f"{name}: not even {given.rows or FEWEST_ROWS} rows fit", file=sys.stderr)
            continue
        best = max(found, key=lambda one: one["tokens_per_second"])
        other = peer(given.peer_python, name, case, best, given.updates, given.dropout) if peers else {}
        everything[name] = {"zoo": found, "peer": other}
        print(table(name, case, best, other, *peak_of(best, given.peak_tflops), given.dropout), flush=True)
        if given.json:
            given.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
