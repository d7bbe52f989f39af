"""How fast a recipe trains on this machine: random tokens through the real feed and the real engine."""

import resource
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo import accounting
from zoo.corpus.starts import SENTENCE_START, WORD_START
from zoo.progress import duration, say
from zoo.schema import Recipe
from zoo.train import engines
from zoo.train.budget import fast_rows, fitting_rows, largest_rows
from zoo.train.cluster import cluster
from zoo.train.feed import Feed, Update, rows_of
from zoo.train.start import Learner, nominal_vocab, settled

if TYPE_CHECKING:
    from zoo.train.replicas import Feeds, Replicas
    from zoo.train.step import Engine

LEAST_SECONDS, LEAST_UPDATES = 10.0, 3  # of measuring, after the first update, which compiles
DOCUMENT, SENTENCE = 1008, 21  # tokens, of the random corpus


class RandomTokens(NamedTuple):
    """A corpus of random ids, of the same shape as a tokenized one."""

    token: np.ndarray
    flags: np.ndarray
    documents: np.ndarray
    sentences: np.ndarray
    source: "RandomTokens | None" = None
    chosen: None = None

    @classmethod
    def drawn(cls, size: int, first_id: int, ids: int, *, paired: bool = False) -> "RandomTokens":
        """`size` tokens with ids from `first_id` to `ids - 1`; paired: sentences and what they translate."""
        size = -(-size // DOCUMENT) * DOCUMENT
        token = np.random.default_rng(0).integers(first_id, ids, size, dtype=np.int32)
        flags = np.full(size, WORD_START, np.uint8)
        flags[::SENTENCE] |= SENTENCE_START
        bounds = np.arange(0, size + 1, DOCUMENT), np.arange(0, size + 1, SENTENCE)
        one = cls(token, flags, *bounds)
        return one._replace(documents=one.sentences, source=one._replace(documents=one.sentences)) if paired else one


class Workload(NamedTuple):
    """Whole updates of one micro-batch of random tokens, on the real feed and engine."""

    recipe: Recipe  # as it is measured
    feed: "Feeds"
    engine: "Engine"

    def run(self, number: int) -> tuple[float, float]:
        """Update `number`: the seconds its batch took, and the seconds it took itself."""
        begin = time.perf_counter()
        update = self.feed.update(number)
        made = time.perf_counter()
        float(self.update(update))  # waits for the device
        return made - begin, time.perf_counter() - made

    def update(self, made: Update) -> Any:
        """The gradient's norm of an update, which the device may still be computing."""
        factors = made.factors(self.engine.scales)
        _, norm = self.engine.update(made.batches[0], factors, 1e-5, made.number, made.firsts[0])
        return norm


def workload(recipe: Recipe, rows: int | None = None, context: int | None = None) -> Workload:
    """`rows` x `context` tokens an update; rows None = as many as suit each replica, context None = its row length.

    Replicas are those that `zoo pretrain` would train with.
    """
    devices = engines.replicas()
    replicas: Replicas = devices.connect(cluster(), recipe.mesh)
    tokens = context or recipe.row_tokens
    longest = max(tokens, recipe.model.context)
    recipe = settled(recipe.with_changes(model={"context": longest}))
    if rows is None:

        def even(rows: int) -> int:  # where every second row runs backwards
            return rows + rows % 2 if recipe.data.bidirectional else rows

        rows = even(fitting_rows(recipe.with_rows(even(fast_rows(tokens)), tokens))) * replicas.count
    recipe = recipe.with_rows(rows, tokens).with_changes(train={"micro_rows": rows})

    from zoo.train.optimizer import Optimizer

    vocab = nominal_vocab(recipe)
    with replicas.scope():
        learner = Learner(recipe, vocab, recipe.train.precision)
        engine = engines.step().Engine(learner, Optimizer(recipe.train.adam, learner.weights), replicas)
    corpus: Any = RandomTokens.drawn(
        8 * rows * (tokens + 1), len(vocab.special), vocab.used, paired=learner.objective.encodes
    )
    planned = rows_of(recipe, learner.objective, corpus, vocab.special, seed=0)
    feeds = [Feed(learner.objective, planned, rows, rows, 0, share) for share in replicas.shares]
    return Workload(recipe, devices.Feeds(replicas, feeds), engine)


def bench(recipe: Recipe, rows: int | None = None, context: int | None = None) -> dict[str, Any]:
    """Median of whole updates (forward, backward, clip, Adam) of `rows` x `context` tokens, as `workload` has them.

    Returns tokens_per_second, mfu (the share of the machine's measured matmul rate), peak_rss_bytes, update_seconds,
    seconds_to_finish (all updates of the recipe at this rate), largest_rows (that fit the free memory), and what was
    measured.
    """
    work, whole = workload(recipe, rows, context), recipe.train
    recipe, rows, tokens = work.recipe, work.recipe.rows_per_update, work.recipe.row_tokens
    from zoo.kernels.probe import matmul_speed

    largest = largest_rows(recipe)
    say(f"{recipe.name}: {rows} rows x {tokens} tokens, {recipe.train.precision}; compiling ...")
    first = sum(work.run(0))
    taken, until = [], time.perf_counter() + LEAST_SECONDS
    while len(taken) < LEAST_UPDATES or time.perf_counter() < until:
        taken.append(work.run(len(taken) + 1))
    host, device = (float(np.median(part)) for part in zip(*taken, strict=True))
    peak = matmul_speed(recipe.train.precision).gflops * 1e9
    rate = rows * tokens / device
    seconds = whole.updates * whole.tokens_per_update / rate
    say(f"all {whole.updates:,} updates of {whole.tokens_per_update:,} tokens take {duration(seconds)} at this rate")
    return {
        "recipe": recipe.name,
        "rows": rows,
        "context": tokens,
        "precision": recipe.train.precision,
        "compile": recipe.train.compile,
        "tokens_per_second": rate,
        "update_seconds": device,
        "first_update_seconds": first,
        "batch_seconds": host,  # made in a thread while the update before runs
        "mfu": rate * accounting.flops(recipe).per_token / peak,
        "matmul_flops_per_second": peak,
        "peak_rss_bytes": peak_rss_bytes(),
        "largest_rows": largest,
        "seconds_to_finish": seconds,
    }


def peak_rss_bytes() -> int:
    """The most memory this process had at once; macOS counts it in bytes, Linux in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
