"""Rows shared out to replicas, and updates that do not depend on how many there are."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shrunk import FAMILIES, shrunk

from zoo.corpus.cache import locked
from zoo.train.feed import Feed, Share
from zoo.train.launch import local_workers

SEVERAL = Path(__file__).parent / "several.py"
UPDATES = 20


class Plan:
    """As much of a plan as a feed asks for before it makes rows."""

    def __init__(self, streams: int | None):
        self.streams = streams


@given(rows=st.integers(1, 40), streams=st.none() | st.integers(1, 12), micro=st.integers(1, 9), of=st.integers(1, 7))
def test_every_row_is_made_once_and_a_stream_stays_on_its_replica(
    rows: int, streams: int | None, micro: int, of: int
) -> None:
    if streams is not None:
        rows = streams * -(-rows // streams)
    unused: Any = None
    plan: Any = Plan(streams)
    feeds = [Feed(unused, plan, rows, micro, 0, Share(index, of)) for index in range(of)]
    made = [row for feed in feeds for part in feed.parts for row in part]
    assert sorted(made) == list(range(rows))
    assert len({len(feed.parts) for feed in feeds}) == len({feed.micro_rows for feed in feeds}) == 1
    counts = [sum(map(len, feed.parts)) for feed in feeds]
    assert max(counts) - min(counts) <= (rows // streams if streams else 1)
    for feed in feeds:
        assert all(len(part) <= feed.micro_rows <= micro for part in feed.parts)
    if streams is not None:
        owners = [{row % streams for part in feed.parts for row in part} for feed in feeds]
        assert sum(map(len, owners)) == len(set().union(*owners)) == streams


def run_several(folder: Path, workers: int, replicas: int, families: list[str]) -> None:
    """tests/several.py as a cluster of so many processes, or with so many replicas in one."""
    command = [sys.executable, str(SEVERAL), str(folder), str(replicas), str(UPDATES), *families]
    processes = []
    for described in local_workers(workers):
        environment = {**os.environ, **described}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    told = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, told, strict=True):
        assert process.returncode == 0, output[-4000:]


def assert_same_update(name: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """What several workers left is what one leaves, but for rounding."""
    assert expected.keys() == found.keys()
    assert (expected.pop("sent"), found.pop("sent")) == (0, 4)  # bytes for a number of the gradient
    rates = UPDATES * shrunk(name).train.learning_rate
    apart, whole = 0.0, 0.0
    for key, value in expected.items():
        difference = np.abs(found[key] - value, dtype=np.float64)
        if key.startswith("total."):
            assert found[key] == pytest.approx(value, rel=1e-6)
        elif key.startswith("gradient."):
            apart += np.square(difference).sum()
            whole += np.square(value, dtype=np.float64).sum()
        elif not key.endswith("k.bias"):  # whose gradient is zero: Adam scales up its rounding
            assert difference.max() <= 1e-3 * rates, (name, key)
    assert np.sqrt(apart) <= 1e-6 * np.sqrt(whole)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process finds; made once, also where several processes run the tests."""
    room = tmp_path_factory.getbasetemp()
    folder = (room.parent if "PYTEST_XDIST_WORKER" in os.environ else room) / "alone"
    with locked(folder.with_suffix(".lock"), "training alone"):
        if not folder.exists():
            made = tmp_path_factory.mktemp("alone")
            run_several(made, 1, 1, [f"{name}:8" for name in FAMILIES])
            made.rename(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers, replicas, micro_rows, families",
    [(2, 1, 2, FAMILIES), (4, 1, 8, ("bert-base",)), (1, 2, 3, ("xlnet-base",))],
    ids=["2 workers", "4 workers", "2 replicas"],
)
def test_an_update_does_not_depend_on_how_many_share_it(
    workers: int, replicas: int, micro_rows: int, families: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    run_several(tmp_path, workers, replicas, [f"{name}:{micro_rows}" for name in families])
    for name in families:
        assert_same_update(name, *(dict(np.load(folder / f"{name}.npz")) for folder in (alone, tmp_path)))


@pytest.mark.slow
def test_gradients_travel_in_half_the_bytes_where_asked(alone: Path, tmp_path: Path) -> None:
    (name, *_) = FAMILIES
    run_several(tmp_path, 1, 2, [f"{name}:8:bfloat16"])
    expected, found = (dict(np.load(folder / f"{name}.npz")) for folder in (alone, tmp_path))
    assert found["sent"] == 2
    rates = UPDATES * shrunk(name).train.learning_rate
    weights = [key for key in expected if key.startswith("weight.") and not key.endswith("k.bias")]
    apart = max(np.abs(found[key] - expected[key]).max() for key in weights)
    assert 1e-3 * rates < apart < 0.1 * rates  # rounded to 8 bits, and no more
