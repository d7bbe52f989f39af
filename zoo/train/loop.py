"""Pretraining, from a recipe and a corpus to a run's folder: read this top to bottom."""

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import accounting
from zoo.corpus.prepare import Corpus, prepare
from zoo.corpus.rows import plan
from zoo.corpus.sources import open_source
from zoo.errors import Interrupted, RunFailed, UserError
from zoo.home import home
from zoo.objective import Vocab
from zoo.progress import say
from zoo.registry import recipe as find_recipe
from zoo.saved import Saved, open_saved, some
from zoo.schema import Recipe
from zoo.train import budget, checkpoint, evaluation, run
from zoo.train.feed import EVALUATION_SEED, Feed, Update
from zoo.train.schedule import learning_rate
from zoo.train.signals import Stop, caught
from zoo.train.start import Learner, fitting_precision, start_backend, use_backend
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
        data: a path, folder, glob or hf:NAME, a DataFrame, or texts (one document each); None = the recipe's corpus.
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
        given = {"updates": updates, "seed": seed, "minutes": minutes, "init_from": init_from and str(init_from)}
        if resumes:
            given = run.given_again(folder, given)
        recipe = run.asked(recipe, given, data)
        run.check_space(folder, accounting.params(recipe))
        cache = home()
        source = open_source(recipe.data.corpus if data is None else data, recipe.data)
        if resumes:
            recipe = run.continued(folder, recipe, given, source.fingerprint)
        starting = None if resumes or init_from is None else open_saved(init_from)
        tokenizer_file = folder / run.TOKENIZER if resumes else None
        if starting is not None:
            if starting.tokenizer is None:
                raise UserError(f"--init-from {starting.where} has no tokenizer.json, and a new run reads text with it")
            tokenizer_file = starting.tokenizer
            recipe = recipe.with_changes(tokenizer={"specials": starting.recipe.tokenizer.specials})
        spec = recipe.tokenizer
        if tokenizer_file is not None:
            spec = spec.model_copy(update={"file": str(tokenizer_file)})
        valid_source = None if recipe.data.valid is None else open_source(recipe.data.valid, recipe.data)
        corpus = prepare(source, spec, recipe.data, valid_source=valid_source, home=cache)
        session = Session(recipe, corpus, folder, fitted=resumes)
        if starting is not None:
            session.init_from(starting)
        if not resumes:
            if minutes is not None:
                session.fit_minutes(minutes)
            session.write_start(given, source.fingerprint)
        session.restore()
        with caught() as stop:
            session.train(stop, stop_at)
        return run.Run(folder, run.read_metrics(folder))


def _check_numbers(updates: Any, stop_at: Any, minutes: Any) -> None:
    whole = {"--updates": updates, "--stop-at": stop_at}
    for name, value in {**whole, "--minutes": minutes}.items():
        kinds, what = (int, "whole number") if name in whole else (int | float, "number")
        if value is not None and (not isinstance(value, kinds) or not 0 < value < math.inf):
            raise UserError(f"{name} is {value!r}; it must be a {what} above 0")
    if updates is not None and minutes is not None:
        raise UserError("--updates and --minutes exclude each other: the one sets the updates, the other fits them")


class Session:
    """One process's work on one run."""

    def __init__(self, recipe: Recipe, corpus: Corpus, folder: Path, fitted: bool):
        start_backend()
        from zoo.train.optimizer import Optimizer
        from zoo.train.step import Engine

        if not fitted:
            settled = {"precision": fitting_precision(recipe)}
            recipe = recipe.with_changes(train=settled)
            recipe = recipe.with_changes(train={"micro_rows": budget.fitting_rows(recipe)})
        self.recipe, self.corpus, self.folder = recipe, corpus, folder
        tokenizer = corpus.tokenizer
        vocab = Vocab(recipe.tokenizer.size, tokenizer.size, tokenizer.special)
        self.learner = Learner(recipe, vocab, recipe.train.precision)
        self.optimizer = Optimizer(recipe.train.adam, self.learner.weights)
        self.engine = Engine(self.learner, self.optimizer, recipe.train)
        objective = self.learner.objective
        shape: dict[str, Any] = {"row_tokens": recipe.row_tokens, "extra": objective.extra_tokens}
        shape |= {"special": tokenizer.special, "rows_per_update": recipe.rows_per_update}
        rows = plan(corpus.train, recipe.data, **shape, seed=recipe.train.seed)
        held_out = plan(corpus.valid, recipe.data, **shape, seed=EVALUATION_SEED, whole=True)
        micro_rows = recipe.train.micro_rows or 1
        self.feed = Feed(objective, rows, recipe.rows_per_update, micro_rows, recipe.train.seed)
        count = held_out.rows_in_epoch
        if recipe.train.evaluate_tokens is not None:
            count = min(count, -(-recipe.train.evaluate_tokens // recipe.row_tokens))
        self.held_out = Feed(objective, held_out, count, micro_rows, EVALUATION_SEED)
        self.step = 0  # updates done
        self.evaluated = 0  # the newest of them that was evaluated

    def init_from(self, starting: Saved) -> None:
        """Takes the weights of another model that fit by name and shape, and says which."""
        found, own = starting.weights, self.learner.weights
        taken = {name for name in found if name in own and tuple(own[name].shape) == found[name].shape}
        if not taken:
            raise UserError(f"--init-from {starting.where} has no weight that fits this recipe by name and shape")
        self.learner.set_weights({name: found[name] for name in taken})
        told = f"{len(taken)} of {len(own)} weights and the tokenizer taken from {starting.where}"
        fresh, left = sorted(own.keys() - taken), sorted(found.keys() - taken)
        for what, names in (("fresh", fresh), ("left out", left)):
            told += f"; {what}: {some(names)}" if names else ""
        say(told)

    def fit_minutes(self, minutes: float) -> None:
        """Measures an update here and sets the schedule's end so that training takes `minutes`."""
        seconds = budget.measure(self.engine, self.feed, self.held_out)
        train = budget.fitted(self.recipe, minutes, seconds)
        self.recipe = self.recipe.with_changes(train=train)
        say(f"--minutes {minutes:g}: {self.recipe.train.updates} updates of {seconds.update:.3g} s")

    def write_start(self, given: dict[str, Any], fingerprint: str) -> None:
        """Everything the folder holds before the first update."""
        (self.folder / run.TOKENIZER).write_text(self.corpus.tokenizer.json(), encoding="utf-8")
        facts = {"given": given, "corpus_fingerprint": fingerprint, "corpus": self.corpus.facts}
        run.write_environment(self.folder, **facts, device=budget.device())
        run.write_recipe(self.folder, self.recipe)

    def restore(self) -> None:
        """Goes on from the newest whole checkpoint, or from the start where there is none."""
        found = checkpoint.newest(self.folder)
        if found is not None:
            weights, slots, state = checkpoint.load(found)
            self.learner.set_weights(weights)
            for name, value in slots.items():
                self.optimizer.slots[name].assign(value)
            self.step = state["step"]
            say(f"resumed from {found}")
        kept = run.cut_metrics(self.folder, self.step)
        self.evaluated = max((line["step"] for line in kept if line["split"] == "valid"), default=0)

    def train(self, stop: Stop, stop_at: int | None) -> None:
        """Updates until the schedule ends, `stop_at`, or a signal."""
        train, first = self.recipe.train, self.step
        last = train.updates if stop_at is None else min(stop_at, train.updates)
        if first >= last and not self._owes_evaluation():
            say(f"{self.folder} has {first} updates already; nothing is left to do")
            return
        self._introduce()
        metrics = Metrics(self.folder)
        advice = partial(budget.advice, self.recipe)
        display = Display(last, first, train.tokens_per_update, self._baselines(), advice)
        saved = time.monotonic()
        try:
            with display.shown(), suppress(Interrupted):
                for update in chain(self.feed.updates(first, last), [None]):
                    if self._owes_evaluation():
                        metrics.write(self._evaluate(display, stop))
                        self.evaluated = self.step
                    if update is None:
                        break
                    display.pause()
                    begin = time.monotonic()
                    done = self._run(update, display, stop)
                    line = self._line(update, *done, time.monotonic() - begin)
                    metrics.write(line)
                    display.update(line, list(update.weights))
                    self._fail_if_not_finite()
                    self.step = update.number + 1
                    on_time = train.checkpoint_every is not None and self.step % train.checkpoint_every == 0
                    if self.step < last and (on_time or time.monotonic() - saved > 60 * train.checkpoint_minutes):
                        self.save(final=False)
                        saved = time.monotonic()
        finally:
            metrics.close()
        self.save(final=True)
        stop.check(f"saved after update {self.step} of {train.updates}; the same command with --resume continues")
        if self.step == train.updates:
            self._show()

    def _owes_evaluation(self) -> bool:
        """Whether the weights as they are must be evaluated, and were not: a signal may have come between."""
        train = self.recipe.train
        due = self.step == train.updates or (train.evaluate_every and self.step % train.evaluate_every == 0)
        return bool(due) and self.step > self.evaluated

    def _run(self, update: Update, display: Display, stop: Stop) -> tuple[dict[str, float], float]:
        """One update, micro-batch by micro-batch. Interrupted when a signal came before it was whole."""
        from zoo.train.step import to_device

        train, factors = self.recipe.train, update.factors(self.learner.objective.scales)
        rate = learning_rate(train, update.number)
        tokens = train.tokens_per_update / len(update.batches)
        sums = dict.fromkeys(factors, 0.0)
        norm = None
        for batch, first in zip(update.batches, update.firsts, strict=True):
            stop.check()
            if len(update.batches) == 1:
                totals, norm = self.engine.update(to_device(batch), factors, rate, update.number)
            else:
                totals = self.engine.gradient(to_device(batch), factors, update.number, first)
            for task, total in totals.items():
                sums[task] += float(total)
            display.micro_batch(tokens)
        if norm is None:
            norm = self.engine.apply(rate, update.number)
        return sums, float(norm)

    def _line(self, update: Update, sums: dict[str, float], norm: float, seconds: float) -> dict[str, Any]:
        """The line of metrics.jsonl for one update."""
        tokens = self.recipe.train.tokens_per_update
        return {
            "step": update.number + 1,
            "split": "train",
            **evaluation.losses(sums, update.weights, self.learner.objective.scales),
            "tokens": (update.number + 1) * tokens,
            "learning_rate": learning_rate(self.recipe.train, update.number),
            "grad_norm": norm,
            "tokens_per_second": tokens / seconds,
        }

    def _evaluate(self, display: Display, stop: Stop) -> dict[str, Any]:
        """The line of metrics.jsonl for the validation split. Interrupted when a signal came before it was whole."""

        def shown(rows: int, of: int) -> None:
            display.evaluating(rows, of)
            stop.check()

        found = evaluation.evaluate(self.engine, self.held_out, self.corpus.valid, shown)
        display.tell(f"validation after update {self.step}: {evaluation.describe(found)}")
        return {"step": self.step, "split": "valid", **found}

    def _show(self) -> None:
        """Leaves a look at what was learned: text that the model wrote or filled in, on held-out rows."""
        from zoo.use.loaded import Loaded
        from zoo.use.show import sample

        model = Loaded(self.recipe, self.corpus.tokenizer, self.learner)
        text = sample(model, self.held_out.plan.rows(0, 0, 1))
        # What a young model writes may steer a terminal.
        text = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
        (self.folder / run.SAMPLE).write_text(text + "\n", encoding="utf-8")

    def save(self, final: bool) -> None:
        """Writes a checkpoint; a disk that will not take it ends the run only at its end."""
        train = self.recipe.train
        state = {"tokens": self.step * train.tokens_per_update}
        try:
            checkpoint.save(
                self.folder, self.step, self.learner.weights, self.optimizer.slots, state, train.keep_checkpoints
            )
        except OSError as error:
            if final:
                raise RunFailed(f"the last checkpoint could not be written to {self.folder}: {error}") from None
            say(f"warning: no checkpoint after update {self.step} ({error}); training goes on")

    def _fail_if_not_finite(self) -> None:
        failed = int(self.engine.failed.numpy())
        if failed >= 0:
            raise RunFailed(
                f"update {failed + 1} had a loss or gradient that is not finite; it and all later ones were skipped."
                f" The newest checkpoint is whole; a lower train.learning_rate or train.clip_norm may help"
            )

    def _introduce(self) -> None:
        model, train = self.recipe.model, self.recipe.train
        say(
            f"{self.recipe.name}: {self.learner.count_params():,} parameters ({model.layers} layers x {model.width}),"
            f" objective {self.recipe.objective['name']}, {train.precision}; {self.recipe.rows_per_update} rows x"
            f" {self.recipe.row_tokens} tokens an update, {self.feed.micro_rows} rows at once; in {self.folder}"
        )
        if train.warmup_updates >= train.updates:
            say(f"warning: train.warmup_updates {train.warmup_updates} is not below train.updates {train.updates}")

    def _baselines(self) -> str:
        """What the losses can be compared with before anything is learned."""
        chance = ", ".join(f"{task} {nats:.2f}" for task, nats in self.learner.objective.chance().items())
        return f"by chance {chance}; unigram entropy {self.corpus.train.unigram_entropy:.2f}"
