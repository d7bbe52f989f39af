"""Workers on two hosts: network namespaces with addresses of their own, and one cable between them."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_cluster import SMALL, done, until_updates
from test_replicas import SEVERAL, UPDATES, assert_same_update, run_several

PORT = 20_001
FAMILY = "bert-base"  # with unequal numbers of targets


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Two namespaces; `command` starts a worker in one of them."""

    def __init__(self) -> None:
        self.names = [f"zoo-{os.getpid()}-{n}" for n in range(2)]
        self.cables = [f"zoo{os.getpid() % 100_000}-{n}" for n in range(2)]
        self.addresses = ",".join(f"10.213.0.{n + 1}:{PORT}" for n in range(2))

    def connect(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        first, second = self.cables
        ip("link", "add", first, "netns", self.names[0], "type", "veth", "peer", "name", second, "netns", self.names[1])
        for number, (name, cable) in enumerate(zip(self.names, self.cables, strict=True), 1):
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", cable)
            for device in ("lo", cable):
                ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def cut(self) -> None:
        ip("-n", self.names[1], "link", "set", self.cables[1], "down")

    def start(self, host: int, *command: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "ZOO_WORKERS": self.addresses, "ZOO_WORKER": str(host)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        words = ["ip", "netns", "exec", self.names[host], sys.executable, *command]
        return subprocess.Popen(words, env=environment, **pipes)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("this machine has no `ip`, which makes network namespaces")
    made = Hosts()
    try:
        made.connect()
    except subprocess.CalledProcessError as error:
        made.remove()
        pytest.skip(f"this machine allows no network namespaces: {error.stderr.strip()}")
    yield made
    made.remove()


@pytest.mark.slow
def test_two_hosts_make_the_update_of_one(hosts: Hosts, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    run_several(alone, 1, 1, [f"{FAMILY}:8"])
    command = [str(SEVERAL), str(together), "1", str(UPDATES), f"{FAMILY}:2"]
    for process in [hosts.start(host, *command) for host in range(2)]:
        done(process)
    assert_same_update(FAMILY, *(dict(np.load(folder / f"{FAMILY}.npz")) for folder in (alone, together)))


@pytest.mark.slow
def test_a_cable_that_is_cut_is_noticed_on_both_sides(hosts: Hosts, tmp_path: Path) -> None:
    asked = ["gpt2-nano", *SMALL, "--updates", "4000", "--out", str(tmp_path / "run"), "--resume"]
    asked += ["--set", "train.checkpoint_every=5", "--set", "train.evaluate_every=null"]
    first, second = (hosts.start(host, "-m", "zoo", "pretrain", *asked) for host in range(2))
    until_updates(tmp_path / "run", 12)
    hosts.cut()
    begin = time.monotonic()
    told = done(first, 1)
    assert re.search(r"zoo: worker 1 \(10\.213\.0\.2:\d+\) is lost, so that all stop; --resume continues", told)
    assert re.search(r"zoo: worker 0 \(10\.213\.0\.1:\d+\) is lost, so that all stop", done(second, 1))
    assert time.monotonic() - begin < 60
