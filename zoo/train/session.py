"""One process's work on one run: everything that training needs, from the recipe and the corpus.

Of several workers each has a session; worker 0 alone reads and writes the run's folder, and tells the others. Where
weights are cut, so that no worker has them all, each reads and writes its parts of checkpoints.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import disk, word_budget
from zoo.batch import Array
from zoo.corpus.prepare import Corpus
from zoo.corpus.shards import Tokens
from zoo.errors import RunFailed, UserError, some
from zoo.objective import Vocab
from zoo.progress import say
from zoo.saved import Saved
from zoo.schema import Recipe
from zoo.tensors import check_shapes
from zoo.train import budget, checkpoint, engines, run
from zoo.train.evaluation import HeldOut, held_out
from zoo.train.feed import Feed, Share, Update, rows_of
from zoo.train.saver import Saver
from zoo.train.start import Learner, engine

if TYPE_CHECKING:
    from zoo.train.replicas import Replicas
    from zoo.train.step import Engine


LOOKED_AT = 8  # updates whose words are counted before the first


class Session:
    """The network, its optimizer and its rows at some update of a run, and how they are kept."""

    def __init__(self, recipe: Recipe, corpus: Corpus, folder: Path, replicas: "Replicas"):
        from zoo.train.optimizer import Optimizer

        budget.check_memory(recipe)
        self.recipe, self.corpus, self.folder = recipe, corpus, folder
        self.shared = folder  # whose checkpoints are read and written
        tokenizer = corpus.tokenizer
        vocab = Vocab(recipe.scored_rows, tokenizer.size, tokenizer.special)
        self.replicas = replicas
        with self.replicas.scope():
            self.learner = Learner(recipe, vocab, recipe.train.precision)
            self.optimizer = Optimizer(recipe.train.adam, self.learner.weights)
            self.engine: Engine = engines.step().Engine(self.learner, self.optimizer, self.replicas)
        rows = rows_of(recipe, self.learner.objective, corpus.train, tokenizer.special, recipe.train.seed)
        split = recipe.rows_per_update, budget.fitting_rows(recipe), recipe.train.seed
        self.feed = engines.replicas().Feeds(
            self.replicas, [Feed(self.learner.objective, rows, *split, share) for share in self.replicas.shares]
        )
        self.held_out = self._held_out(corpus.valid, recipe.train.evaluate_tokens)
        self.test = None if corpus.test is None else self._held_out(corpus.test)
        if (told := rows.about()) is not None:
            say(f"rows: {told}")
        self.step = 0  # updates done
        self.words = 0  # that were read in them
        self.reached: tuple[int, ...] = ()  # the budgets of words that the last of them reached
        self.losses: dict[int, float] = {}  # of the validation split, after which update
        self.starting: Mapping[str, Array] = {}  # another model's weights
        self.taken: list[str] = []  # those of them that this one began with
        self.saver = Saver()
        self.saved_at = time.monotonic()

    def _held_out(self, tokens: Tokens, most: int | None = None) -> HeldOut:
        return held_out(self.recipe, self.learner, tokens, self.corpus.tokenizer.special, most, self.replicas)

    def init_from(self, starting: Saved) -> None:
        """Takes the weights of another model that fit by name and shape, and says which."""
        found, own = starting.weights, self.learner.weights
        taken = {name for name in found if name in own and tuple(own[name].shape) == found[name].shape}
        if not taken:
            raise UserError(f"--init-from {starting.where} has no weight that fits this recipe by name and shape")
        for name in taken:
            self.engine.restore({name: found[name]})
        self.starting, self.taken = found, sorted(taken)
        told = f"{len(taken)} of {len(own)} weights and the tokenizer taken from {starting.where}"
        fresh, left = sorted(own.keys() - taken), sorted(found.keys() - taken)
        for what, names in (("fresh", fresh), ("left out", left)):
            told += f"; {what}: {some(names)}" if names else ""
        say(told)

    def fit_minutes(self, minutes: float) -> None:
        """Measures an update here and sets the schedule's end so that training takes `minutes`."""
        measured = budget.measure(self.engine, self.feed, self.held_out)
        seconds = budget.Seconds(*self.replicas.exchange(measured)[0])
        train = budget.fitted(self.recipe, minutes, seconds)
        self.recipe = self.recipe.with_changes(train=train)
        say(f"--minutes {minutes:g}: {self.recipe.train.updates} updates of {seconds.update:.3g} s")

    def write_start(self, given: dict[str, Any], fingerprint: str) -> None:
        """Everything the folder holds before the first update."""
        for section, tokenizer in self.corpus.tokenizers.items():
            (self.folder / run.TOKENIZERS[section]).write_text(tokenizer.json(), encoding="utf-8")
        facts = {"given": given, "corpus_fingerprint": fingerprint, "corpus": self.corpus.facts}
        facts |= {
            "unigram_entropy": self.corpus.train.unigram_entropy,
            "device": budget.device(),
            "engine": engine(),
        }
        run.write_environment(self.folder, **facts)
        run.write_recipe(self.folder, self.recipe)

    def restore(self, found: Path | None) -> None:
        """Goes on from a checkpoint, the newest whole one of the run; from the start where that is None."""
        names: list[str] = []
        if self.engine.cut:
            found = self._told(found)
        if found is not None and (self.replicas.chief or self.engine.cut):
            names = self._read(found)
        if self.replicas.chief:
            checkpoint.tidy(self.folder, self.step)
            checkpoint.give_names(self.folder, self.step, names)  # a run may be killed before they are there
            kept = run.cut_metrics(self.folder, self.step)
            self.losses = {line["step"]: line["loss"] for line in kept if line["split"] == "valid"}
        self._spread()

    def _told(self, found: Path | None) -> Path | None:
        """The checkpoint of worker 0, in its folder, which is everybody's from here on."""
        where, name = self.replicas.exchange((str(self.folder.absolute()), found and found.name))[0]
        self.shared = Path(where)
        seen = self.replicas.exchange((self.shared / run.RECIPE).is_file())
        if not all(seen):
            raise UserError(
                f"worker {seen.index(False)} does not see {where!r}, the folder of worker 0; where a mesh cuts weights"
                " the run's folder must be on a disk that all workers share"
            )
        return name and self.shared / "checkpoints" / name

    def _read(self, found: Path) -> list[str]:
        """Goes on from a checkpoint; returns its names."""
        weights, slots, memory, state = checkpoint.load(found)
        own = self.learner.weights | self.optimizer.slots | self.engine.memory_state()
        shapes = weights.shapes | slots.shapes | (memory.shapes if memory is not None else {})
        fault = f"the tensors in {found} do not fit its recipe"
        check_shapes(fault, {name: tuple(value.shape) for name, value in own.items()}, shapes)
        self.engine.restore(weights, slots, memory or {})
        self.step, self.words = state["step"], state.get("words", 0)  # 0 where words were not counted yet
        say(f"resumed from {found}")
        return state.get("names", [])

    def _spread(self) -> None:
        """All workers go on from where worker 0 is."""
        if self.replicas.workers == 1:
            return
        self.step, self.words, losses = self.replicas.exchange((self.step, self.words, list(self.losses.items())))[0]
        self.losses = dict(losses)
        if self.engine.cut:
            self._spread_taken()
            return
        self._spread_weights()
        slots = self.replicas.spread({name: np.asarray(slot) for name, slot in self.optimizer.slots.items()})
        for name, value in slots.items():
            self.optimizer.slots[name].assign(value)
        if self.engine.memory is not None:
            remembered = {name: np.asarray(value) for name, value in self.engine.memory_state().items()}
            self.engine.memory.restore(self.replicas.spread(remembered))

    def take_weights(self, folder: Path) -> None:
        """All workers take the weights of a checkpoint that worker 0 has written."""
        if self.replicas.chief or self.engine.cut:
            self.engine.restore(checkpoint.tensors(folder, checkpoint.WEIGHTS))
        if not self.engine.cut and self.replicas.workers > 1:
            self._spread_weights()

    def _spread_taken(self) -> None:
        """All workers take what worker 0 took of another model, one weight at a time; the rest all have drawn alike."""
        for name in self.replicas.exchange(self.taken)[0]:
            own = self.starting[name] if self.replicas.chief else np.zeros(self.learner.weights[name].shape)
            self.engine.restore(self.replicas.spread({name: np.asarray(own, np.float32)}))

    def _spread_weights(self) -> None:
        """All workers take the weights of worker 0."""
        weights = {name: np.asarray(weight) for name, weight in self.learner.weights.items()}
        self.engine.restore(self.replicas.spread(weights))

    def count(self, update: Update) -> None:
        """An update is done."""
        before, self.words = self.words, self.words + update.words
        self.reached = tuple(words for words in self.recipe.train.save_at_words if before < words <= self.words)
        self.step = update.number + 1

    def expected_words(self) -> int:
        """About how many words the whole schedule reads, from the rows of some updates."""
        rows, updates = self.feed.rows, self.recipe.train.updates
        looked_at = np.linspace(0, updates - 1, min(updates, LOOKED_AT)).astype(int)
        plan = self.feed.plan
        return round(np.mean([plan.words(plan.rows(int(number), 0, rows)) for number in looked_at]) * updates)

    def begin_save(self) -> None:
        """Writes a checkpoint of this moment while training goes on."""
        self.saved_at = time.monotonic()
        if (write := self._fetched()) is not None:
            self.saver.begin(self.step, write)

    def save(self) -> None:
        """Writes a checkpoint of this moment, unless it is written, and returns when it is on the disk."""
        self.saver.wait()
        if (write := self._fetched()) is None:
            return
        try:
            write()
        except OSError as error:
            raise RunFailed(
                f"the last checkpoint could not be written to {self.folder} ({error});"
                " with more room --resume continues from the one before"
            ) from None

    def _fetched(self) -> Callable[[], None] | None:
        """Fetches this moment's state; what writes this process's share of it, None where it has none."""
        share, there = None, False
        if self.engine.cut:
            (share,) = self.replicas.shares
            self.saver.wait()
            self.replicas.exchange(None)  # all have waited
            if self.replicas.chief:
                checkpoint.clear(self.shared)
            there = self.replicas.exchange(checkpoint.folder_of(self.shared, self.step).exists())[0]
        state = self.engine.state()
        if self.replicas.chief or (share and not there):
            return partial(self._save, self._state(), *state, dict(self.losses), share)
        return None

    def _state(self) -> dict[str, Any]:
        """Where the run is; `names` are those of its checkpoint, were it saved now."""
        tokens = self.step * self.recipe.train.tokens_per_update
        names = [word_budget.name(words) for words in self.reached]
        return {"step": self.step, "tokens": tokens, "words": self.words, "names": names}

    def _save(
        self,
        state: dict[str, Any],
        weights: dict[str, Any],
        slots: dict[str, Any],
        memory: dict[str, Any],
        losses: dict[int, float],
        share: Share | None,
    ) -> None:
        """The lines of metrics.jsonl up to a checkpoint's step are on the disk before it is."""
        if self.replicas.chief:
            disk.flush(self.folder / run.METRICS)
        checkpoint.save(self.shared, state["step"], weights, slots, memory, state, share)
        if self.replicas.chief:
            checkpoint.give_names(self.folder, state["step"], state["names"])
            checkpoint.drop(self.folder, self.recipe.train, losses)
