"""Devices that share every update under JAX: a named mesh, over which rows and weights are laid out, and what travels
between them is XLA's matter.

One process sees all of its devices as one; of several processes each makes the rows of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from zoo.batch import Array, Batch
from zoo.errors import RunFailed, UserError
from zoo.progress import say
from zoo.sections import Mesh
from zoo.train import layout
from zoo.train.cluster import Cluster
from zoo.train.feed import WORDS, Feed, Share, Update, ahead, filled, weights_of
from zoo.train.workers import SILENCE, Workers


class Replicas(Workers):
    """A mesh of devices; `count` of them share the rows. Rows of this process are one share of an update."""

    def __init__(self, mesh: Mesh | None = None, cluster: Cluster | None = None):
        super().__init__(cluster)
        devices, here = jax.device_count(), jax.local_device_count()
        self.sizes = layout.sizes(mesh, devices)
        if here % self.sizes["model"]:
            raise UserError(
                f"mesh model {self.sizes['model']} does not divide the {here} devices of a process, and one row is"
                " read by one process"
            )
        self.mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape([*self.sizes.values()]), layout.AXES)
        self.rows = NamedSharding(self.mesh, PartitionSpec(layout.ROWS))
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.count = self.sizes["data"] * self.sizes["fsdp"]
        self.here = self.count // self.workers  # devices of this process that rows are spread over
        self.shares = [Share(self.index, self.workers)]

    def scope(self) -> AbstractContextManager[Any]:
        """Variables are made in the host's memory, whatever fits a device."""
        return jax.default_device(jax.local_devices(backend="cpu")[0])

    def placing(self, name: str, shape: tuple[int, ...]) -> NamedSharding:
        """Where a weight and its slots live."""
        axes = [*layout.axes(name, shape, self.sizes)]
        while axes and axes[-1] is None:  # as JAX writes it on what a function returns; else it compiles that one again
            axes.pop()
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def gathered(self, placing: NamedSharding) -> NamedSharding:
        """The same, but whole on all devices that share it by fsdp."""
        return NamedSharding(self.mesh, PartitionSpec(*("model" if axis == "model" else None for axis in placing.spec)))

    def _added(self, own: Array) -> Array:
        from jax.experimental.multihost_utils import process_allgather

        bits = process_allgather(np.ascontiguousarray(own).view(np.uint32))  # JAX itself has no numbers of 64 bits
        return np.asarray(bits).view(own.dtype).sum(axis=0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, JAX ends this process where another one is lost."""
        try:
            yield
            self.exchange(None)  # nobody leaves while others still need it
        except jax.errors.JaxRuntimeError as error:
            if self.workers == 1:
                raise
            raise RunFailed(f"training together failed: {' '.join(str(error).split())[:300]}") from None


def connect(cluster: Cluster | None, mesh: Mesh | None = None) -> Replicas:
    """The devices of all processes of a cluster, when they are there; without one, those of this process.

    Raises:
        UserError: the devices do not make up the mesh, or a process did not come in time.
    """
    if cluster is not None:
        listed: tuple[Any, ...] = cluster.addresses[0], len(cluster.addresses), cluster.worker
        if cluster.how in ("Slurm", "TPU"):  # which JAX asks by itself
            listed = ()
        try:
            jax.distributed.initialize(*listed, heartbeat_timeout_seconds=SILENCE)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the workers cannot be connected: {' '.join(str(error).split())}") from None
    replicas = Replicas(mesh, cluster)
    devices = replicas.mesh.devices.flat
    if devices[0].platform == "cpu":
        say("--engine jax on a CPU is for tests: TensorFlow is about twice as fast there, and more with AMX")
    if len(devices) > 1:
        told = " x ".join(f"{axis} {size}" for axis, size in replicas.sizes.items())
        say(f"mesh of {len(devices)} devices ({devices[0].device_kind}): {told}")
    return replicas


class Feeds:
    """The feed of this process, whose batches are laid out over the devices while the update before runs."""

    def __init__(self, replicas: Replicas, feeds: Sequence[Feed]):
        (self.feed,) = feeds
        self.replicas, self.feeds = replicas, feeds
        self.plan, self.rows, self.micro_rows = self.feed.plan, self.feed.rows, self.feed.micro_rows
        self.count = len(self.feed.parts)
        self.height = -(-self.micro_rows // replicas.here) * replicas.here  # every device has as many rows
        self.numbers = self._numbers()

    def update(self, number: int) -> Update:
        """Update `number`, on the devices; its weights are summed over all processes."""
        return self._joined(self._placed(number))

    def updates(self, start: int, stop: int) -> Iterator[Update]:
        """Updates `start` to `stop - 1`; the next one is on the devices before the caller is done with the last."""
        return map(self._joined, ahead(self._placed, start, stop))

    def micro_batches(self, number: int) -> Iterator[tuple[Any, Any, dict[str, float]]]:
        """`count` micro-batches of update `number`: as those of an update, with the weights that this process has."""
        for batch, rows in zip(self.feed.micro_batches(number), self.numbers, strict=True):
            yield self._to_devices(batch), rows, weights_of([batch])

    def _placed(self, number: int) -> Update:
        made = self.feed.update(number)
        batches: list[Any] = [self._to_devices(batch) for batch in made.batches]
        return made._replace(batches=batches, firsts=self.numbers)

    def _joined(self, update: Update) -> Update:
        """With sums of all processes; they are asked one after another, by the thread that trains."""
        weights = self.replicas.total({**update.weights, WORDS: update.words})
        return update._replace(words=int(weights.pop(WORDS)), weights=weights)

    def _numbers(self) -> list[Any]:
        """Of every micro-batch each row's number in the update, [B] int32; -1 of those that fill it up."""
        column = np.arange(self.height, dtype=np.int32)
        return [
            self._to_devices(np.where(column < len(part), part.start + column, -1).astype(np.int32))
            for part in self.feed.parts
        ]

    def _to_devices(self, value: Any) -> Any:
        if isinstance(value, Batch):
            value = filled(value, self.micro_rows, self.height)
        make = lambda own: jax.make_array_from_process_local_data(self.replicas.rows, own)  # noqa: E731
        return jax.tree.map(make, value)
