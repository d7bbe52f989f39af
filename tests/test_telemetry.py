"""What a person sees while a run goes on."""

import io
import re

import pytest

from zoo.train import telemetry
from zoo.train.telemetry import Display


class Terminal(io.StringIO):
    def isatty(self):
        return True


def display(**changes):
    settings = {"updates": 10, "start": 0, "tokens_per_update": 100, "baselines": "by chance causal 4.62"}
    return Display(**{**settings, "advice": lambda rate: f"at {rate:.0f} tokens/s", **changes})


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now[0])
    return now


def test_a_line_tells_loss_baselines_rate_and_time_left(clock, capsys):
    shown = display()
    with shown.shown():
        for _ in range(3):
            clock[0] += 20
            shown.micro_batch(100)
            shown.update({"loss": 4.0, "causal": 4.0}, ["causal"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "at 5 tokens/s"
    told = "update 3 of 10: loss 4.000 [by chance causal 4.62], 300 tokens, 5 tokens/s, 2.3 min left"
    assert lines[-1] == told


def test_every_micro_batch_moves_the_bar_of_a_terminal(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(telemetry.sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    shown = display()
    with shown.shown():
        for done in range(1, 4):
            clock[0] += 20
            shown.micro_batch(25)
            assert shown.bar.tasks[0].completed == 25 * done
            shown.bar.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "update 0.75 of 10" in text
    assert "[by chance causal 4.62]" in text


def test_the_first_micro_batch_and_pauses_do_not_count_for_the_rate(clock):
    shown = display()
    clock[0] = 500.0  # compiling
    shown.micro_batch(100)
    assert shown.seconds_left is None
    clock[0] = 900.0  # an evaluation
    shown.pause()
    clock[0] = 902.0
    shown.micro_batch(100)
    assert shown.seconds_left == pytest.approx(800 * 0.02)
