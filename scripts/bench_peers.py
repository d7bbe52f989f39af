"""Our training speed beside what people would use instead: the same work, in turns, in one go.

    .venv/bin/python scripts/bench_peers.py [CASE ...] [--precision float32] [--turns 2]

Work: whole updates on random tokens from random weights, with the recipe's dropout, in bfloat16 (autocast there) or
float32; gradients of all weights clipped to norm 1, AdamW. The first updates compile and do not count. Peers: Hugging
Face transformers, eager and under torch.compile, and KerasHub on TensorFlow where it has the model, by the step that
its `fit` runs; they run in an environment of their own, .venv-peers, which the first call makes. GPT-2 predicts every
token; BERT 15% of them, and the next sentence where our recipe and the class do; XLNet 85 of 512 tokens in a random
order, without memory, the peer by `perm_mask` and `target_mapping`; the Transformer is MarianMTModel, with full rows on
both sides. MFU is the share of the best matmul rate that TensorFlow or PyTorch reached in this very run, by the FLOPs
of `zoo show`. Writes its tables into docs/performance.md.
"""

import argparse
import json
import sys
from typing import Any, NamedTuple

from peers import ROOT, Numbers, in_turns, machine, peer_python, publish

from zoo import recipe

ALONE = ("data.rows=packed", "data.reuse=null", "data.bidirectional=false", "model.memory=0")  # rows without a memory
ZOO = "zoo"
PEERS = {"eager": "transformers, eager", "compile": "transformers, torch.compile", "keras_hub": "KerasHub"}


class Case(NamedTuple):
    """One update's rows and their tokens, the places of a row that are predicted, changes to our recipe."""

    family: str
    rows: int
    tokens: int
    places: int = 0  # 0 = all
    changes: tuple[str, ...] = ()


CASES = {
    "gpt2-small": Case("gpt2", 4, 512),
    "bert-base": Case("bert", 16, 128, 19),
    "xlnet-base": Case("xlnet", 4, 512, 85, ALONE),
    "transformer-base": Case("transformer", 16, 128),
    "gpt2-nano": Case("gpt2", 8, 256),
    "bert-nano": Case("bert", 32, 64, 10),
    "xlnet-nano": Case("xlnet", 16, 128, 21, ALONE),
    "transformer-nano": Case("transformer", 16, 128),
}


def described(name: str, case: Case, precision: str) -> dict[str, Any]:
    """What a peer is told of a recipe's work."""
    found = recipe(name)
    model = found.model
    return {
        **case._asdict(),
        "precision": precision,
        "vocabulary": found.tokenizer.size,
        "width": model.width,
        "layers": model.layers,
        "heads": model.heads,
        "inner": model.inner_width,
        "dropout": model.dropout,
    }


def commands(name: str, precision: str) -> dict[str, list[str]]:
    """What measures ours and every peer's, by the words of the table."""
    case = CASES[name]
    ours = [
        sys.executable,
        "-m",
        "zoo",
        "bench",
        name,
        "--rows",
        str(case.rows),
        "--context",
        str(case.tokens),
        "--json",
    ]
    for setting in (f"train.precision={precision}", *case.changes):
        ours += ["--set", setting]
    given = described(name, case, precision)
    modes = PEERS if case.family in ("gpt2", "bert") else ("eager", "compile")
    script = [str(peer_python()), str(ROOT / "scripts/peer_training.py")]
    return {ZOO: ours} | {PEERS[mode]: [*script, mode, json.dumps(given)] for mode in modes}


def table(name: str, precision: str, found: dict[str, Numbers]) -> str:
    """Markdown: tokens a second, how many times as many ours are, MFU, memory."""
    case, ours = CASES[name], found[ZOO]
    peak = max(numbers.get("matmul_flops_per_second", 0.0) for numbers in found.values())
    flops = ours["mfu"] * ours["matmul_flops_per_second"] / ours["tokens_per_second"]  # of a token
    lines = [
        f"{name}, {case.rows} x {case.tokens}, {precision} ({machine()}; matmuls at most {peak / 1e9:,.0f} GFLOP/s)\n",
        "| | tokens/s | zoo is faster by | MFU | peak RSS |",
        "|---|---|---|---|---|",
    ]
    for who, numbers in found.items():
        rate = numbers["tokens_per_second"]
        times = "" if who == ZOO else f"{ours['tokens_per_second'] / rate:.2f}x"
        share, memory = rate * flops / peak, numbers["peak_rss_bytes"] / 1e9
        lines.append(f"| {who} | {rate:,.0f} | {times} | {share:.0%} | {memory:.1f} GB |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all by default: {', '.join(CASES)}")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--turns", type=int, default=2, help="how often each runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"{', '.join(sorted(unknown))}: no such case; there are {', '.join(CASES)}")
    for name in arguments.cases or CASES:
        found = in_turns(commands(name, arguments.precision), arguments.turns)
        publish(f"{name} {arguments.precision}", table(name, arguments.precision, found))


if __name__ == "__main__":
    main()
