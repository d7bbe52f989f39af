"""Several workers on this machine, or the files with which a cluster starts them."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import IO, Any

import yaml

from zoo.errors import UserError, nearest
from zoo.progress import say
from zoo.schema import Recipe
from zoo.train.signals import Stop, caught

GRACE = 30  # seconds in which the other workers stop by themselves when one has ended badly: they see it in 20
SYSTEMS = ("slurm", "kubernetes")
PORT = 20_000  # of a Kubernetes worker


def launch(arguments: list[str], workers: int) -> int:
    """Starts so many workers of `zoo pretrain ARGUMENTS` on this machine, on cores of their own where these suffice.

    What they write comes with their number in front. A signal goes on to all of them; when one ends badly the others
    are stopped. Returns the exit code of the first that ended badly, else 0.
    """
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        say(f"zoo launch: {workers} workers share {len(cores)} cores, which is slower than {len(cores)} workers")
    command = [sys.executable, "-m", "zoo", "pretrain", *arguments]
    processes: list[subprocess.Popen[str]] = []
    forwards: list[threading.Thread] = []
    with caught() as stop:
        for index, described in enumerate(local_workers(workers)):
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            # A session of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
            process = subprocess.Popen(
                command, env={**os.environ, **described}, start_new_session=True, errors="replace", **pipes
            )
            begin, end = (len(cores) * n // workers for n in (index, index + 1))
            own = cores[begin : max(end, begin + 1)]
            os.sched_setaffinity(process.pid, own)  # TensorFlow makes as many threads as it may use cores
            processes.append(process)
            for source, into in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                forwards.append(threading.Thread(target=_forward, args=(index, source, into)))
                forwards[-1].start()
        try:
            return _watched(processes, stop)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            for forward in forwards:
                forward.join()


def _watched(processes: list[subprocess.Popen[str]], stop: Stop) -> int:
    """Waits for all of them; passes a signal on, and ends those that outlive a bad end of another by GRACE."""
    passed, deadline, bad = False, None, 0
    while any(process.poll() is None for process in processes):
        time.sleep(0.1)
        if stop.signal is not None and not passed:
            passed = True
            for process in processes:
                process.send_signal(stop.signal)
        ended = [(index, process.returncode) for index, process in enumerate(processes) if process.returncode]
        if ended and deadline is None:
            index, code = ended[0]
            bad, deadline = code if code > 0 else 128 - code, time.monotonic() + GRACE
            if stop.signal is None:
                how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
                say(f"zoo launch: worker {index} has ended ({how}); the others stop")
        if deadline is not None and time.monotonic() > deadline:
            for process in processes:
                process.kill()
    return bad or next((abs(process.returncode) for process in processes if process.returncode), 0)


def _forward(index: int, source: IO[str], into: IO[str]) -> None:
    for line in source:
        print(f"[{index}] {line}", end="", file=into, flush=True)


def local_workers(count: int) -> list[dict[str, str]]:
    """The variables that make so many processes of this machine the workers of one cluster."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    return [{"ZOO_WORKERS": addresses, "ZOO_WORKER": str(index)} for index in range(count)]


def on_cluster(system: str, recipe: Recipe, arguments: list[str], given: dict[str, Any], workers: int) -> str:
    """The file with which a cluster starts so many workers; `given` are the parsed `arguments` of `zoo pretrain`.

    Raises:
        UserError: it is a system that we do not know.
    """
    if system not in SYSTEMS:
        raise UserError(f"--print is {system!r}{nearest(system, SYSTEMS)}")
    command = ["zoo", "pretrain", *arguments]
    if given["out"] is None:
        command += ["--out", f"runs/{recipe.name}"]
    if not given["resume"]:
        command.append("--resume")  # a worker that is started again goes on
    return (_slurm if system == "slurm" else _kubernetes)(recipe.name, command, workers)


def _slurm(name: str, command: list[str], workers: int) -> str:
    """A batch script for Slurm: a worker a node, told to save two minutes before its time is up, and started again."""
    return f"""#!/bin/bash
#SBATCH --job-name=zoo-{name}
#SBATCH --nodes={workers}
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# The folder of --out, the corpus and ZOO_HOME must be the same for all nodes.
srun --kill-on-bad-exit=1 {shlex.join(command)}
"""


def _kubernetes(name: str, command: list[str], workers: int) -> str:
    """A Job of so many indexed pods, and the Service by which they find each other."""
    job = f"zoo-{name}".replace("_", "-").replace(".", "-").lower()
    addresses = ",".join(f"{job}-{index}.{job}:{PORT}" for index in range(workers))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job},
        "spec": {"clusterIP": "None", "selector": {"job-name": job}, "publishNotReadyAddresses": True},
    }
    container = {
        "name": "zoo",
        "image": "IMAGE-WITH-ZOO",
        "command": command,
        "env": [{"name": "ZOO_WORKERS", "value": addresses}, {"name": "ZOO_HOME", "value": "/shared/zoo"}],
        "ports": [{"containerPort": PORT}],
        "workingDir": "/shared",
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }
    volume = {"name": "shared", "persistentVolumeClaim": {"claimName": "CLAIM-THAT-ALL-CAN-WRITE"}}
    pod = {"subdomain": job, "restartPolicy": "OnFailure", "containers": [container], "volumes": [volume]}
    indexed = {"completions": workers, "parallelism": workers, "completionMode": "Indexed", "backoffLimit": 100}
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job},
        "spec": {**indexed, "template": {"spec": pod}},
    }
    return yaml.safe_dump_all([service, manifest], sort_keys=False)
