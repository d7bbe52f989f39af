"""The engine: one update as compiled TensorFlow functions.

An update is made of micro-batches. A task's loss is scale x sum(total) / W, with W the task's weight summed over the
whole update and known before the first backward pass; so each micro-batch adds its own share of the gradient, and how
the update was split shows in no result. Gradients are summed, over micro-batches and then over replicas, then clipped,
then applied.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.batch import Array, Batch
from zoo.kernels.random import RowNoise
from zoo.network.memory import Memory, memory_of
from zoo.train.engines import HEALTHY, NOTHING
from zoo.train.optimizer import Optimizer
from zoo.train.replicas import Replicas
from zoo.train.start import Learner

# This rewrite of graphs orders sums by generated names, so that the second engine of a process, or one resumed beside
# other work, would round differently. tests/test_engine.py compares engines bit by bit.
tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


class Evaluator:
    """Scores batches with one learner; of several replicas each scores its own, and what they found is added up."""

    def __init__(self, learner: Learner, replicas: Replicas | None = None):
        self.learner = learner
        self.replicas = replicas or Replicas()
        self._score = self._compiled(self._evaluated)

    def evaluate(self, batch: Batch, memory: Memory | None = None, first: int = 0) -> tuple[dict[str, Array], Array]:
        """Every task's total without dropout, and the weighted number of tokens that were guessed right.

        memory: of the streams that are evaluated, and first: the first row's number among all.
        """
        return self._score(batch, memory, _number(first))

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        whole = self.learner.recipe.train.compile == "whole"
        # AutoGraph would rewrite every function on the way, and takes half of the time until the first update.
        return tf.function(partial(self.replicas.run, function), autograph=False, jit_compile=whole or None)

    def _evaluated(self, batch: Batch, memory: Memory | None, first: Any) -> tuple[dict[str, Any], Any]:
        return self.replicas.sum(self.learner.totals(batch, None, memory, first))


class Engine(Evaluator):
    """Runs updates of one learner; all its state is in variables.

    memory: what the rows of an update go on from, where they are a stream's; else None.
    """

    cut = False  # every replica has whole weights

    def __init__(self, learner: Learner, optimizer: Optimizer, replicas: Replicas | None = None):
        super().__init__(learner, replicas)
        self.optimizer = optimizer
        recipe = learner.recipe
        self.train = recipe.train
        streams = recipe.streams if recipe.data.rows == "stream" else None
        self.memory = memory_of(recipe, streams, learner.network.compute_dtype)
        self.scales = learner.objective.scales
        self.failed = tf.Variable(HEALTHY, dtype=tf.int64, trainable=False, name="failed")
        self.reduced_bytes = 0  # that a replica adds to those of the others in an update, once one was traced
        self.gradients: dict[str, tf.Variable] | None = None  # made when an update has several micro-batches
        self._whole = self._compiled(self._whole_update)
        self._part = self._compiled(self._add_gradient)
        self._apply_sums = self._compiled(self._apply_summed)
        self._remembered = self._compiled(self._gathered)

    def gradient(self, batch: Batch, factors: dict[str, Array], update: int, first: int) -> dict[str, Array]:
        """Adds one micro-batch's share to the summed gradient; returns every task's total (nats, float32)."""
        if self.gradients is None:
            local: dict[str, Any] = {
                "synchronization": tf.VariableSynchronization.ON_READ,
                "aggregation": tf.VariableAggregation.SUM,
            }
            with self.replicas.scope():
                self.gradients = {
                    name: tf.Variable(tf.zeros(weight.shape), trainable=False, **local)
                    for name, weight in self.learner.weights.items()
                }
        return self._part(batch, _scalars(factors), *_keys(update, first))

    def apply(self, learning_rate: float, update: int) -> Array:
        """Applies the summed gradient and empties it; returns its global norm before clipping."""
        return self._apply_sums(tf.constant(learning_rate, tf.float32), tf.constant(update, tf.int64))

    def update(
        self, batch: Batch, factors: dict[str, Array], learning_rate: float, update: int, first: int = 0
    ) -> tuple[dict[str, Array], Array]:
        """A whole update of one micro-batch a replica: gradient and apply in one go, without sums kept in between."""
        rate = tf.constant(learning_rate, tf.float32)
        return self._whole(batch, _scalars(factors), rate, *_keys(update, first))

    def state(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The weights, the optimizer's slots and the memory as they are now, by name: tensors that later updates leave
        alone.

        This takes no time: a tensor that was read shares its variable's buffer. An op that changes a variable in place
        copies a buffer first that somebody else holds (TensorFlow's PrepareToUpdateVariable), so that the next update
        pays for one copy of what is still held.
        """
        weights = {name: weight.value.read_value() for name, weight in self.learner.weights.items()}
        slots = {name: slot.value.read_value() for name, slot in self.optimizer.slots.items()}
        return weights, slots, self.remembered()

    def memory_state(self) -> dict[str, Any]:
        """What the first replica of this process remembers, by name; nothing where rows are no streams."""
        return {} if self.memory is None else self.memory.state()

    def remembered(self) -> dict[str, Any]:
        """What the streams remember, by name; nothing where rows are no streams."""
        if self.memory is None or self.replicas.count == 1:
            return self.memory_state()
        streams = range(self.memory.streams)
        own = [np.isin(streams, share.cut(streams)) for share in self.replicas.shares]
        return self._remembered(self.replicas.each([tf.constant(each) for each in own]))

    def _gathered(self, own_S: Any) -> dict[str, Any]:
        """The memory of all streams, of which a replica holds its own."""
        assert self.memory is not None

        def alone(value: Any) -> Any:
            return tf.where(tf.reshape(own_S, [-1] + [1] * (len(value.shape) - 1)), value, tf.zeros_like(value))

        return {name: self.replicas.sum(alone(value)) for name, value in self.memory.state().items()}

    def restore(
        self, weights: Mapping[str, Array], slots: Mapping[str, Array] = NOTHING, memory: Mapping[str, Array] = NOTHING
    ) -> None:
        """Takes what there is of a state, by name."""
        self.learner.set_weights(weights)
        for name, value in slots.items():
            self.optimizer.slots[name].assign(value)
        if self.memory is not None and memory:
            self.memory.restore(memory)

    def reset(self) -> None:
        """Forgets everything but the weights: summed gradients, optimizer slots, memory, failure."""
        for state in (*(self.gradients or {}).values(), *(slot.value for slot in self.optimizer.slots.values())):
            state.assign(tf.zeros_like(state))
        if self.memory is not None:
            self.memory.forget()
        self.failed.assign(HEALTHY)

    def _backward(self, batch: Batch, factors: Any, update: Any, first: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        noise = RowNoise(self.train.seed, update, first)
        values = {name: weight.value for name, weight in self.learner.weights.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(values.values()))
            totals, _ = self.learner.totals(batch, noise, self.memory, first)
            loss = tf.add_n([factors[task] * total for task, total in totals.items()])
        found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {name: tf.convert_to_tensor(gradient) for name, gradient in found.items()}, totals

    def _add_gradient(self, batch: Batch, factors: Any, update: Any, first: Any) -> dict[str, Any]:
        gradients, totals = self._backward(batch, factors, update, first)
        assert self.gradients is not None
        for name, gradient in gradients.items():
            self.gradients[name].assign_add(gradient)
        return self.replicas.sum(totals)

    def _apply_summed(self, learning_rate: Any, update: Any) -> Any:
        assert self.gradients is not None
        norm = self._clip_and_apply(
            {name: sums.value() for name, sums in self.gradients.items()}, learning_rate, update
        )
        with tf.control_dependencies([norm]):
            for sums in self.gradients.values():
                sums.assign(tf.zeros_like(sums))
        return norm

    def _whole_update(self, batch: Batch, factors: Any, learning_rate: Any, update: Any, first: Any) -> Any:
        gradients, totals = self._backward(batch, factors, update, first)
        return self.replicas.sum(totals), self._clip_and_apply(gradients, learning_rate, update)

    def _reduced(self, gradients: dict[str, Any]) -> dict[str, Any]:
        """Gradients added up over all replicas; they travel as train.reduce says."""
        if self.replicas.count == 1:
            return gradients
        sent = {name: tf.cast(gradient, self.train.reduce) for name, gradient in gradients.items()}
        self.reduced_bytes = sum(value.dtype.size * value.shape.num_elements() for value in sent.values())
        return {name: tf.cast(value, tf.float32) for name, value in self.replicas.sum(sent).items()}

    def _clip_and_apply(self, gradients: dict[str, Any], learning_rate: Any, update: Any) -> Any:
        gradients = self._reduced(gradients)
        norm = tf.linalg.global_norm(list(gradients.values()))
        healthy = tf.math.is_finite(norm) & tf.equal(self.failed, HEALTHY)

        def change() -> Any:
            clipped = gradients
            if self.train.clip_norm is not None:
                shrink = tf.minimum(1.0, self.train.clip_norm / norm)
                clipped = {name: gradient * shrink for name, gradient in gradients.items()}
            self.optimizer.apply(clipped, learning_rate, update + 1)
            return tf.constant(HEALTHY, tf.int64)

        def skip() -> Any:
            return tf.where(tf.equal(self.failed, HEALTHY), update, self.failed)

        # In place, as all replicas do it alike: `assign` would ask how their values are to be made one.
        tf.raw_ops.AssignVariableOp(resource=self.failed.handle, value=tf.cond(healthy, change, skip))
        return norm


def _scalars(factors: dict[str, Array]) -> dict[str, Any]:
    return {task: tf.constant(np.float32(factor)) for task, factor in factors.items()}


def _keys(update: int, first: Any) -> tuple[Any, Any]:
    return _number(update), _number(first)


def _number(value: Any) -> Any:
    """An int as a tensor; of several replicas each may have its own already."""
    return tf.constant(value, tf.int64) if isinstance(value, int) else value
