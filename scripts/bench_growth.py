"""How the cost of training grows with the context, the batch, the width and the layers, beside the law of each.

    .venv/bin/python scripts/bench_growth.py [NAME]

Runs `zoo bench` for gpt2-nano (or NAME) in changed shapes, one after another. Speed should fall as the FLOPs of a token
rise (`zoo show`), from the first row of a table on; memory should be what `zoo show` counts. Long contexts run a second
time with `train.remat`, which shows what that saves and what it costs. Writes its tables into docs/performance.md.
"""

import argparse
import sys
from typing import Any, NamedTuple

from peers import machine, publish, run

from zoo import accounting, recipe
from zoo.schema import Recipe

TOKENS = 4096  # of an update, but for the table of batches
HEAD_WIDTH = 32


class Shape(NamedTuple):
    """A recipe's changed shape."""

    rows: int = 16
    context: int = 256
    width: int = 128
    layers: int = 4
    remat: bool = False

    def settings(self) -> list[str]:
        """What `--set` is given."""
        sizes = f"model.width={self.width}", f"model.heads={self.width // HEAD_WIDTH}", f"model.layers={self.layers}"
        return [*sizes, f"train.remat={str(self.remat).lower()}"]

    def recipe(self, name: str) -> Recipe:
        """The same as a recipe."""
        model = {"width": self.width, "heads": self.width // HEAD_WIDTH, "layers": self.layers}
        longest = max(self.context, recipe(name).model.context)
        changed = recipe(name, model={**model, "context": longest}, train={"remat": self.remat})
        return changed.with_rows(self.rows, self.context)


TABLES = {
    "context": [Shape(rows=TOKENS // context, context=context) for context in (128, 256, 512, 1024, 2048)],
    "rows": [Shape(rows=rows) for rows in (1, 2, 4, 8, 16, 32)],
    "width": [Shape(width=width) for width in (64, 128, 256, 512, 1024)],
    "layers": [Shape(layers=layers) for layers in (2, 4, 8, 16)],
}


def measured(name: str, shape: Shape) -> dict[str, Any]:
    """What `zoo bench` finds for it."""
    command = [sys.executable, "-m", "zoo", "bench", name, "--rows", str(shape.rows), "--context", str(shape.context)]
    for setting in shape.settings():
        command += ["--set", setting]
    return run([*command, "--json"])


def table(name: str, what: str, shapes: list[Shape], found: dict[Shape, dict[str, Any]]) -> list[str]:
    """Markdown: speed and memory by one size, and what the laws say."""
    again = what == "context"
    head = f"| {what} | tokens/s | by FLOPs alone | MFU | peak RSS | as counted |"
    lines = [head + (" with remat: tokens/s | peak RSS | as counted |" if again else "")]
    lines.append("|---" * lines[0].count(" |") + "|")
    work = [accounting.flops(shape.recipe(name)).per_token for shape in shapes]
    start = found[shapes[0]]["tokens_per_second"] * work[0]

    def memory(shape: Shape) -> str:
        half = found[shape]["precision"] == "bfloat16"
        counted = sum(term.value for term in accounting.memory(shape.recipe(name), shape.rows, half))
        return f"{found[shape]['peak_rss_bytes'] / 1e9:.2f} | {counted / 1e9:.2f} GB |"

    for shape, flops in zip(shapes, work, strict=True):
        rate, share = found[shape]["tokens_per_second"], found[shape]["mfu"]
        line = f"| {getattr(shape, what):,} | {rate:,.0f} | {start / flops:,.0f} | {share:.0%} | {memory(shape)}"
        if again:
            other = shape._replace(remat=True)
            line += f" {found[other]['tokens_per_second']:,.0f} | {memory(other)}"
        lines.append(line)
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="gpt2-nano")
    name = parser.parse_args().name
    wanted = dict.fromkeys(shape for shapes in TABLES.values() for shape in shapes)
    wanted |= dict.fromkeys(shape._replace(remat=True) for shape in TABLES["context"])
    found = {}
    for shape in wanted:
        found[shape] = measured(name, shape)
        print(f"{shape}: {found[shape]}", file=sys.stderr, flush=True)
    precision = found[Shape()]["precision"]
    lines = [f"{name}, {recipe(name).tokenizer.size:,} words, {precision} ({machine()})\n"]
    for what, shapes in TABLES.items():
        lines += table(name, what, shapes, found)
    publish("growth", "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
