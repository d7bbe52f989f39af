"""What is chosen for a machine: precision, what XLA compiles, rows at once."""

from typing import Any

import pytest

from zoo.registry import recipe
from zoo.train import budget, start


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another machine than this one."""
    from zoo.kernels import probe

    def other(flags: str = "", gpus: int = 0, available: int = 24 * 10**9, on_gpu: int = 10**10) -> None:
        monkeypatch.setattr(start, "cpu_flags", lambda: frozenset(flags.split()))
        monkeypatch.setattr(probe, "accelerators", lambda: ["a GPU"] * gpus)
        monkeypatch.setattr(probe, "device_memory", lambda: on_gpu if gpus else None)
        monkeypatch.setattr(budget, "memory_limits", lambda: {"available": available})

    return other


@pytest.mark.parametrize(
    "here, precision, compiled",
    [
        ({"flags": "avx2"}, "float32", "parts"),
        ({"flags": "avx2 avx512f amx_bf16"}, "bfloat16", "parts"),
        ({"flags": "avx2", "gpus": 1}, "bfloat16", "whole"),
    ],
)
def test_auto_is_what_the_machine_does_best(machine: Any, here: dict, precision: str, compiled: str) -> None:
    machine(**here)
    found = start.settled(recipe("gpt2-nano"))
    assert (found.train.precision, found.train.compile) == (precision, compiled)
    given = recipe("gpt2-nano", train={"precision": "bfloat16", "compile": "whole"})
    assert start.settled(given) == given


def test_as_many_rows_at_once_as_fit_and_make_it_faster(machine: Any) -> None:
    small = recipe("gpt2-small", train={"precision": "float32"})
    machine(available=10**12)
    assert budget.largest_rows(small) == small.rows_per_update
    assert budget.fitting_rows(small) == budget.CPU_TOKENS // 1024
    machine(available=65 * 10**8)
    most = budget.largest_rows(small)
    assert 0 < most < budget.CPU_TOKENS // 1024
    assert small.rows_per_update / most - 1 < small.rows_per_update / budget.fitting_rows(small)
    assert budget.largest_rows(small.with_changes(train={"remat": True})) > 2 * most
    machine(gpus=1, on_gpu=80 * 10**9)
    assert budget.fitting_rows(small) > budget.CPU_TOKENS // 1024
    machine(available=10**9)
    assert (budget.largest_rows(small), budget.fitting_rows(small)) == (0, 1)
    assert budget.fitting_rows(small.with_changes(train={"micro_rows": 7})) == 7


def test_a_run_that_may_not_fit_is_warned_of(machine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    machine(available=10**9)
    budget.check_memory(recipe("gpt2-small"))
    told = capsys.readouterr().err
    assert "1.0 GB are free" in told
    assert "train.remat=true" in told
    machine()
    budget.check_memory(recipe("gpt2-small"))
    assert not capsys.readouterr().err


def test_rows_at_once_may_be_called_automatic() -> None:
    assert recipe("gpt2-nano", train={"micro_rows": "auto"}) == recipe("gpt2-nano")
