"""Which processes train one run together, as the environment of this one says.

Five ways of saying it, the first that is there: TF_CONFIG (TensorFlow's own; Kubeflow's TFJob sets it), ZOO_WORKERS
with ZOO_WORKER or a Kubernetes Job's JOB_COMPLETION_INDEX, the variables of a Slurm step, and under JAX those of a TPU
pod.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.errors import UserError
from zoo.train.start import engine, start_backend

PORTS = 20_000, 10_000  # of Slurm's jobs: the first, and how many to share out by a job's number


class Cluster(NamedTuple):
    """Workers in their order, and which of them this process is. Worker 0 writes the run's folder."""

    addresses: tuple[str, ...]  # host:port
    worker: int
    how: str

    def named(self, number: int) -> str:
        """A worker as a message names it."""
        return f"worker {number} ({self.addresses[number]})"


def cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that the environment describes; None where it is this process alone."""
    for described in (_tf_config, _listed, _slurm, _tpu):
        found = described(environment)
        if found is not None:
            if not 0 <= found.worker < len(found.addresses):
                raise UserError(
                    f"{found.how} says that this is worker {found.worker}, and it has {len(found.addresses)} workers"
                )
            return found if len(found.addresses) > 1 else None
    return None


def _tf_config(environment: Mapping[str, str]) -> Cluster | None:
    if not (text := environment.get("TF_CONFIG")):
        return None
    try:
        config: dict[str, Any] = json.loads(text)
        jobs, task = config.get("cluster", {}), config.get("task", {})
        if not jobs:
            return None
        if unknown := sorted(jobs.keys() - {"chief", "worker"}):
            raise UserError(
                f"TF_CONFIG has tasks of type {unknown[0]!r}; the zoo trains with 'chief' and 'worker' alone"
            )
        kind, index = task["type"], int(task["index"])
        if kind not in jobs:
            raise UserError(f"TF_CONFIG says that this is a task of type {kind!r}, and its cluster has {sorted(jobs)}")
        before = len(jobs.get("chief", ())) if kind == "worker" else 0
        return Cluster((*jobs.get("chief", ()), *jobs.get("worker", ())), before + index, "TF_CONFIG")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG cannot be read ({type(error).__name__}: {error}): {text[:80]!r}") from None


def _listed(environment: Mapping[str, str]) -> Cluster | None:
    if not (text := environment.get("ZOO_WORKERS")):
        return None
    index = environment.get("ZOO_WORKER", environment.get("JOB_COMPLETION_INDEX", ""))
    if not index.isdigit():
        raise UserError(
            f"ZOO_WORKERS is set and which worker this is is not: ZOO_WORKER is {index!r}, and must be a number from 0"
        )
    how = "ZOO_WORKERS" if "ZOO_WORKER" in environment else "Kubernetes"
    return Cluster(tuple(address.strip() for address in text.split(",")), int(index), how)


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
    if "SLURM_PROCID" not in environment or int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return None
    if engine() == "jax":  # which asks Slurm itself where they are
        count = int(environment["SLURM_STEP_NUM_TASKS"])
        return Cluster(tuple(f"task {n} of Slurm" for n in range(count)), int(environment["SLURM_PROCID"]), "Slurm")
    start_backend()  # here, and not by what is imported next
    from zoo.train.replicas import slurm_hosts

    first, many = PORTS
    port = first + int(environment.get("SLURM_JOB_ID", "0")) * 16 % many
    hosts = slurm_hosts(environment["SLURM_STEP_NODELIST"], environment["SLURM_STEP_TASKS_PER_NODE"])
    addresses = [f"{host}:{port + n}" for host, count in hosts for n in range(count)]
    return Cluster(tuple(addresses), int(environment["SLURM_PROCID"]), "Slurm")


def _tpu(environment: Mapping[str, str]) -> Cluster | None:
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    if engine() != "jax" or len(hosts) < 2:
        return None
    return Cluster(tuple(hosts), int(environment.get("TPU_WORKER_ID", "0")), "TPU")
