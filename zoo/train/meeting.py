"""Workers wait for each other before TensorFlow connects them: it can neither say for whom it waits nor give up.

Worker 0 listens on its own address, the others come and say who they are, and when all are there it lets them go.
"""

import select
import socket
import time

from zoo.errors import UserError
from zoo.progress import say
from zoo.train.cluster import Cluster
from zoo.waiting import WAIT, longest_wait, until

GO = "go"


def meet(cluster: Cluster) -> None:
    """Returns when all workers are there.

    Raises:
        UserError: one did not come in time, belongs to another cluster, or an address cannot be used.
    """
    wait = longest_wait()
    count = len(cluster.addresses)
    say(f"worker {cluster.worker} of {count} ({cluster.how}): waiting for the others, {wait:.0f} s at most")
    problem = _wait_for_all(cluster, wait) if cluster.worker == 0 else _come(cluster, wait)
    if problem:
        raise UserError(problem)


def _wait_for_all(cluster: Cluster, wait: float) -> str | None:
    """As worker 0; what is wrong, or None."""
    greeting = [_greeting(cluster, number) for number in range(len(cluster.addresses))]
    missing = {number: cluster.named(number) for number in range(1, len(cluster.addresses))}
    come: dict[int, socket.socket] = {}
    problem = None
    try:
        with socket.create_server(("", _place(cluster, 0)[1])) as door:
            for _ in until(wait, lambda: f"still waiting for {', '.join(missing.values())}"):
                if not missing or problem:
                    break
                if not select.select([door], [], [], 0.2)[0]:
                    continue
                caller, (host, _) = door.accept()
                caller.settimeout(5)
                told = _line(caller)
                if told in greeting[1:]:
                    number = greeting.index(told)
                    missing.pop(number, None)
                    come[number] = caller
                elif told:
                    problem = f"{host} came to worker 0 and is of another cluster: {told!r}, not {greeting[1]!r}"
    except OSError as error:
        return f"worker 0 cannot use its address {cluster.addresses[0]} ({error.strerror or error})"
    if missing and not problem:
        problem = f"{', '.join(missing.values())} did not come in {wait:.0f} s; {WAIT} says how long to wait"
    for caller in come.values():
        with caller:
            caller.sendall(f"{problem or GO}\n".encode())
            _line(caller)  # it closes first, so that the port of worker 0 is free at once
    return problem


def _come(cluster: Cluster, wait: float) -> str | None:
    """As another worker; what is wrong, or None."""
    first = cluster.named(0)
    for _ in until(wait, lambda: f"still waiting for {first}"):
        try:
            with socket.create_connection(_place(cluster, 0), timeout=5) as caller:
                caller.sendall(f"{_greeting(cluster, cluster.worker)}\n".encode())
                caller.settimeout(wait)  # worker 0 is there, and says for whom it waits
                if told := _line(caller):
                    return None if told == GO else told
        except OSError:
            time.sleep(0.2)  # it is not there yet
    return f"{first} did not come in {wait:.0f} s; {WAIT} says how long to wait"


def _greeting(cluster: Cluster, number: int) -> str:
    return f"worker {number} of {','.join(cluster.addresses)}"


def _place(cluster: Cluster, number: int) -> tuple[str, int]:
    host, _, port = cluster.addresses[number].rpartition(":")
    if not (host and port.isdigit()):
        raise UserError(
            f"{cluster.how}: the address of worker {number} is {cluster.addresses[number]!r}, not HOST:PORT"
        )
    return host, int(port)


def _line(caller: socket.socket) -> str:
    """One line of what the other side says; nothing where it has closed, or says nothing."""
    try:
        with caller.makefile(encoding="utf-8", errors="replace") as said:
            return said.readline(1 << 16).rstrip("\n")
    except OSError:
        return ""
