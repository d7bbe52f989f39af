"""What this machine computes with, and how fast: asked of TensorFlow, which only this folder and the engine import."""

import time
from typing import NamedTuple

import tensorflow as tf

from zoo.kernels.startup import stderr_held

SIDE = 2048  # of the square matrices: 17 GFLOP a product


class Speed(NamedTuple):
    """One matrix product, as measured on the default device."""

    gflops: float
    error: float  # largest difference from the float32 product, relative to its largest entry


def accelerators() -> list[str]:
    """The names of the GPUs that TensorFlow can use."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return [str(detail.get("device_name", "GPU")) for detail in details]


def device_memory() -> int | None:
    """Bytes that the smallest GPU may hold; None where there is none."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    from tensorflow.python.client.device_lib import list_local_devices

    return min(device.memory_limit for device in list_local_devices() if device.device_type == "GPU")


def matmul_speed(dtype: str, seconds: float = 0.3) -> Speed:
    """Multiplies matrices of this dtype for about so long; the best of the products counts."""
    a, b = (tf.random.stateless_normal([SIDE, SIDE], seed=[0, n]) for n in range(2))
    exact = tf.linalg.matmul(a, b)
    with stderr_held():  # oneDNN says once that it has no bfloat16 for this processor, where that is so
        low_a, low_b = tf.cast(a, dtype), tf.cast(b, dtype)
        product = tf.function(lambda: tf.linalg.matmul(low_a, low_b))
        difference = tf.abs(tf.cast(product(), tf.float32) - exact)
    best = float("inf")
    until = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < until:
        # Reading one number back waits for the device, which may run ahead of this line.
        float(product()[0, 0])
        best = min(best, time.perf_counter() - begin)
    return Speed(2 * SIDE**3 / best / 1e9, float(tf.reduce_max(difference) / tf.reduce_max(tf.abs(exact))))


def keras_backend() -> str:
    """The backend that Keras was imported on."""
    import keras

    return keras.backend.backend()
