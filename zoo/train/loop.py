"""The loop: updates, their metrics, checkpoints and evaluations, until the schedule ends."""

import signal
import time
from contextlib import suppress
from functools import partial
from typing import Any

from zoo import accounting, word_budget
from zoo.disk import write_whole
from zoo.errors import Interrupted, RunFailed, some
from zoo.progress import amount, printable, say
from zoo.train import budget, checkpoint, evaluation, run
from zoo.train.feed import Update
from zoo.train.schedule import learning_rate
from zoo.train.session import Session
from zoo.train.signals import Stop
from zoo.train.telemetry import Display, Metrics


class Loop:
    """Updates of a session until the schedule ends, `stop_at`, or a signal.

    Of several workers each runs this loop, in step with the others; metrics: of worker 0, which alone writes.
    """

    def __init__(self, session: Session, metrics: Metrics | None, stop: Stop, stop_at: int | None):
        self.session, self.metrics, self.stop, self.stop_at = session, metrics, stop, stop_at
        self.recipe, self.train, self.folder = session.recipe, session.recipe.train, session.folder
        self.replicas = session.replicas
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
                        late = self._meet()
                        self._update(update)
                        self._save_if_due(late)
                        self._evaluate_if_due()
            finally:
                session.saver.wait()
            session.save()
            self._meet(
                f"saved after update {session.step} of {self.train.updates};"
                f" to continue: {run.continuing(self.folder, self.recipe, self.stop_at)}"
            )
        news = session.step > first or not (self.folder / run.SAMPLE).exists()
        if session.step == self.train.updates and self.replicas.exchange(news)[0]:
            self._finish()

    def _meet(self, message: str = "interrupted") -> bool:
        """Between updates: a signal that reached one worker ends all; whether a save is late is said by worker 0.

        Interrupted when one came to any of them before they met; one that comes meanwhile waits for the next time.
        """
        found = self.replicas.total({"signals": float(self.stop.signal is not None), "late": float(self._is_late())})
        if found["signals"]:
            raise Interrupted(self.stop.signal or signal.SIGTERM, message)
        return bool(found["late"])

    def _check_stop(self) -> None:
        """Interrupted when a signal came; of several workers none leaves the others alone in the middle of work."""
        if self.replicas.workers == 1:
            self.stop.check()

    def _update(self, update: Update) -> None:
        """One update and its line of metrics.jsonl. Interrupted when a signal came before it was whole."""
        self.display.pause()
        begin = time.monotonic()
        sums, norm = self._compute(update)
        line = self._line(update, sums, norm, time.monotonic() - begin)
        self._write(line)
        self.display.update(line, list(update.weights))
        self._fail_if_not_finite()
        self.session.count(update)

    def _compute(self, update: Update) -> tuple[dict[str, float], float]:
        """Every task's total, and the gradient's norm, of one update, which is done micro-batch by micro-batch.

        They are read when all is done: a device may be several micro-batches behind this loop.
        """
        engine = self.session.engine
        factors = update.factors(engine.scales)
        rate = learning_rate(self.train, update.number)
        tokens = self.train.tokens_per_update / len(update.batches)
        found: list[dict[str, Any]] = []
        norm = None
        for batch, first in zip(update.batches, update.firsts, strict=True):
            self._check_stop()
            if len(update.batches) == 1:
                totals, norm = engine.update(batch, factors, rate, update.number, first)
            else:
                totals = engine.gradient(batch, factors, update.number, first)
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
        if self.metrics is None:
            return
        try:
            self.metrics.write(line)
        except OSError:
            self.session.saver.wait()
            self.metrics.file.flush()

    def _save_if_due(self, late: bool) -> None:
        """A checkpoint at the end and where the recipe wants one; one that is only late does not wait for another."""
        session, train = self.session, self.train
        session.saver.look()
        wanted = any(every and session.step % every == 0 for every in (train.checkpoint_every, train.keep_every))
        if wanted or late or session.reached or session.step == self.last:
            session.begin_save()

    def _is_late(self) -> bool:
        """Whether this process would save, as the last checkpoint was long ago and is written."""
        session = self.session
        if not self.replicas.chief:
            return False
        return time.monotonic() - session.saved_at > 60 * self.train.checkpoint_minutes and not session.saver.busy

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
            self._check_stop()

        found = evaluation.evaluate(session.engine, session.held_out, shown)
        self.display.tell(f"validation after update {session.step}: {evaluation.describe(found)}")
        self._write({"step": session.step, "split": "valid", **found})
        session.losses[session.step] = found["loss"]

    def _finish(self) -> None:
        """What follows the last update: the mean of the last checkpoints, the test split, a look at what came of it."""
        session = self.session
        if averaged := self.replicas.exchange(self._averaged())[0]:
            session.take_weights(checkpoint.averaged_of(session.shared))
            self._evaluate("valid", session.held_out, averaged=averaged)
        if session.test is not None:
            self._evaluate("test", session.test)
        if self.replicas.chief:
            self._show()

    def _averaged(self) -> int:
        """Writes the mean of the last checkpoints; of how many it is, 0 where there is none."""
        count, chief = self.train.average_checkpoints, self.replicas.chief
        if count is None or not chief or len(checkpoint.found(self.folder)) < 2:
            return 0
        steps = checkpoint.average(self.folder, count)
        where = checkpoint.averaged_of(self.folder)
        say(f"the mean of the checkpoints of updates {some([str(step) for step in steps])} is in {where}")
        return len(steps)

    def _evaluate(self, split: str, held_out: evaluation.HeldOut, **facts: Any) -> None:
        """One more line of metrics.jsonl, for the weights as they are at the end."""
        found = evaluation.evaluate(self.session.engine, held_out, lambda done, of: self._check_stop())
        say(f"{split}: {evaluation.describe(found)}")
        self._write({"step": self.session.step, "split": split, **found, **facts})

    def _show(self) -> None:
        """Leaves a look at what was learned: text that the model wrote or filled in, on held-out rows."""
        from zoo.use.loaded import Loaded
        from zoo.use.show import sample

        session = self.session
        if session.engine.cut and self.replicas.workers > 1:
            write_whole(self.folder / run.SAMPLE, "No worker has whole weights; zoo.load reads the checkpoint.\n")
            return
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
        if self.replicas.count > 1:
            size = self.session.learner.count_params() * accounting.sent_bytes(recipe)
            say(
                f"{self.replicas.count} replicas in {self.replicas.workers} workers share every update, and add up"
                f" {amount(size)}B of gradients"
            )
        if train.save_at_words:
            self._introduce_words()
        if train.warmup_updates >= train.updates:
            say(f"warning: train.warmup_updates {train.warmup_updates} is not below train.updates {train.updates}")

    def _introduce_words(self) -> None:
        budgets, expected = self.train.save_at_words, self.session.expected_words()
        rate = amount(expected / self.train.updates)
        say(f"checkpoints at {word_budget.labels(budgets)} words; an update has about {rate}of them")
        if beyond := [words for words in budgets if words > expected]:
            say(
                f"warning: train.save_at_words {word_budget.labels(beyond)} will not be reached: the schedule's"
                f" {self.train.updates} updates read about {amount(expected)}words"
            )

    def _baselines(self) -> str:
        """What the losses can be compared with before anything is learned."""
        chance = ", ".join(f"{task} {nats:.2f}" for task, nats in self.session.learner.objective.chance().items())
        return f"by chance {chance}; unigram entropy {self.session.corpus.train.unigram_entropy:.2f}"
