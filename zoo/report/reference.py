"""Reference curves: how the loss of a recipe fell where the zoo trained it, and how far another run is from that.

zoo/curves/NAME.json holds means of the training loss over equally many updates, all validation losses, the resolved
recipe, and what trained it; scripts/make_curves.py writes it from runs that differ in their seed.
"""

import json
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import UserError, nearest, some
from zoo.registry import PACKAGE
from zoo.report.followed import Followed
from zoo.schema import Recipe, checked
from zoo.train.run import differences, read_environment, read_recipe

FOLDER = PACKAGE / "curves"
POINTS = 80  # means of the training loss
TOLERANCE = 1.5  # of two runs that learn the same: how much further apart they may be than two seeds were
# What a recipe may say differently and still learn the same: the machine, the seed, what is kept and when.
FREE = {"precision", "compile", "micro_rows", "reduce", "remat", "seed", "evaluate_every", "checkpoint_every"}
FREE |= {"checkpoint_minutes", "keep_checkpoints", "keep_every", "average_checkpoints", "save_at_words"}


class Losses(NamedTuple):
    """What one run learned. at, train: [n] the last update of each mean, and the mean."""

    at: np.ndarray
    train: np.ndarray
    valid: dict[int, float]  # by update

    @classmethod
    def of(cls, run: Followed, updates: int) -> "Losses":
        """Of a run of so many updates, as far as it went: a mean is there when all its updates are."""
        steps, losses = np.array(run.steps), np.array(run.losses)
        parts = [steps_of for steps_of in np.array_split(np.arange(1, updates + 1), POINTS) if len(steps_of)]
        inside = [np.isin(steps, part) for part in parts]
        done = [n for n, part in enumerate(parts) if inside[n].sum() == len(part)]
        at, train = [parts[n][-1] for n in done], [losses[inside[n]].mean() for n in done]
        valid = {step: float(line["loss"]) for step, line in run.evaluated.items()}
        return cls(np.array(at, int), np.array(train), valid)

    def apart(self, other: "Losses") -> "Apart":
        """How far two runs are from each other, where both have been."""
        both, own, theirs = np.intersect1d(self.at, other.at, return_indices=True)
        off = np.abs(self.train[own] - other.train[theirs])
        off = np.where(np.isfinite(off), off, np.inf)
        train = max(zip(off.tolist(), both.tolist(), strict=True), default=None)
        steps = self.valid.keys() & other.valid.keys()
        valid = max(((abs(self.valid[step] - other.valid[step]), step) for step in steps), default=None)
        return Apart(train, valid)


class Apart(NamedTuple):
    """The largest differences of two runs in nats, each with its update; None where they have nothing in common."""

    train: tuple[float, int] | None
    valid: tuple[float, int] | None


class Reference(NamedTuple):
    """A recipe's reference curves, by their seeds."""

    name: str
    recipe: Recipe
    corpus: str  # the fingerprint of its text
    made: dict[str, Any]  # command, date, commit, machine, versions
    seeds: dict[int, Losses]

    @property
    def spread(self) -> Apart | None:
        """How far apart its own seeds are; None where there is one."""
        pairs = [one.apart(other) for one, other in combinations(self.seeds.values(), 2)]
        return max(pairs, default=None, key=lambda pair: pair.train or (0.0, 0))

    def differing(self, recipe: Recipe, corpus: str | None) -> list[str]:
        """What another run's recipe says otherwise, of all that matters for what it learns."""
        found = differences(_settings(self.recipe), _settings(recipe))
        return found if corpus == self.corpus else [*found, "the text"]


def _settings(recipe: Recipe) -> dict[str, Any]:
    sections = recipe.model_dump(mode="json", exclude={"name": True, "expect": True, "train": FREE})
    del sections["data"]["corpus"]  # where it lies; its fingerprint says what it is
    return sections


def references() -> dict[str, Reference]:
    """All that come with the zoo, by the names of their recipes."""
    return {file.stem: _read(file) for file in sorted(FOLDER.glob("*.json"))}


def reference(name: str) -> Reference:
    """That of a recipe. UserError where there is none."""
    found = references()
    if name not in found:
        hint = f"; the run is ./{name}" if Path(name).is_dir() else nearest(name, found)
        raise UserError(f"there is no reference curve of {name!r}{hint}")
    return found[name]


def _read(file: Path) -> Reference:
    kept = json.loads(file.read_text(encoding="utf-8"))
    recipe = checked(Recipe, {**kept["recipe"], "name": file.stem}, str(file))
    at = np.array(kept["at"])
    seeds = {
        int(seed): Losses(at, np.array(found["train"]), dict(found["valid"])) for seed, found in kept["seeds"].items()
    }
    return Reference(file.stem, recipe, kept["corpus"], kept["made"], seeds)


class Comparison(NamedTuple):
    """A run beside the reference whose settings are nearest to its own."""

    run: Followed
    losses: Losses
    reference: Reference
    seed: int  # of the reference's: the run's own, or else the first
    differing: list[str]  # settings; where there are any, nothing follows from the numbers

    @property
    def verdict(self) -> str:
        """One line: whether the run learns as the reference did."""
        if self.differing:
            return f"no verdict: other settings than those of {self.reference.name}: {some(self.differing, 4)}"
        apart = self.losses.apart(self.reference.seeds[self.seed])
        if apart.train is None:
            return "no verdict yet: the run has not gone far enough"
        far = f"at most {apart.train[0]:.3f} nats apart (update {apart.train[1]:,})"
        far += f", {apart.valid[0]:.3f} in validation" if apart.valid else ""
        whose, spread = self._expected()
        if spread is None or spread.train is None:
            return f"no verdict: {far}; how far other seeds are apart is not known"
        near = apart.train[0] <= TOLERANCE * spread.train[0]
        seeds = f"seeds of {whose} are {spread.train[0]:.3f} apart"
        if apart.valid and spread.valid:
            near = near and apart.valid[0] <= TOLERANCE * spread.valid[0]
            seeds += f", {spread.valid[0]:.3f} in validation"
        return f"{'the same' if near else 'NOT the same'}: {far}; {seeds}, and {TOLERANCE} times that is still the same"

    def _expected(self) -> tuple[str, Apart | None]:
        """How far seeds of the reference are apart, or else those of the reference where they are furthest."""
        own = self.reference
        if own.spread is not None:
            return own.name, own.spread
        known = [(one.name, one.spread) for one in references().values() if one.spread is not None]
        return max(known, default=(own.name, None), key=lambda found: found[1].train or (0.0, 0))


def compare(folder: Path) -> Comparison:
    """A run, finished or not, beside its reference. UserError where it is no run, or has done nothing yet."""
    recipe, run = read_recipe(folder), Followed(folder)
    run.read()
    if not run.steps:
        raise UserError(f"{str(folder)!r} has no update in its metrics.jsonl yet")
    try:
        corpus = read_environment(folder).get("corpus_fingerprint")
    except UserError:
        corpus = None
    differing = {name: one.differing(recipe, corpus) for name, one in references().items()}
    closest = reference(min(differing, key=lambda name: len(differing[name])))
    seed = recipe.train.seed if recipe.train.seed in closest.seeds else next(iter(closest.seeds))
    return Comparison(run, Losses.of(run, closest.recipe.train.updates), closest, seed, differing[closest.name])
