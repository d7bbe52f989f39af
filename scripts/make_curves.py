"""Writes the reference curves that come with the zoo (zoo curves), from finished runs of its recipes as they stand.

    .venv/bin/python -m zoo pretrain gpt2-nano --out runs/one
    .venv/bin/python -m zoo pretrain gpt2-nano --seed 2 --out runs/two
    .venv/bin/python scripts/make_curves.py runs/one runs/two

Runs of one recipe that differ in their seed become one file: the first is the curve, all together its spread.
"""

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.progress import say
from zoo.report import reference
from zoo.report.followed import Followed
from zoo.report.reference import Losses, Reference
from zoo.train.run import METRICS, read_environment, read_recipe

DIGITS = 4


def main() -> None:
    made: dict[str, Reference] = {}
    for folder in map(Path, sys.argv[1:] or sys.exit(__doc__)):
        recipe, environment, run = read_recipe(folder), read_environment(folder), Followed(folder)
        run.read()
        if not run.finished:
            sys.exit(f"{folder} has not finished")
        updates, corpus, seed = recipe.train.updates, environment["corpus_fingerprint"], recipe.train.seed
        first = made.setdefault(recipe.name, Reference(recipe.name, recipe, corpus, _origin(folder, environment), {}))
        if differing := first.differing(recipe, corpus):
            sys.exit(f"{folder} is of other settings than the runs before it: {', '.join(differing)}")
        first.seeds[seed] = Losses.of(run, updates)
    for one in made.values():
        file = reference.FOLDER / f"{one.name}.json"
        file.write_text(json.dumps(_content(one), separators=(",", ":")) + "\n", encoding="utf-8")
        say(f"{file}: seeds {', '.join(map(str, one.seeds))}, {file.stat().st_size:,} bytes")


def _origin(folder: Path, environment: dict[str, Any]) -> dict[str, Any]:
    """What trained the run, without the places of the machine."""
    ended = datetime.fromtimestamp((folder / METRICS).stat().st_mtime, UTC)
    return {
        "date": f"{ended:%Y-%m-%d}",
        "commit": environment["commit"],
        "machine": f"{platform.system()} {platform.machine()}, {environment['device']}",
        "versions": environment["versions"],
    }


def _content(one: Reference) -> dict[str, Any]:
    losses = {
        seed: {
            "train": [round(loss, DIGITS) for loss in found.train.tolist()],
            "valid": [[step, round(loss, DIGITS)] for step, loss in sorted(found.valid.items())],
        }
        for seed, found in one.seeds.items()
    }
    recipe = one.recipe.model_dump(mode="json", exclude={"name", "expect"}, exclude_none=True)
    at = next(iter(one.seeds.values())).at.tolist()
    command = f"zoo pretrain {one.name}"
    return {"recipe": recipe, "corpus": one.corpus, "made": {"command": command, **one.made}, "at": at, "seeds": losses}


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
