"""What a memory is worth: a Transformer-XL beside the same model without one, on the same text.

    .venv/bin/python scripts/bench_memory.py [--out runs/memory]

Trains `transformer-xl-nano` as its recipe stands, and again with `model.memory=0`: the same weights, tokens, tokenizer
and schedule. A run that is finished is taken as it is, one that was broken off goes on. Both are evaluated on all of
the validation split with memories of several lengths. Then one stream is read on for a thousand segments, and the time
that a segment takes early and late is compared. Writes the tables of docs/recurrence.md.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from peers import ROOT, publish

from zoo import load, pretrain, recipe
from zoo.batch import Rows
from zoo.noise import Noise
from zoo.use.evaluate import evaluate

NAME = "transformer-xl-nano"
LENGTHS = (0, 64, 128, 256, 512, 1024)  # of the memory in evaluation
EARLY, LATE, AROUND = 10, 1000, 8  # segments, and how many on either side of them count
DOCUMENT = ROOT / "docs/recurrence.md"


def seconds(run: Path, memory: int) -> tuple[float, float]:
    """How long a segment takes early and late in one stream, as medians of those around them."""
    from zoo.network.memory import Memory
    from zoo.network.past import Reach
    from zoo.train.replicas import to_device
    from zoo.train.step import Evaluator

    model = load(run)
    tokens, objective = model.recipe.row_tokens, model.learner.objective
    remembered = Memory(model.recipe.model, Reach(memory, same_length=True), 1, tokens, "float32")
    evaluator, draw, taken = Evaluator(model.learner), np.random.default_rng(0), []
    for segment in range(LATE + AROUND):
        token = draw.integers(0, objective.vocab.used, (1, tokens + 1)).astype(np.int32)
        one, place = np.ones_like(token), np.arange(tokens + 1, dtype=np.int32)[None]
        rows = Rows(token, one, place, 0 * one, one > 0, one > 0, reset=np.array([segment == 0]))
        batch = to_device(objective.make_batch(Noise(0, segment, 0, 1), rows))
        begin = time.perf_counter()
        float(evaluator.evaluate(batch, remembered)[1])
        taken.append(time.perf_counter() - begin)
    early, late = (taken[place - AROUND : place + AROUND] for place in (EARLY, LATE))
    return statistics.median(early), statistics.median(late)


def tables(runs: dict[str, Path]) -> str:
    """Markdown: perplexities by length of the memory, and what a segment costs."""
    found = {
        what: [evaluate(run, memory=length, same_length=length > 0)["perplexity"] for length in LENGTHS]
        for what, run in runs.items()
    }
    lines = [f"| validation perplexity, memory in evaluation | {' | '.join(map(str, LENGTHS))} |"]
    lines.append("|---" * (1 + len(LENGTHS)) + "|")
    lines += [f"| {what} | {' | '.join(f'{value:.1f}' for value in values)} |" for what, values in found.items()]
    lines += ["", f"| milliseconds a segment, memory | the {EARLY}th | the {LATE}th | ratio |", "|---|---|---|---|"]
    for memory in LENGTHS[1::2]:
        early, late = seconds(next(iter(runs.values())), memory)
        lines.append(f"| {memory} | {1000 * early:.2f} | {1000 * late:.2f} | {late / early:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/memory"), help="where the two runs are")
    out = parser.parse_args().out
    recipes = {"with": recipe(NAME), "without": recipe(NAME, model={"memory": 0})}
    runs = {
        f"trained {how} a memory": pretrain(found, out=out / how, resume=True).folder for how, found in recipes.items()
    }
    made = tables(runs)
    publish("memory", made, DOCUMENT)


if __name__ == "__main__":
    main()
