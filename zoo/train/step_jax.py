"""The second engine: one update as one compiled JAX function, over any mesh of devices.

The arithmetic is that of step.py, whose first lines say how an update is made of micro-batches. What an update changes
is given to the function and comes back changed, in the same memory (donated); between updates it is in Keras's
variables.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import keras
import numpy as np
from jax import numpy as jnp

from zoo.batch import Array, Batch
from zoo.kernels import adam as kernel
from zoo.kernels.random import RowNoise
from zoo.network.memory import Memory, memory_of
from zoo.tensors import part_name, part_of
from zoo.train.engines import HEALTHY, NOTHING
from zoo.train.optimizer import Optimizer, decays
from zoo.train.replicas_jax import Replicas
from zoo.train.start import Learner

Values = dict[str, Any]  # arrays by name


class Evaluator:
    """Scores batches with one learner, whose weights it lays out over the devices."""

    def __init__(self, learner: Learner, replicas: Replicas | None = None):
        self.learner, self.replicas = learner, replicas or Replicas()
        self.placing = {
            name: self.replicas.placing(name, tuple(weight.shape)) for name, weight in learner.weights.items()
        }
        # Where a weight is while it is multiplied: whole over fsdp, or XLA would cut the rows' states by their width.
        self.gathered = {name: self.replicas.gathered(placing) for name, placing in self.placing.items()}
        self._place(learner.weights, {name: weight.value for name, weight in learner.weights.items()})
        self._scores: dict[Memory | None, Callable[..., Any]] = {}

    def evaluate(self, batch: Batch, memory: Memory | None = None, first: Any = 0) -> tuple[dict[str, Array], Array]:
        """Every task's total without dropout, and the weighted number of tokens that were guessed right.

        memory: of the streams that are evaluated, and first: the number of every row, or of the first.
        """
        if memory not in self._scores:
            self._scores[memory] = self._compiled(partial(self._evaluated, memory), donated=(1,))
        remembered = self._remembered(memory)
        totals, right, after = self._scores[memory](self._weights(), remembered, batch, first)
        self._remember(memory, after)
        return totals, right

    def _compiled(self, function: Callable[..., Any], donated: tuple[int, ...] = ()) -> Callable[..., Any]:
        # float32 is float32 in matmuls too, which GPUs would round to TF32.
        precision = "highest" if self.learner.network.compute_dtype == "float32" else "default"

        def precisely(*given: Any) -> Any:
            with jax.default_matmul_precision(precision):
                return function(*given)

        return jax.jit(precisely, donate_argnums=donated)

    def _evaluated(self, memory: Memory | None, weights: Values, remembered: Values, batch: Batch, first: Any) -> Any:
        totals, right, after = self._totals(weights, memory, remembered, batch, None, first)
        return totals, jnp.asarray(right), after

    def _totals(
        self,
        weights: Values,
        memory: Memory | None,
        remembered: Values,
        batch: Batch,
        noise: RowNoise | None,
        first: Any,
    ) -> tuple[Values, Any, Values]:
        """As of Learner.totals, with these weights and memory in place of the variables'; and the memory after it."""
        weights = jax.lax.with_sharding_constraint(weights, self.gathered)
        kept = {} if memory is None else memory.variables
        own = [(self.learner.weights[name], value) for name, value in weights.items()]
        pairs = [*own, *((kept[name], value) for name, value in remembered.items())]
        with keras.StatelessScope(state_mapping=pairs) as scope:
            totals, right = self.learner.totals(batch, noise, memory, first)
        after = {name: scope.get_current_value(variable) for name, variable in kept.items()}
        return totals, right, jax.lax.with_sharding_constraint(after, self.replicas.everywhere)

    def _weights(self) -> Values:
        return {name: weight.value for name, weight in self.learner.weights.items()}

    def _remembered(self, memory: Memory | None) -> Values:
        if memory is None:
            return {}
        if any(variable.value.sharding != self.replicas.everywhere for variable in memory.variables.values()):
            for variable in memory.variables.values():
                variable.assign(_laid_out(np.asarray(variable.value), self.replicas.everywhere))
        return {name: variable.value for name, variable in memory.variables.items()}

    def _remember(self, memory: Memory | None, values: Values) -> None:
        for name, variable in (memory.variables if memory else {}).items():
            variable.assign(values[name])

    def _place(self, variables: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Gives variables these values, laid out over the devices as their weights are; each device's part is read
        alone."""

        def part(name: str, index: Any) -> np.ndarray:
            return np.asarray(part_of(values, name, index), np.float32)

        for name in values:
            weight = name if name in self.placing else name.rpartition(".")[0]  # a slot lives where its weight does
            shape, placing = tuple(variables[name].shape), self.placing[weight]
            variables[name].assign(jax.make_array_from_callback(shape, placing, partial(part, name)))


class Engine(Evaluator):
    """Runs updates of one learner.

    memory: what the rows of an update go on from, where they are a stream's; else None. cut: whether devices have parts
    of weights, which are saved in parts.
    """

    def __init__(self, learner: Learner, optimizer: Optimizer, replicas: Replicas | None = None):
        super().__init__(learner, replicas)
        self.optimizer = optimizer
        recipe = learner.recipe
        self.train = recipe.train
        streams = recipe.streams if recipe.data.rows == "stream" else None
        self.memory = memory_of(recipe, streams, learner.network.compute_dtype)
        self.scales = learner.objective.scales
        self.cut = any(not placing.is_fully_replicated for placing in self.placing.values())
        self._place(optimizer.slots, {name: slot.value for name, slot in optimizer.slots.items()})
        self.failed = keras.Variable(HEALTHY, dtype="int32", trainable=False, name="failed")
        self.gradients: Values | None = None  # summed, while an update has several micro-batches; None = all are zero
        self._whole = self._compiled(self._whole_update, donated=(0, 1, 2, 3))
        self._part = self._compiled(self._add_gradient, donated=(1, 2))
        self._apply_sums = self._compiled(self._changed, donated=(0, 1, 2))
        shapes = {name: tuple(weight.shape) for name, weight in learner.weights.items()}
        zeros = lambda: {name: jnp.zeros(shape) for name, shape in shapes.items()}  # noqa: E731
        self._zeros = jax.jit(zeros, out_shardings=self.placing)
        self._forget_failure()

    def gradient(self, batch: Batch, factors: dict[str, Array], update: int, first: Any) -> dict[str, Array]:
        """Adds one micro-batch's share to the summed gradient; returns every task's total (nats, float32)."""
        self.gradients, totals, after = self._part(
            self._weights(),
            self._remembered(self.memory),
            self._taken_sums(),
            batch,
            _scalars(factors),
            np.uint32(update),
            first,
        )
        self._remember(self.memory, after)
        return totals

    def apply(self, learning_rate: float, update: int) -> Array:
        """Applies the summed gradient and empties it; returns its global norm before clipping."""
        found = self._apply_sums(*self._state(), self._taken_sums(), np.float32(learning_rate), np.int32(update))
        return self._take(*found)

    def update(
        self, batch: Batch, factors: dict[str, Array], learning_rate: float, update: int, first: Any = 0
    ) -> tuple[dict[str, Array], Array]:
        """A whole update of one micro-batch: gradient and apply in one go, without sums kept in between."""
        totals, after, *found = self._whole(
            *self._state(),
            self._remembered(self.memory),
            batch,
            _scalars(factors),
            np.float32(learning_rate),
            np.int32(update),
            first,
        )
        self._remember(self.memory, after)
        return totals, self._take(*found)

    def state(self) -> tuple[Values, Values, Values]:
        """The weights, the optimizer's slots and the memory as they are now, by name, on the host: the devices' own
        memory is the next update's. What is cut is never whole there; this process's parts have names of their own
        (zoo/tensors.py), and of equal parts one process has one."""
        weights, slots, _ = self._state()
        return _fetched(weights), _fetched(slots), self.remembered()

    def memory_state(self) -> Values:
        """What the streams remember, by name; nothing where rows are no streams."""
        return {} if self.memory is None else jax.device_get(self.memory.state())

    remembered = memory_state

    def restore(
        self, weights: Mapping[str, Array], slots: Mapping[str, Array] = NOTHING, memory: Mapping[str, Array] = NOTHING
    ) -> None:
        """Takes what there is of a state, by name."""
        self._place(self.learner.weights, weights)
        self._place(self.optimizer.slots, slots)
        if self.memory is not None and memory:
            self.memory.restore(memory)

    def reset(self) -> None:
        """Forgets everything but the weights: summed gradients, optimizer slots, memory, failure."""
        self.gradients = None
        slots = self.optimizer.slots
        self._place(slots, {name: np.zeros(slot.shape, np.float32) for name, slot in slots.items()})
        if self.memory is not None:
            self.memory.forget()
        self._forget_failure()

    def _forget_failure(self) -> None:
        self.failed.assign(_laid_out(np.asarray(HEALTHY, np.int32), self.replicas.everywhere))

    def _taken_sums(self) -> Values:
        """The summed gradient, which is empty from here on."""
        sums, self.gradients = self.gradients, None
        return self._zeros() if sums is None else sums

    def _state(self) -> tuple[Values, Values, Any]:
        return self._weights(), {name: slot.value for name, slot in self.optimizer.slots.items()}, self.failed.value

    def _take(self, weights: Values, slots: Values, failed: Any, norm: Any) -> Any:
        """Keeps what an update made; returns the norm."""
        for variables, values in ((self.learner.weights, weights), (self.optimizer.slots, slots)):
            for name, value in values.items():
                variables[name].assign(value)
        self.failed.assign(failed)
        return norm

    def _backward(
        self, weights: Values, remembered: Values, batch: Batch, factors: Values, update: Any, first: Any
    ) -> tuple[Values, Values, Values]:
        """One micro-batch's share of the gradient, every task's total, and the memory after it."""
        noise = RowNoise(self.train.seed, update, first)

        def loss(weights: Values) -> tuple[Any, tuple[Values, Values]]:
            totals, _, after = self._totals(weights, self.memory, remembered, batch, noise, first)
            return sum(factors[task] * total for task, total in totals.items()), (totals, after)

        gradients, (totals, after) = jax.grad(loss, has_aux=True)(weights)
        return jax.lax.with_sharding_constraint(gradients, self.placing), totals, after

    def _add_gradient(self, weights: Values, remembered: Values, sums: Values, *batch: Any) -> Any:
        gradients, totals, after = self._backward(weights, remembered, *batch)
        return {name: sums[name] + gradient for name, gradient in gradients.items()}, totals, after

    def _whole_update(
        self,
        weights: Values,
        slots: Values,
        failed: Any,
        remembered: Values,
        batch: Batch,
        factors: Values,
        learning_rate: Any,
        update: Any,
        first: Any,
    ) -> Any:
        gradients, totals, after = self._backward(weights, remembered, batch, factors, update, first)
        return totals, after, *self._changed(weights, slots, failed, gradients, learning_rate, update)

    def _changed(
        self, weights: Values, slots: Values, failed: Any, gradients: Values, learning_rate: Any, update: Any
    ) -> tuple[Values, Values, Any, Any]:
        """Weights and slots after the update, unless this or an earlier one was not finite; and the gradient's norm."""
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient)) for gradient in gradients.values()))
        healthy = jnp.isfinite(norm) & (failed == HEALTHY)
        clip = self.train.clip_norm
        shrink = 1.0 if clip is None else jnp.minimum(1.0, clip / norm)
        step = kernel.step(self.train.adam, learning_rate, update + 1)
        new_weights, new_slots = {}, {}
        for name, gradient in gradients.items():
            before = weights[name], slots[f"{name}.m"], slots[f"{name}.v"]
            after = kernel.applied(self.train.adam, step, *before, gradient * shrink, decays(name))
            kept = [jnp.where(healthy, new, old) for new, old in zip(after, before, strict=True)]
            kept = jax.lax.with_sharding_constraint(kept, self.placing[name])
            new_weights[name], new_slots[f"{name}.m"], new_slots[f"{name}.v"] = kept
        failed = jnp.where(healthy | (failed != HEALTHY), failed, update)
        return new_weights, new_slots, jax.lax.with_sharding_constraint(failed, self.replicas.everywhere), norm


def _fetched(values: Values) -> Values:
    """The parts of arrays that this process writes, on the host."""
    return {
        part_name(name, shard.index, value.shape): np.asarray(shard.data)
        for name, value in values.items()
        for shard in value.addressable_shards
        if shard.replica_id == 0
    }


def _laid_out(value: np.ndarray, placing: jax.sharding.NamedSharding) -> jax.Array:
    """An array of the host over the devices; each is given its own part alone."""
    return jax.make_array_from_callback(value.shape, placing, lambda index: value[index])


def _scalars(factors: dict[str, Array]) -> dict[str, Any]:
    return {task: np.float32(factor) for task, factor in factors.items()}
