"""Our training speed beside Hugging Face transformers with torch.compile: the same work, in turns, in one go.

    .venv/bin/python scripts/bench_peers.py [--turns 2]

Work: GPT-2 small from random weights, 4 rows x 512 random tokens, dropout 0.1, bfloat16 (autocast there), gradients of
all weights clipped to norm 1, AdamW; whole updates, the first of which compile and do not count. The peer runs in an
environment of its own, .venv-peers, which the first call makes (PyTorch's CPU build and transformers).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
REQUIREMENTS = ("torch==2.13.0", "transformers==5.23.0")
ROWS, TOKENS = 4, 512
WARM_UPDATES, LEAST_SECONDS = 2, 30.0


def peer() -> dict[str, float]:
    """Runs in the peers' environment: tokens a second of HF GPT-2 under torch.compile, and the peak memory."""
    import resource

    import torch  # pyright: ignore[reportMissingImports]
    from transformers import GPT2Config, GPT2LMHeadModel  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())  # GPT-2 small, dropout 0.1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1, fused=True)
    compiled = torch.compile(model)
    token = torch.randint(0, 50257, (ROWS, TOKENS))

    def update() -> float:
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(token, labels=token).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin

    for _ in range(WARM_UPDATES):
        update()
    seconds, until = [], time.perf_counter() + LEAST_SECONDS
    while time.perf_counter() < until:
        seconds.append(update())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tokens_per_second": ROWS * TOKENS / statistics.median(seconds), "peak_rss_bytes": peak}


def run(command: list[str]) -> dict[str, float]:
    """The JSON that a command prints on its last line."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peer_python() -> Path:
    """The Python of the peers' environment, which is made where it is missing."""
    if not (PEERS / "ready").exists():
        print("making .venv-peers ...", file=sys.stderr)
        venv.create(PEERS, with_pip=True, clear=True)
        subprocess.run([PEERS / "bin/python", "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (PEERS / "ready").touch()
    return PEERS / "bin/python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2, help="how often each runs")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        print(json.dumps(peer()))
        return
    ours = [sys.executable, "-m", "zoo", "bench", "gpt2-small", "--rows", str(ROWS), "--context", str(TOKENS), "--json"]
    theirs = [str(peer_python()), __file__, "--peer"]
    found: dict[str, list[dict[str, float]]] = {"zoo": [], "transformers, torch.compile": []}
    for turn in range(arguments.turns):
        for name, command in zip(found, (ours, theirs), strict=True):
            found[name].append(run(command))
            rate = found[name][-1]["tokens_per_second"]
            print(f"turn {turn + 1}: {name}: {rate:.0f} tokens/s", file=sys.stderr)
    print(f"GPT-2 small, {ROWS} x {TOKENS}, bfloat16")
    medians = {}
    for name, runs in found.items():
        medians[name] = statistics.median(one["tokens_per_second"] for one in runs)
        peak = statistics.median(one["peak_rss_bytes"] for one in runs)
        print(f"{name:30} {medians[name]:8.0f} tokens/s {peak / 1e9:6.1f} GB peak RSS")
    zoo, other = medians.values()
    print(f"ratio {zoo / other:.2f}")


if __name__ == "__main__":
    main()
