"""What this machine computes with, and how fast: asked of the library that computes."""

import time
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.kernels.startup import stderr_held

# Of the square matrices: 17 GFLOP a product, and 1.1 TFLOP, which a GPU takes longer for than to be asked and read.
CPU_SIDE, GPU_SIDE = 2048, 8192


class Speed(NamedTuple):
    """One matrix product, as measured on the default device."""

    gflops: float
    side: int  # of the matrices
    error: float  # largest difference from the float32 product, relative to its largest entry


def accelerators() -> list[str]:
    """The names of the GPUs, or TPUs, that can be used."""
    if keras_backend() == "jax":
        import jax

        return [device.device_kind for device in jax.local_devices() if device.platform != "cpu"]
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return [str(detail.get("device_name", "GPU")) for detail in details]


def device_memory() -> int | None:
    """Bytes that the smallest GPU may hold; None where there is none."""
    if not accelerators():
        return None
    if keras_backend() == "jax":
        import jax

        return min((device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices()) or None
    from tensorflow.python.client.device_lib import list_local_devices

    return min(device.memory_limit for device in list_local_devices() if device.device_type == "GPU")


def matmul_speed(dtype: str, seconds: float = 0.3) -> Speed:
    """Multiplies matrices of this dtype for about so long; the best of the products counts."""
    from zoo.kernels.compiled import compiled

    draw, side = np.random.Generator(np.random.Philox(0)), GPU_SIDE if accelerators() else CPU_SIDE
    a, b = (keras.ops.convert_to_tensor(draw.standard_normal((side, side), np.float32)) for _ in range(2))
    exact: Any = keras.ops.matmul(a, b)
    with stderr_held():  # oneDNN says once that it has no bfloat16 for this processor, where that is so
        low_a, low_b = keras.ops.cast(a, dtype), keras.ops.cast(b, dtype)
        product = compiled(keras.ops.matmul)
        found: Any = keras.ops.cast(product(low_a, low_b), "float32")
    float(product(low_a, low_b)[0, 0])  # JAX compiles the look-up too
    best = float("inf")
    until = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < until:
        # Reading one number back waits for the device, which may run ahead of this line.
        float(product(low_a, low_b)[0, 0])
        best = min(best, time.perf_counter() - begin)
    error = np.abs(np.asarray(found - exact)).max() / np.abs(np.asarray(exact)).max()
    return Speed(2 * side**3 / best / 1e9, side, float(error))


def keras_backend() -> str:
    """The backend that Keras was imported on."""
    return keras.backend.backend()
