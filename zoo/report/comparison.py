"""Objectives side by side: runs of one budget, evaluated alike, in one report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo import accounting, evaluations, registry
from zoo.accounting import size
from zoo.disk import write_whole
from zoo.errors import UserError, some
from zoo.progress import amount, say
from zoo.report.minimal_pairs import as_numbers
from zoo.report.page import REPORT, write
from zoo.saved import is_folder, open_saved
from zoo.schema import Recipe
from zoo.train import run
from zoo.use.minimal_pairs import Pair, judge, read_pairs
from zoo.use.score import kind_of_score

COMPARISON = "comparison.json"  # what was asked for, in the comparison's folder
ALIKE = f"{evaluations.VALIDATION}, alike"  # what every run is measured on, whatever else was measured of it
BITS = ("bits_per_byte", "bits_per_byte_within_word")  # ends of what measures are called that have no unit of tokens


class Budget(NamedTuple):
    """What every run may use: tokens that enter the network, or FLOPs; without either its own recipe says."""

    tokens: float | None = None
    flops: float | None = None

    def updates(self, recipe: Recipe) -> int:
        """As many as the budget holds, to the nearest."""
        train = recipe.train
        if self.tokens is not None:
            return round(self.tokens / train.tokens_per_update)
        if self.flops is not None:
            return round(self.flops / flops_per_update(recipe))
        return train.updates

    def given(self, recipe: Recipe) -> Recipe:
        """The recipe with a schedule that ends with the budget; its warm-up, evaluations and checkpoints keep their
        shares of the updates. An evaluation on the way reads no more than 1% of the budget's tokens: what is compared
        is measured at the end, on all of the split."""
        train, updates = recipe.train, self.updates(recipe)
        if updates < 1:
            asked = f"--tokens {self.tokens:g}" if self.tokens is not None else f"--flops {self.flops:g}"
            one = train.tokens_per_update if self.tokens is not None else flops_per_update(recipe)
            raise UserError(f"{asked} is less than half an update of {recipe.name}, which takes {size(one, '')}")
        parts = ("warmup_updates", "evaluate_every", "checkpoint_every")
        scaled = {key: value * updates // train.updates for key in parts if (value := getattr(train, key))}
        least = {key: max(value, 0 if key == "warmup_updates" else 1) for key, value in scaled.items()}
        if self != Budget():
            sample = max(updates * train.tokens_per_update // 100, 1)
            least["evaluate_tokens"] = min(train.evaluate_tokens or sample, sample)
        return recipe.with_changes(train={"updates": updates, **least})


def flops_per_update(recipe: Recipe) -> float:
    """Forwards and backwards."""
    return accounting.flops(recipe).per_token * recipe.train.tokens_per_update


class Member(NamedTuple):
    """A run of the comparison: one that is there already, or a recipe to train in its folder."""

    folder: Path
    recipe: Recipe | None = None


def of_names(names: Sequence[str], settings: dict[str, Any], budget: Budget, seeds: int, out: Path) -> list[Member]:
    """Recipes by their names or files, each trained with seeds 0, 1, ...; and the folders of runs, as they are."""
    members: list[Member] = []
    for name in names:
        if is_folder(name) and (Path(name) / run.RECIPE).is_file():
            members.append(Member(Path(name)))
        else:
            members += _seeded(registry.recipe(name, **settings), budget, seeds, out)
    return members


def of_objectives(
    base: str, objectives: Sequence[str], settings: dict[str, Any], budget: Budget, seeds: int, out: Path
) -> list[Member]:
    """One recipe with one objective after the other, all else equal; an objective has its default settings."""
    recipe = registry.recipe(base, **settings)
    members: list[Member] = []
    for objective in objectives:
        changed = (
            recipe if objective == recipe.objective["name"] else recipe.with_changes(objective={"name": objective})
        )
        named = changed.model_copy(update={"name": f"{recipe.name}-{objective}"})
        members += _seeded(named, budget, seeds, out)
    return members


def _seeded(recipe: Recipe, budget: Budget, seeds: int, out: Path) -> list[Member]:
    recipe = budget.given(recipe)
    each = [recipe.with_changes(train={"seed": recipe.train.seed + n}) for n in range(seeds)]
    return [Member(out / (f"{one.name}-seed{one.train.seed}" if seeds > 1 else one.name), one) for one in each]


def compare(members: Sequence[Member], out: Path, data: str | None = None, suite: str | None = None) -> list[Path]:
    """Trains what is not trained, evaluates every run, and writes the report; returns the runs' folders.

    An interrupted comparison goes on where it was when it is asked for again.
    data: the corpus of those that are trained; suite: minimal pairs, as of zoo.use.minimal_pairs.

    Raises:
        UserError: `out` holds another comparison, two members are one, or there is nothing to compare.
    """
    from zoo.train.pretrain import pretrain

    folders = [member.folder for member in members]
    if len({folder.absolute() for folder in folders}) < len(folders):
        raise UserError(f"a run stands twice among {some([str(folder) for folder in folders], 4)}")
    pairs = None if suite is None else read_pairs(suite)
    _begin(members, out, data)
    for number, (folder, recipe) in enumerate(members, 1):
        if recipe is None:
            continue
        train, cost = recipe.train, flops_per_update(recipe) * recipe.train.updates
        tokens = amount(train.tokens_per_update * train.updates)
        say(f"run {number} of {len(members)}: {recipe.name}, seed {train.seed}, {tokens}tokens, {size(cost, 'FLOP')}")
        pretrain(recipe, data, folder, resume=True)
    for number, folder in enumerate(folders, 1):
        say(f"evaluating run {number} of {len(members)}: {folder}")
        _measure(folder, suite, pairs)
    write(folders, out / REPORT, title=out.name)
    return folders


def summary(folder: Path) -> str:
    """What was measured of a run, in a line; likelihoods and pseudo-likelihoods under names of their own."""
    kept = evaluations.read(folder)
    text = kept["text"][ALIKE]
    told = []
    for name, value in text.items():
        if name.endswith(BITS):
            low, high = text.get(f"{name}_interval", (None, None))
            told.append(f"{name.replace('_', ' ')} {value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low else ""))
    for name, found in kept.get("suite", {}).items():
        low, high = found["interval"]
        told.append(f"{name} {found['accuracy']:.1%} ({low:.1%} to {high:.1%}, by {found['score']})")
    return f"{folder.name}: loss {text['loss']:.3f}" + "".join(f", {one}" for one in told)


def _measure(folder: Path, suite: str | None, pairs: list[Pair] | None) -> None:
    """What is not known of a run yet: its validation split, and the suite."""
    from zoo.use.evaluate import SAMPLED, evaluate, half_a_window
    from zoo.use.loaded import loaded

    saved = open_saved(folder)
    step = saved.facts["step"]
    if evaluations.known(folder, "text", ALIKE, step) is None:
        found = evaluate(folder, stride=half_a_window(saved.recipe), windows=SAMPLED)
        evaluations.keep(folder, "text", ALIKE, {"step": step, **found})
    if suite is None or pairs is None:
        return
    name = evaluations.name_of(suite)
    if evaluations.known(folder, "suite", name, step) is None:
        model = loaded(saved)
        found = as_numbers(judge(model, pairs))
        evaluations.keep(folder, "suite", name, {"step": step, "score": kind_of_score(model), **found})


def _begin(members: Sequence[Member], out: Path, data: str | None) -> None:
    """Refuses the folder of another comparison; a name of one that is asked for again is what it was."""
    asked: dict[str, Any] = {"data": data}
    asked["runs"] = {
        str(folder if recipe is None else folder.relative_to(out)): None
        if recipe is None
        else recipe.model_dump(mode="json")
        for folder, recipe in members
    }
    file = out / COMPARISON
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{str(file)!r} cannot be read ({error}); give another --out") from None
        if unequal := run.differences(before, asked):
            raise UserError(f"{str(out)!r} holds another comparison: {some(unequal, 3)}; give another --out")
        return
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {str(out)!r} holds files that are not a comparison's; give a new or an empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(asked, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
