"""Trains shrunk families on the replicas of one process of a cluster, or on replicas of this process alone.

python tests/several.py FOLDER REPLICAS UPDATES FAMILY:MICRO_ROWS[:REDUCE] ... trains as the cluster that the
environment describes, or without one on so many devices of this process, and leaves in FOLDER every family's totals and
gradient of the first update, its last weights, and how many bytes of gradients a replica sent for every weight. XLA,
which would take most of the time here, compiles nothing.
"""

import sys
from pathlib import Path

from zoo.train.cluster import cluster
from zoo.train.start import start_backend


def main() -> None:
    folder, replicas, updates, *families = sys.argv[1:]
    start_backend()
    import numpy as np
    import tensorflow as tf

    compiled = tf.function
    tf.function = lambda work=None, **how: compiled(work, **{**how, "jit_compile": None})
    from shrunk import Bench

    from zoo.train.replicas import Replicas, connect

    if (together := cluster()) or replicas == "1":
        group = connect(together)
    else:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(replicas))
        group = Replicas(tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(int(replicas))]))
    for family in families:
        name, micro_rows, *reduce = family.split(":")
        with group.scope():
            # This epsilon does not scale up the rounding of a gradient.
            how = {"adam": {"epsilon": 1e-6}, "reduce": (*reduce, "float32")[0]}
            bench = Bench(name, int(micro_rows), replicas=group, **how)
        _, totals, gradient = bench.sums(0)
        bench.reset()
        weights = bench.train(int(updates))
        if group.shares[0].number == 0:
            np.savez(
                Path(folder) / f"{name}.npz",
                sent=bench.engine.reduced_bytes / sum(value.size for value in weights.values()),
                **{f"total.{task}": value for task, value in totals.items()},
                **{f"gradient.{name}": value for name, value in gradient.items()},
                **{f"weight.{name}": value for name, value in weights.items()},
            )


if __name__ == "__main__":
    main()
