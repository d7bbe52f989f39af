"""What streams remember from one of their rows to the next, kept in variables.

Shapes: S streams, B rows of a pass, M tokens remembered, D width.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.kernels.rows import read_rows, write_rows
from zoo.network.layers import sizes
from zoo.network.past import Past, Reach
from zoo.schema import Recipe
from zoo.sections import Model


class Memory:
    """The states of every stream's last tokens, in every block, and how many they are."""

    def __init__(self, model: Model, reach: Reach, streams: int, keep: int, dtype: str):
        """keep: how many tokens of a row go on; dtype: what the network computes in, which is what a block makes of a
        state first, so that nothing is lost where norms come last."""

        def empty(*shape: int, dtype: str) -> keras.Variable:
            # Of several replicas each writes the streams of its own rows.
            own = {"synchronization": "on_read", "aggregation": "only_first_replica"}
            return keras.Variable(ops.zeros(shape, dtype), trainable=False, dtype=dtype, autocast=False, **own)

        self.reach, self.streams, self.keep = reach, streams, keep
        # One more than there are streams: the rows that fill up a micro-batch share it.
        each = (streams + 1, reach.memory, model.width)
        self.states = [empty(*each, dtype=dtype) for _ in range(model.layers)] if reach.memory else []
        self.filled = empty(streams + 1, dtype="int32")

    def past(self, first: Any, reset_B: Any, backward_B: Any = None) -> Past:
        """What the rows from `first` on of an update go on from; where `reset` is set, that is nothing."""
        slot_B = self._slots(first, reset_B)
        filled_B: Any = ops.where(reset_B, 0, read_rows(self.filled, slot_B))
        states = [read_rows(state, slot_B) for state in self.states]
        return Past(self.reach, states, filled_B, keep=self.keep, backward_B=backward_B)

    def take(self, first: Any, past: Past) -> None:
        """Remembers what those rows, now that they are read, hand on."""
        slot_B = self._slots(first, past.filled_B)
        for state, kept_BMD in zip(self.states, past.kept, strict=True):
            write_rows(state, slot_B, kept_BMD)
        write_rows(self.filled, slot_B, ops.minimum(past.filled_B + self.keep, self.reach.memory))

    def state(self) -> dict[str, Any]:
        """What each stream remembers now, by the names that a checkpoint has for it; [S, ...]."""
        kept: dict[str, Any] = {name: variable.value for name, variable in self.variables.items()}
        return {name: value[: self.streams] for name, value in kept.items()}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        for name, variable in self.variables.items():
            variable.assign(np.concatenate([values[name], np.zeros_like(values[name][:1])]))

    def forget(self) -> None:
        """As new."""
        for variable in self.variables.values():
            variable.assign(ops.zeros_like(variable.value))

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """By the names that a checkpoint has for what they hold."""
        return {f"blocks.{index}": state for index, state in enumerate(self.states)} | {"filled": self.filled}

    def _slots(self, first: Any, like_B: Any) -> Any:
        if len(first.shape):  # the number of every row; those that fill up have none
            return ops.where(first < 0, self.streams, first % self.streams)
        row_B: Any = ops.arange(sizes(like_B)[0])
        return ops.minimum(row_B + ops.cast(first % self.streams, "int32"), self.streams)


def memory_of(recipe: Recipe, streams: int | None, dtype: str) -> Memory | None:
    """An empty memory for so many streams of a recipe's rows; None where rows do not go on from one another."""
    return None if streams is None else Memory(recipe.model, Reach.of(recipe.model), streams, recipe.new_tokens, dtype)
