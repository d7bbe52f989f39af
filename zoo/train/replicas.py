"""Devices that share the rows of every update, and add up what they found: tf.distribute, under our own loop.

Every replica holds all weights and changes them alike. It makes its own rows, which are what they would be anywhere
(zoo/corpus/rows.py, zoo/noise.py); so how many replicas there are shows in no result but in rounding.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2 as coordination
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver
from tensorflow.python.eager import context

from zoo.batch import Array, Batch
from zoo.errors import RunFailed, UserError
from zoo.progress import say
from zoo.sections import Mesh
from zoo.train.cluster import Cluster
from zoo.train.feed import WORDS, Feed, Share, Update, weights_of
from zoo.train.meeting import meet
from zoo.train.workers import SILENCE, Workers

SMALL = 1 << 16  # numbers: a collective of fewer takes as long as one of so many
START = 120  # seconds for TensorFlow to connect workers that are there


class Replicas(Workers):
    """The replicas of a strategy, of which those of this process are `shares`. Without a strategy there is one."""

    def __init__(self, strategy: Any = None, cluster: Cluster | None = None):
        super().__init__(cluster)
        self.strategy = strategy or tf.distribute.get_strategy()
        self.count: int = self.strategy.num_replicas_in_sync
        here = self.count // self.workers
        self.shares = [Share(self.index * here + n, self.count) for n in range(here)]
        self._total = tf.function(partial(self.run, self.sum), autograph=False)

    def scope(self) -> Any:
        """Variables that are made in it exist on every replica."""
        return self.strategy.scope()

    def each(self, values: Sequence[Any]) -> Any:
        """One value for each replica of this process, as an argument of what they run."""
        if len(values) == 1:
            return values[0]
        first = self.shares[0].number
        take = lambda context: values[context.replica_id_in_sync_group - first]  # noqa: E731
        return self.strategy.experimental_distribute_values_from_function(take)

    def run(self, function: Any, *given: Any) -> Any:
        """What a function finds on the first replica of this process, when all have run it."""
        found = self.strategy.run(function, args=given)
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], found)

    def sum(self, values: Any) -> Any:
        """Tensors of one type added up over all replicas; inside of what they run. Small ones travel as one."""
        if self.count == 1:
            return values
        made = [tf.identity(value) for value in tf.nest.flatten(values)]  # an argument has no device to be added up on
        sizes = [value.shape.num_elements() for value in made]
        small = [n for n, size in enumerate(sizes) if size <= SMALL]
        large = [n for n, size in enumerate(sizes) if size > SMALL]
        packed = [tf.concat([tf.reshape(made[n], [-1]) for n in small], 0)] if small else []
        sums = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, [*(made[n] for n in large), *packed]
        )
        parts = tf.split(sums[-1], [sizes[n] for n in small]) if small else []
        for n, total in zip([*large, *small], [*sums[: len(large)], *parts], strict=True):
            made[n] = tf.reshape(total, made[n].shape)
        return tf.nest.pack_sequence_as(values, made)

    def _added(self, own: Array) -> Array:
        """Arrays of equal shape, one of each process, added up."""
        nothing = [tf.zeros_like(own)] * (len(self.shares) - 1)
        return self._total(self.each([tf.constant(own), *nothing])).numpy()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, a worker that is lost ends the work of the others, and is named.

        Raises:
            RunFailed: a worker is gone, or has not been heard of for SILENCE seconds.
        """
        if self.cluster is None:
            yield
            return
        try:
            yield
            self.exchange(None)  # nobody leaves while others still need it
        except tf.errors.OpError as error:
            raise RunFailed(self._lost(error, self.cluster)) from None

    def _lost(self, error: tf.errors.OpError, cluster: Cluster) -> str:
        """Which worker is lost, as far as TensorFlow's message says; it is told to the others, who may not see it."""
        text = error.message
        told = re.search(r"worker \d+ \([^)]*\) is lost", text)
        named = [int(number) for number in re.findall(r"/task:(\d+)", text)]
        other = [number for number in named if number != self.index]
        if told is not None:
            who = told[0]
        elif other or "CoordinationService/Heartbeat" in text:  # which worker 0 answers, and answers no more
            who = f"{cluster.named(other[0] if other else 0)} is lost"
        else:
            return f"training together failed: {' '.join(text.split())[:300]}"
        if told is None:
            with suppress(tf.errors.OpError):
                _context().report_error_to_cluster(error.error_code, who)
        return f"{who}, so that all stop; --resume continues from the newest checkpoint, with any number of workers"


def connect(cluster: Cluster | None, mesh: Mesh | None = None) -> Replicas:
    """The replicas of a cluster, when all of its workers are there; without one, those of this process.

    To be called before anything else runs in TensorFlow.

    Raises:
        UserError: a worker did not come in time, its address cannot be used, or there is a mesh.
    """
    if mesh is not None:
        raise UserError("mesh is for --engine jax; TensorFlow's replicas share the rows of an update, and nothing else")
    if cluster is None:
        count = len(tf.config.list_physical_devices("GPU"))
        if count < 2:
            return Replicas()
        say(f"{count} GPUs share every update (MirroredStrategy)")
        return Replicas(tf.distribute.MirroredStrategy())
    meet(cluster)
    count = len(cluster.addresses)
    _context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=1000 * START,
        heartbeat_timeout_in_ms=1000 * SILENCE,
        coordinated_jobs=[
            coordination.CoordinatedJob(  # pyright: ignore[reportAttributeAccessIssue] -- made by protobuf
                name="worker", num_tasks=count
            )
        ],
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.worker,
        rpc_layer="grpc",
    )
    try:
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy(resolver), cluster)
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(f"the workers cannot be connected: {' '.join(str(error).split())}") from None


def _context() -> Any:
    return context.context()


def slurm_hosts(nodes: str, tasks_per_node: str) -> list[tuple[str, int]]:
    """The hosts of a Slurm step and how many tasks each has, from Slurm's own short forms: "n[3-4]" and "2(x2)"."""
    hosts = slurm_cluster_resolver.expand_hostlist(nodes)
    return list(zip(hosts, slurm_cluster_resolver.expand_tasks_per_node(tasks_per_node), strict=True))


class Feeds:
    """The feeds of the replicas of this process, as one."""

    def __init__(self, replicas: Replicas, feeds: Sequence[Feed]):
        self.replicas, self.feeds = replicas, feeds
        first = feeds[0]
        self.plan, self.rows, self.micro_rows, self.count = first.plan, first.rows, first.micro_rows, len(first.parts)

    def update(self, number: int) -> Update:
        """Update `number`, on the devices; its weights are summed over all replicas."""
        return self._joined([feed.update(number) for feed in self.feeds])

    def updates(self, start: int, stop: int) -> Iterator[Update]:
        """Updates `start` to `stop - 1`; the next one is made while the caller works on the last."""
        return map(self._joined, zip(*(feed.updates(start, stop) for feed in self.feeds), strict=True))

    def micro_batches(self, number: int) -> Iterator[tuple[Any, Any, dict[str, float]]]:
        """`count` micro-batches of update `number`: as those of an update, with the weights that this process has."""
        each = self.replicas.each
        made = zip(*(feed.micro_batches(number) for feed in self.feeds), strict=True)
        firsts = zip(*(feed.firsts for feed in self.feeds), strict=True)
        for batches, first in zip(made, firsts, strict=True):
            yield each([to_device(batch) for batch in batches]), each(first), weights_of(batches)

    def _joined(self, shares: Sequence[Update]) -> Update:
        each, own = self.replicas.each, [{**share.weights, WORDS: share.words} for share in shares]
        weights = self.replicas.total({task: float(sum(weights[task] for weights in own)) for task in own[0]})
        words = int(weights.pop(WORDS))
        together = zip(*(share.batches for share in shares), strict=True)
        batches = [each([to_device(batch) for batch in same]) for same in together]
        firsts: list[Any] = [each(same) for same in zip(*(share.firsts for share in shares), strict=True)]
        return Update(shares[0].number, batches, firsts, weights, words)


def to_device(batch: Batch) -> Batch:
    """The same batch as tensors; its shapes are the same for every micro-batch of a run, so nothing is retraced."""
    return tf.nest.map_structure(lambda field: None if field is None else tf.convert_to_tensor(field), batch)
