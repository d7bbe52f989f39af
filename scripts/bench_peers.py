"""Our training speed beside Hugging Face transformers with torch.compile: the same work, in turns, in one go.

    .venv/bin/python scripts/bench_peers.py [gpt2-small|xlnet-base] [--precision float32] [--turns 2]

Work: 4 rows x 512 random tokens from random weights, dropout 0.1, bfloat16 (autocast there) or float32, gradients of
all weights clipped to norm 1, AdamW; whole updates, the first of which compile and do not count. GPT-2 small predicts
every token; XLNet base 85 tokens of a row in a random order, without memory, the peer by `perm_mask` and
`target_mapping`. The peer runs in an environment of its own, .venv-peers, which the first call makes (PyTorch's CPU
build and transformers).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
REQUIREMENTS = ("torch==2.13.0", "transformers==5.23.0")
ROWS, TOKENS, PLACES = 4, 512, 85
ALONE = ["data.rows=packed", "data.reuse=null", "data.bidirectional=false", "model.memory=0"]  # rows without a memory
CASES = {"gpt2-small": [], "xlnet-base": ALONE}  # what our recipe is changed by
WARM_UPDATES, LEAST_SECONDS = 2, 30.0


def peer(case: str, precision: str) -> dict[str, float]:
    """Runs in the peers' environment: tokens a second of the HF class under torch.compile, and the peak memory."""
    import resource

    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    given: dict[str, Any]
    if case == "gpt2-small":
        model: Any = transformers.GPT2LMHeadModel(transformers.GPT2Config())  # dropout 0.1
        token = torch.randint(0, 50257, (ROWS, TOKENS))
        given = {"input_ids": token, "labels": token}
    else:
        sizes: Any = {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}
        model = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**sizes, ff_activation="gelu_new"))
        token = torch.randint(0, 32000, (ROWS, TOKENS))
        order = torch.rand(ROWS, TOKENS).argsort(dim=1)
        at, rank = order[:, :PLACES], torch.full((ROWS, TOKENS), -1)
        rank.scatter_(1, at, torch.arange(PLACES).expand(ROWS, PLACES))
        hidden = (rank[:, None, :] >= rank[:, :, None]) & (rank[:, None, :] >= 0)
        mapping = torch.nn.functional.one_hot(at, TOKENS).float()
        given = {"input_ids": token, "perm_mask": hidden.float(), "target_mapping": mapping, "use_mems": False}
        given["labels"] = token.gather(1, at)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1, fused=True)
    compiled: Any = torch.compile(model)

    def update() -> float:
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = compiled(**given).loss
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
    parser.add_argument("case", nargs="?", choices=CASES, default="gpt2-small")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--turns", type=int, default=2, help="how often each runs")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    case, precision = arguments.case, arguments.precision
    if arguments.peer:
        print(json.dumps(peer(case, precision)))
        return
    settings = [f"train.precision={precision}", *CASES[case]]
    ours = [sys.executable, "-m", "zoo", "bench", case, "--rows", str(ROWS), "--context", str(TOKENS), "--json"]
    ours += [word for setting in settings for word in ("--set", setting)]
    theirs = [str(peer_python()), __file__, case, "--precision", precision, "--peer"]
    found: dict[str, list[dict[str, float]]] = {"zoo": [], "transformers, torch.compile": []}
    for turn in range(arguments.turns):
        for name, command in zip(found, (ours, theirs), strict=True):
            found[name].append(run(command))
            rate = found[name][-1]["tokens_per_second"]
            print(f"turn {turn + 1}: {name}: {rate:.0f} tokens/s", file=sys.stderr)
    print(f"{case}, {ROWS} x {TOKENS}, {precision}")
    medians = {}
    for name, runs in found.items():
        medians[name] = statistics.median(one["tokens_per_second"] for one in runs)
        peak = statistics.median(one["peak_rss_bytes"] for one in runs)
        print(f"{name:30} {medians[name]:8.0f} tokens/s {peak / 1e9:6.1f} GB peak RSS")
    zoo, other = medians.values()
    print(f"ratio {zoo / other:.2f}")


if __name__ == "__main__":
    main()
