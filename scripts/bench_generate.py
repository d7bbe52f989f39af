"""Our generation speed beside Hugging Face transformers: the same work, in turns, in one go.

    .venv/bin/python scripts/bench_generate.py [--turns 2]

Work: GPT-2 small with random weights in float32 continues one prompt, and four at once, of 64 random tokens by 192,
the likeliest one each time, with a cache of keys and values. A first call makes graphs and does not count. The
peer runs in .venv-peers (see bench_peers.py). Then, for us alone: what a token costs early and late in a long text.
Writes its tables into docs/performance.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import in_turns, machine, peer_python, publish

PROMPT, NEW, BATCHES = 64, 192, (1, 4)
VOCABULARY = 50257
# Tokens before those that are timed; with 1 and with 33 more the cache has the same size (zoo/use/generate.py, STEP).
LENGTHS = (112, 240, 496, 944)
TIMED = 32


def measure(write: Callable[[list[list[int]], int], None], rows: int) -> float:
    """Tokens a second of `write(prompts, new tokens)`."""
    draws = np.random.default_rng(rows)
    prompts = draws.integers(VOCABULARY, size=(rows, PROMPT)).tolist()
    begin = time.perf_counter()
    write(prompts, NEW)
    return rows * NEW / (time.perf_counter() - begin)


def peer() -> dict[str, float]:
    """Runs in the peers' environment."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import GPT2Config, GPT2LMHeadModel  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config()).eval()  # its own types contradict each other

    def write(prompts: list[list[int]], new: int) -> None:
        token = torch.tensor(prompts)
        settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            model.generate(token, attention_mask=torch.ones_like(token), **settings)

    return _speeds(write)


def zoo() -> dict[str, float]:
    """Runs in ours; also the seconds of a token after so many others."""
    from zoo.registry import recipe
    from zoo.train.start import Learner, nominal_vocab, start_backend
    from zoo.use.generate import Sampling, generate_ids
    from zoo.use.loaded import Loaded

    start_backend()
    small = recipe("gpt2-small")
    model = Loaded(small, None, Learner(small, nominal_vocab(small), "float32"))
    greedy = Sampling(temperature=0)

    def write(prompts: list[list[int]], new: int) -> None:
        generate_ids(model, prompts, new, greedy, end=None)

    found = _speeds(write)
    for length in LENGTHS:
        # The prompt is read in both calls and drops out of the difference.
        def read(new: int, length: int = length) -> float:
            begin = time.perf_counter()
            generate_ids(model, [[1] * length], new, greedy, end=None)
            return time.perf_counter() - begin

        read(2)
        once = read(1)
        found[f"seconds_after_{length}"] = (read(1 + TIMED) - once) / TIMED
    return found


def _speeds(write: Callable[[list[list[int]], int], None]) -> dict[str, float]:
    found = {}
    for rows in BATCHES:
        measure(write, rows)
        found[f"rows_{rows}"] = measure(write, rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2, help="how often each runs")
    parser.add_argument("--part", choices=["peer", "zoo"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(peer() if arguments.part == "peer" else zoo()))
        return
    commands = {"zoo": [sys.executable, __file__, "--part", "zoo"]}
    commands["transformers"] = [str(peer_python()), __file__, "--part", "peer"]
    found = in_turns(commands, arguments.turns)
    lines = [
        f"GPT-2 small, float32, {PROMPT} tokens continued by {NEW}, the likeliest each time ({machine()})\n",
        "| texts at once | zoo, tokens/s | transformers | ratio |",
        "|---|---|---|---|",
    ]
    for rows in BATCHES:
        ours, theirs = (numbers[f"rows_{rows}"] for numbers in found.values())
        lines.append(f"| {rows} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f}x |")
    lines += ["", "| zoo, a token after so many others | ms |", "|---|---|"]
    lines += [f"| {length} | {1000 * found['zoo'][f'seconds_after_{length}']:.1f} |" for length in LENGTHS]
    publish("generation", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
