"""What the processes of one run tell each other, whatever engine adds up their arrays."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.batch import Array
from zoo.errors import UserError, some
from zoo.train.cluster import Cluster
from zoo.train.run import differences

SILENCE = 20  # seconds without a sign of life after which a worker counts as lost
CHUNK = 1 << 22  # numbers that go from worker 0 to the others at a time: 16 MB


class Workers:
    """The processes that train one run; index: which of them this is."""

    def __init__(self, cluster: Cluster | None = None):
        self.cluster = cluster
        self.index, self.workers = (0, 1) if cluster is None else (cluster.worker, len(cluster.addresses))

    @property
    def chief(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.index == 0

    def _added(self, own: Array) -> Array:
        """Arrays of equal shape, one of each process, added up."""
        raise NotImplementedError

    def total(self, found: dict[str, float]) -> dict[str, float]:
        """The numbers that each process found, by name, added up."""
        if self.workers == 1:
            return found
        return dict(zip(found, self._added(np.array(list(found.values()), np.float64)).tolist(), strict=True))

    def exchange(self, own: Any) -> list[Any]:
        """What each worker has to say, in their order; anything that JSON can hold."""
        if self.workers == 1:
            return [own]
        text = np.frombuffer(json.dumps(own).encode(), np.uint8)
        lengths = np.zeros(self.workers, np.int64)
        lengths[self.index] = len(text)
        lengths = self._added(lengths)
        longest = 1 << int(lengths.max()).bit_length()  # so that few lengths are compiled
        said = np.zeros((self.workers, longest), np.int32)
        said[self.index, : len(text)] = text
        rows = self._added(said).astype(np.uint8)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def spread(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays of worker 0 on every worker; the others give arrays of the same names, shapes and types.

        They travel as float32, which holds every weight, slot and memory exactly.
        """
        flat = np.concatenate([np.ravel(value).astype(np.float32) for value in values.values()])
        for begin in range(0, len(flat), CHUNK):
            own = np.zeros(min(CHUNK, 1 << len(flat).bit_length()), np.float32)
            part = flat[begin : begin + CHUNK]
            own[: len(part)] = part if self.chief else 0
            part[:] = self._added(own)[: len(part)]
        ends = np.cumsum([value.size for value in values.values()])
        parts = np.split(flat, ends[:-1])
        return {
            name: part.astype(value.dtype).reshape(value.shape)
            for (name, value), part in zip(values.items(), parts, strict=True)
        }

    def agree(self, facts: dict[str, Any]) -> None:
        """Refuses to train with workers that were started otherwise than worker 0.

        Raises:
            UserError: which worker, and what differs; on all of them.
        """
        first, *others = self.exchange(facts)
        for number, theirs in enumerate(others, 1):
            if self.cluster and (unequal := differences(first, theirs)):
                told = self.cluster.named(number)
                raise UserError(f"{told} was started otherwise than worker 0: {some(unequal, 4)}")
