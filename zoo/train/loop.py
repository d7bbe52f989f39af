"""Pretraining, from a recipe and a corpus to a run's folder: read this top to bottom."""

import math
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import accounting
from zoo.corpus.prepare import open_texts, tokenized
from zoo.disk import write_whole
from zoo.errors import Interrupted, RunFailed, UserError, some
from zoo.home import home
from zoo.progress import printable, say
from zoo.registry import recipe as find_recipe
from zoo.saved import is_folder, open_saved
from zoo.schema import Recipe
from zoo.tensors import TensorFile
from zoo.train import budget, checkpoint, evaluation, run
from zoo.train.feed import Update
from zoo.train.schedule import learning_rate
from zoo.train.session import Session
from zoo.train.signals import Stop, caught
from zoo.train.start import use_backend
from zoo.train.telemetry import Display, Metrics

if TYPE_CHECKING:
    from pandas import DataFrame


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

    Raises:
        UserError: something given cannot be used. RunFailed: the loss stopped being finite, or the last checkpoint
        could not be written. Interrupted: a signal came; everything up to the last whole update is saved.
    """
    use_backend()
    if not isinstance(recipe, Recipe):
        recipe = find_recipe(recipe)
    _check_numbers(updates, stop_at, minutes)
    folder = run.choose_folder(recipe, out, resume)
    with run.locked(folder):
        resumes = (folder / run.RECIPE).is_file()
        given = {"updates": updates, "seed": seed, "minutes": minutes, "init_from": init_from}
        if init_from is not None and is_folder(init_from):
            given["init_from"] = str(Path(init_from).absolute())
        if resumes:
            given = run.given_again(folder, given)
        recipe = run.asked(recipe, given, data)
        run.check_space(folder, accounting.checkpoint_bytes(recipe))
        cache = home()
        texts = open_texts(run.corpus_of(recipe) if data is None else data, recipe.data)
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
        session = Session(recipe, corpus, folder, fitted=resumes)
        if starting is not None:
            session.init_from(starting)
        if not resumes:
            if minutes is not None:
                session.fit_minutes(minutes)
            session.write_start(given, texts.fingerprint)
        session.restore(found)
        if starting is not None:
            session.save()  # it may be gone, or have learned more, when this run is resumed
        with caught() as stop, closing(Metrics(folder)) as metrics:
            Loop(session, metrics, stop, stop_at).run()
        return run.Run(folder, run.read_metrics(folder))


def _check_numbers(updates: Any, stop_at: Any, minutes: Any) -> None:
    whole = {"--updates": updates, "--stop-at": stop_at}
    for name, value in {**whole, "--minutes": minutes}.items():
        kinds, what = (int, "whole number") if name in whole else (int | float, "number")
        if value is not None and (not isinstance(value, kinds) or not 0 < value < math.inf):
            raise UserError(f"{name} is {value!r}; it must be a {what} above 0")
    if updates is not None and minutes is not None:
        raise UserError("--updates and --minutes exclude each other: the one sets the updates, the other fits them")


class Loop:
    """Updates of a session until the schedule ends, `stop_at`, or a signal."""

    def __init__(self, session: Session, metrics: Metrics, stop: Stop, stop_at: int | None):
        self.session, self.metrics, self.stop, self.stop_at = session, metrics, stop, stop_at
        self.recipe, self.train, self.folder = session.recipe, session.recipe.train, session.folder
        self.last = self.train.updates if stop_at is None else min(stop_at, self.train.updates)
        advice = partial(budget.advice, self.recipe)
        self.display = Display(self.last, session.step, self.train.tokens_per_update, self._baselines(), advice)

    def run(self) -> None:
        """Trains, with a checkpoint at the end; leaves a sample of what was learned when the schedule has ended."""
        session, first = self.session, self.session.step
        if first >= self.last and not self._owes_evaluation():
            say(f"{self.folder} has {first} updates already; nothing is left to do")
        else:
            self._introduce()
            try:
                with self.display.shown(), suppress(Interrupted):
                    self._evaluate_if_due()
                    for update in session.feed.updates(first, self.last):
                        self._update(update)
                        self._save_if_due()
                        self._evaluate_if_due()
            finally:
                session.saver.wait()
            session.save()
            self.stop.check(
                f"saved after update {session.step} of {self.train.updates};"
                f" to continue: {run.continuing(self.folder, self.recipe, self.stop_at)}"
            )
        news = session.step > first or not (self.folder / run.SAMPLE).exists()
        if session.step == self.train.updates and news:
            self._finish()

    def _update(self, update: Update) -> None:
        """One update and its line of metrics.jsonl. Interrupted when a signal came before it was whole."""
        self.display.pause()
        begin = time.monotonic()
        sums, norm = self._compute(update)
        line = self._line(update, sums, norm, time.monotonic() - begin)
        self._write(line)
        self.display.update(line, list(update.weights))
        self._fail_if_not_finite()
        self.session.step = update.number + 1

    def _compute(self, update: Update) -> tuple[dict[str, float], float]:
        """Every task's total, and the gradient's norm, of one update, which is done micro-batch by micro-batch.

        They are read when all is done: a device may be several micro-batches behind this loop.
        """
        from zoo.train.step import to_device

        engine = self.session.engine
        factors = update.factors(engine.scales)
        rate = learning_rate(self.train, update.number)
        tokens = self.train.tokens_per_update / len(update.batches)
        found: list[dict[str, Any]] = []
        norm = None
        for batch, first in zip(update.batches, update.firsts, strict=True):
            self.stop.check()
            if len(update.batches) == 1:
                totals, norm = engine.update(to_device(batch), factors, rate, update.number)
            else:
                totals = engine.gradient(to_device(batch), factors, update.number, first)
            found.append(totals)
            self.display.micro_batch(tokens)
        if norm is None:
            norm = engine.apply(rate, update.number)
        return {task: sum(float(totals[task]) for totals in found) for task in factors}, float(norm)

    def _line(self, update: Update, sums: dict[str, float], norm: float, seconds: float) -> dict[str, Any]:
        """The line of metrics.jsonl for one update."""
        tokens = self.train.tokens_per_update
        return {
            "step": update.number + 1,
            "split": "train",
            **evaluation.losses(sums, update.weights, self.session.engine.scales),
            "tokens": (update.number + 1) * tokens,
            "learning_rate": learning_rate(self.train, update.number),
            "grad_norm": norm,
            "tokens_per_second": tokens / seconds,
        }

    def _write(self, line: dict[str, Any]) -> None:
        """One line of metrics.jsonl; a save that has filled the disk gives the room back when it fails."""
        try:
            self.metrics.write(line)
        except OSError:
            self.session.saver.wait()
            self.metrics.file.flush()

    def _save_if_due(self) -> None:
        """A checkpoint at the end and where the recipe wants one; one that is only late does not wait for another."""
        session, train = self.session, self.train
        session.saver.look()
        wanted = any(every and session.step % every == 0 for every in (train.checkpoint_every, train.keep_every))
        late = time.monotonic() - session.saved_at > 60 * train.checkpoint_minutes and not session.saver.busy
        if wanted or late or session.step == self.last:
            session.begin_save()

    def _owes_evaluation(self) -> bool:
        """Whether the weights as they are must be evaluated, and were not: a signal may have come between."""
        train, step = self.train, self.session.step
        due = step == train.updates or (train.evaluate_every and step and step % train.evaluate_every == 0)
        return bool(due) and step not in self.session.losses

    def _evaluate_if_due(self) -> None:
        """The line of metrics.jsonl for the validation split. Interrupted when a signal came before it was whole."""
        if not self._owes_evaluation():
            return
        session = self.session

        def shown(rows: int, of: int) -> None:
            self.display.evaluating(rows, of)
            self.stop.check()

        found = evaluation.evaluate(session.engine, session.held_out, shown)
        self.display.tell(f"validation after update {session.step}: {evaluation.describe(found)}")
        self._write({"step": session.step, "split": "valid", **found})
        session.losses[session.step] = found["loss"]

    def _finish(self) -> None:
        """What follows the last update: the mean of the last checkpoints, the test split, a look at what came of it."""
        session = self.session
        if self.train.average_checkpoints is not None and len(checkpoint.found(self.folder)) > 1:
            steps = checkpoint.average(self.folder, self.train.average_checkpoints)
            folder = checkpoint.averaged_of(self.folder)
            say(f"the mean of the checkpoints of updates {some([str(step) for step in steps])} is in {folder}")
            session.learner.set_weights(TensorFile(folder / checkpoint.WEIGHTS))
            self._evaluate("valid", session.held_out, averaged=len(steps))
        if session.test is not None:
            self._evaluate("test", session.test)
        self._show()

    def _evaluate(self, split: str, held_out: evaluation.HeldOut, **facts: Any) -> None:
        """One more line of metrics.jsonl, for the weights as they are at the end."""
        found = evaluation.evaluate(self.session.engine, held_out, lambda done, of: self.stop.check())
        say(f"{split}: {evaluation.describe(found)}")
        self._write({"step": self.session.step, "split": split, **found, **facts})

    def _show(self) -> None:
        """Leaves a look at what was learned: text that the model wrote or filled in, on held-out rows."""
        from zoo.use.loaded import Loaded
        from zoo.use.show import sample

        session = self.session
        corpus = session.corpus
        model = Loaded(self.recipe, corpus.tokenizer, session.learner, source_tokenizer=corpus.source_tokenizer)
        text = sample(model, session.held_out.feed.plan.rows(0, 0, 1))
        write_whole(self.folder / run.SAMPLE, printable(text) + "\n")

    def _fail_if_not_finite(self) -> None:
        failed = int(self.session.engine.failed.numpy())
        if failed >= 0:
            raise RunFailed(
                f"update {failed + 1} had a loss or gradient that is not finite; it and all later ones were skipped."
                f" The newest checkpoint is whole; a lower train.learning_rate or train.clip_norm may help"
            )

    def _introduce(self) -> None:
        recipe, train, encoder = self.recipe, self.train, self.recipe.model.encoder_layers
        layers = f"{encoder} + {recipe.model.layers}" if encoder else recipe.model.layers
        say(
            f"{recipe.name}: {self.session.learner.count_params():,} parameters ({layers} layers x"
            f" {recipe.model.width}), objective {recipe.objective['name']}, {train.precision};"
            f" {recipe.rows_per_update} rows x {recipe.row_tokens} tokens an update,"
            f" {self.session.feed.micro_rows} rows at once; in {self.folder}"
        )
        if train.warmup_updates >= train.updates:
            say(f"warning: train.warmup_updates {train.warmup_updates} is not below train.updates {train.updates}")

    def _baselines(self) -> str:
        """What the losses can be compared with before anything is learned."""
        chance = ", ".join(f"{task} {nats:.2f}" for task, nats in self.session.learner.objective.chance().items())
        return f"by chance {chance}; unigram entropy {self.session.corpus.train.unigram_entropy:.2f}"
