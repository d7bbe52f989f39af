"""Pretraining, from a recipe and a corpus to a run's folder: read this top to bottom, then loop.py."""

import math
import os
from collections.abc import Iterable
from contextlib import closing, nullcontext, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo import accounting
from zoo.corpus.prepare import Corpus, open_texts, tokenized
from zoo.errors import UserError
from zoo.home import home
from zoo.registry import recipe as find_recipe
from zoo.saved import is_folder, open_saved
from zoo.schema import Recipe, checked
from zoo.train import budget, checkpoint, engines, run, trackers
from zoo.train.cluster import Cluster, cluster
from zoo.train.loop import Loop
from zoo.train.session import Session
from zoo.train.signals import caught
from zoo.train.start import settled, use_backend
from zoo.train.telemetry import Metrics

if TYPE_CHECKING:
    from pandas import DataFrame

    from zoo.train.replicas import Replicas


def pretrain(
    recipe: Recipe | str | Path,
    data: "str | Path | DataFrame | Iterable[str] | None" = None,
    out: str | Path | None = None,
    *,
    updates: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    init_from: str | Path | None = None,
    stop_at: int | None = None,
    minutes: float | None = None,
    track: Iterable[str] | None = None,
    engine: str | None = None,
) -> run.Run:
    """Trains a recipe on a corpus and returns the run: its folder, its metrics, and `load()` for the model.

    Args:
        recipe: a recipe, its name, or a YAML file.
        data: a path, folder, glob or hf:NAME, a DataFrame, or texts (one document each); of parallel text also two
            paths with a comma between them, or (source, target) tuples; None = the recipe's corpus.
        out: the run's folder; None = runs/<recipe>-<n>.
        updates: where the schedule ends, in optimizer updates; seed: of weights, rows, noise and dropout.
        resume: continue the run in `out` from its newest checkpoint; start where there is nothing to continue.
        init_from: whose weights and tokenizer this new run starts with; whatever `zoo.load` takes.
        stop_at: end after this update, on the same schedule; minutes: fit `updates` to this much training time.
        engine: tensorflow or jax; None = what Keras runs on already, else TensorFlow. No setting of the run: another
            one may resume it.
        track: services that follow the run: wandb, trackio, mlflow; None = none, or those that followed it before.

    Raises:
        UserError: something given cannot be used. RunFailed: the loss stopped being finite, or the last checkpoint
        could not be written. Interrupted: a signal came; everything up to the last whole update is saved.
    """
    use_backend(engine)
    if not isinstance(recipe, Recipe):
        recipe = find_recipe(recipe)
    _check_numbers(updates, stop_at, minutes)
    given = {"updates": updates, "seed": seed, "minutes": minutes, "init_from": init_from}
    given["track"] = None if track is None else list(track)
    if init_from is not None and is_folder(init_from):
        given["init_from"] = str(Path(init_from).absolute())
    together = cluster()
    leads = together is None or together.worker == 0
    if leads:  # who alone has them
        trackers.check(given["track"] or ())
    folder = run.choose_folder(recipe, out, resume) if leads else Path(out or "runs")
    alone = together is None and recipe.mesh is None  # then devices are looked for once the text is tokenized
    replicas = None if alone else _connected(together, recipe)
    if replicas is not None and not leads:
        return _follow(replicas, recipe, given, data, folder, stop_at)
    with run.locked(folder), nullcontext() if replicas is None else replicas.watched():
        resumes = (folder / run.RECIPE).is_file()
        wanted = recipe = run.asked(recipe, given, data)
        if resumes:
            given = run.given_again(folder, given)
            recipe = run.asked(recipe, given, data)
        run.check_space(folder, accounting.checkpoint_bytes(recipe))
        cache = home()
        texts = open_texts(run.corpus_of(recipe) if data is None else data, recipe.data)
        if replicas is not None:
            replicas.agree(run.facts(wanted, texts.fingerprint, stop_at=stop_at))
        if resumes:
            recipe = run.continued(folder, recipe, given, texts.fingerprint)
        found = checkpoint.newest(folder) if resumes else None
        origin = init_from or given["init_from"]
        starting = None if found or origin is None else open_saved(origin)
        kept = {name: folder / file for name, file in run.TOKENIZERS.items()} if resumes else {}
        if starting is not None and not resumes:
            if starting.tokenizer is None:
                raise UserError(f"--init-from {starting.where} has no tokenizer.json, and a new run reads text with it")
            recipe = recipe.with_changes(tokenizer={"specials": starting.recipe.tokenizer.specials})
            kept = starting.tokenizers
        corpus = tokenized(recipe, texts, kept, cache)
        replicas = replicas or _connected(None, recipe)
        if not resumes:
            recipe = settled(recipe)
            recipe = recipe.with_changes(train={"micro_rows": budget.fitting_rows(recipe)})
        fits, starts = not resumes and minutes is not None, starting is not None
        replicas.exchange(_Plan.of(recipe, corpus, fits, starts)._asdict())
        session = Session(recipe, corpus, folder, replicas)
        if starting is not None:
            session.init_from(starting)
        if minutes is not None and fits:
            session.fit_minutes(minutes)
        if not resumes:
            session.write_start(given, texts.fingerprint)
        told = [(line["step"], line["split"]) for line in run.read_metrics(folder)]
        session.restore(found)
        if starts:
            session.save()  # it may be gone, or have learned more, when this run is resumed
        followed = trackers.Trackers(given.get("track") or (), folder, recipe, told)
        with caught() as stop, closing(Metrics(folder, followed)) as metrics:
            Loop(session, metrics, stop, stop_at).run()
        return run.Run(folder, run.read_metrics(folder))


class _Plan(NamedTuple):
    """What worker 0 tells the others before the first update; all of it JSON."""

    name: str
    recipe: dict[str, Any]
    tokenizers: dict[str, str]  # their files, by the section of the recipe that asks for them
    fits: bool  # whether an update is measured, for --minutes
    starts: bool  # whether a checkpoint is saved before the first update

    @classmethod
    def of(cls, recipe: Recipe, corpus: Corpus, fits: bool, starts: bool) -> "_Plan":
        tokenizers = {section: tokenizer.json() for section, tokenizer in corpus.tokenizers.items()}
        return cls(recipe.name, recipe.model_dump(exclude={"name"}, mode="json"), tokenizers, fits, starts)


def _connected(together: Cluster | None, recipe: Recipe) -> "Replicas":
    return engines.replicas().connect(together, recipe.mesh)


def _follow(
    replicas: "Replicas", recipe: Recipe, given: dict[str, Any], data: Any, folder: Path, stop_at: int | None
) -> run.Run:
    """The same for all workers but worker 0, which tells what is to be done, and alone has the run's folder and says
    how it goes."""
    with (
        TemporaryDirectory() as kept,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),
        caught() as stop,
        replicas.watched(),
    ):
        wanted = run.asked(recipe, given, data)
        texts = open_texts(run.corpus_of(wanted) if data is None else data, wanted.data)
        replicas.agree(run.facts(wanted, texts.fingerprint, stop_at=stop_at))
        plan = _Plan(**replicas.exchange(None)[0])
        recipe = checked(Recipe, {**plan.recipe, "name": plan.name}, "worker 0")
        files = {section: Path(kept, run.TOKENIZERS[section]) for section in plan.tokenizers}
        for section, file in files.items():
            file.write_text(plan.tokenizers[section], encoding="utf-8")
        session = Session(recipe, tokenized(recipe, texts, files, home()), Path(kept), replicas)
        if plan.fits:
            session.fit_minutes(given["minutes"])
        session.restore(None)
        if plan.starts:
            session.save()
        Loop(session, None, stop, stop_at).run()
    return run.Run(folder, [])


def _check_numbers(updates: Any, stop_at: Any, minutes: Any) -> None:
    whole = {"--updates": updates, "--stop-at": stop_at}
    for name, value in {**whole, "--minutes": minutes}.items():
        kinds, what = (int, "whole number") if name in whole else (int | float, "number")
        if value is not None and (not isinstance(value, kinds) or not 0 < value < math.inf):
            raise UserError(f"{name} is {value!r}; it must be a {what} above 0")
    if updates is not None and minutes is not None:
        raise UserError("--updates and --minutes exclude each other: the one sets the updates, the other fits them")
