"""One Adam update of one weight: TensorFlow's fused op, the same for values that are never changed in place, and the
arithmetic of the papers in numpy beside them."""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from zoo.sections import Adam


def powers(adam: Adam, count: Any) -> tuple[Any, Any]:
    """1 - beta1^count and 1 - beta2^count, float32; `count` is this update's number, from 1.

    By expm1, or all digits of 1 - 0.999 would be lost in float32 but the first four.
    """
    count = ops.cast(count, "float32")

    def left(beta: float) -> Any:
        ones: Any = ops.ones_like(count)
        share: Any = ops.expm1(count * math.log(beta)) if beta else -ones
        return -share

    return left(adam.beta1), left(adam.beta2)


class Step(NamedTuple):
    """What an update has in common for all weights: scalars, computed once."""

    rate: Any
    epsilon: Any
    decayed: Any  # the share of a weight that decay takes away


def step(adam: Adam, learning_rate: Any, count: Any) -> Step:
    """The scalars of update `count`.

    TensorFlow's fused op computes w -= rate * m / (sqrt(v) + epsilon). The three forms of bias correction are that op
    with another rate and another epsilon: m / (1 - b1^t) over sqrt(v / (1 - b2^t)) + e equals, multiplied through by
    the root c = sqrt(1 - b2^t), c / (1 - b1^t) times m over sqrt(v) + e c.
    """
    rate, epsilon = learning_rate, ops.convert_to_tensor(adam.epsilon, "float32")
    if adam.correction != "none":
        left1, left2 = powers(adam, count)
        root: Any = ops.sqrt(left2)
        rate = learning_rate * root / left1
        if adam.correction == "exact":
            epsilon = epsilon * root
    return Step(rate, epsilon, learning_rate * adam.weight_decay)


def apply(adam: Adam, step: Step, weight: Any, m: Any, v: Any, gradient: Any, decay: bool) -> None:
    """Changes `weight` and its slots `m` and `v`, TensorFlow's variables, in place."""
    import tensorflow as tf

    if decay and adam.weight_decay:
        # In place, as with the slots: all replicas of a weight change it alike.
        tf.raw_ops.AssignSubVariableOp(resource=weight.handle, value=weight * step.decayed)
    tf.raw_ops.ResourceApplyAdam(
        var=weight.handle,
        m=m.handle,
        v=v.handle,
        beta1_power=0.0,  # the op's own correction, off
        beta2_power=0.0,
        lr=step.rate,
        beta1=adam.beta1,
        beta2=adam.beta2,
        epsilon=step.epsilon,
        grad=gradient,
    )


def applied(adam: Adam, step: Step, weight: Any, m: Any, v: Any, gradient: Any, decay: bool) -> tuple[Any, Any, Any]:
    """The weight, m and v that `apply` would leave."""
    m = m + (1 - adam.beta1) * (gradient - m)
    v = v + (1 - adam.beta2) * (gradient * gradient - v)
    if decay and adam.weight_decay:
        weight = weight - weight * step.decayed
    return weight - step.rate * m / (ops.sqrt(v) + step.epsilon), m, v


def reference(
    adam: Adam,
    weight: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    gradient: np.ndarray,
    learning_rate: float,
    count: int,
    decay: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The new weight, m and v, written as the papers write them."""
    m = adam.beta1 * m + (1 - adam.beta1) * gradient
    v = adam.beta2 * v + (1 - adam.beta2) * gradient**2
    left1, left2 = 1 - adam.beta1**count, 1 - adam.beta2**count
    if adam.correction == "exact":  # Kingma & Ba 2015, Algorithm 1
        step = (m / left1) / (np.sqrt(v / left2) + adam.epsilon)
    elif adam.correction == "folded":  # the same paper, end of section 2
        step = np.sqrt(left2) / left1 * m / (np.sqrt(v) + adam.epsilon)
    else:  # the optimizer released with BERT
        step = m / (np.sqrt(v) + adam.epsilon)
    if decay:
        step = step + adam.weight_decay * weight
    return weight - learning_rate * step, m, v
