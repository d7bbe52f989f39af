"""The JAX engine computes what the TensorFlow engine does, and needs nothing of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jax_side import UPDATES, losses
from shrunk import FAMILIES, STILL, Bench

pytest.importorskip("jax", reason="the extra jax is not installed")
SIDE = Path(__file__).with_name("jax_side.py")
OBJECTIVES = [*FAMILIES, "transformer-xl-wt103-base"]


def on_jax(*arguments: str, devices: int = 1) -> Any:
    """What a function of tests/jax_side.py finds, in a process of so many virtual devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, SIDE, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "XLA_FLAGS": flags},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("dropout", [False, True], ids=["still", "dropout"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_twenty_updates_have_the_same_losses(name: str, dropout: bool) -> None:
    """In micro-batches of 3 of 8 rows; with dropout too, whose noise is the same bits on both engines."""
    model = {} if dropout else STILL
    here = losses(Bench(name, 3, model, updates=UPDATES))
    there = on_jax("equality", name, "3", json.dumps(model))
    # Later norms are those of weights that Adam has moved by the sign of rounding errors, where a gradient is zero.
    assert there[0]["norm"] == pytest.approx(here[0]["norm"], rel=1e-5)
    for number in range(UPDATES):
        del here[number]["norm"], there[number]["norm"]
        assert there[number] == pytest.approx(here[number], rel=1e-4), f"update {number}"


def test_the_loss_goes_back_by_its_formula() -> None:
    exact, rounded = on_jax("cross_entropy")
    assert exact < 1e-6
    assert rounded < 1e-2
