"""`zoo watch`: a run in any state, read once, shown in text."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from test_house import HEAVY

from zoo.cli import run as command
from zoo.report import followed
from zoo.report.followed import Followed
from zoo.report.plot_text import Curve, binned, plot
from zoo.report.watch import view

ROOT = Path(__file__).parent.parent


def train(step, **more):
    rest = {"tokens": 100 * step, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens_per_second": 50.0}
    return {"step": step, "split": "train", "loss": 8 - step / 2, **rest, **more}


def valid(step, **more):
    return {"step": step, "split": "valid", "loss": 8.5 - step / 2, **more}


def text(*lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def folder(tmp_path):
    """A run of ten updates of 100 tokens that has done nothing yet."""
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "recipe.yaml").write_text("# mine\ntrain: {updates: 10, tokens_per_update: 100}\n")
    return tmp_path / "run-1"


def write(folder, content, mode="a"):
    with (folder / "metrics.jsonl").open(mode) as file:
        file.write(content)


def shown(*folders, width=100):
    console = Console(width=width, file=io.StringIO())
    runs = [Followed(folder) for folder in folders]
    for run in runs:
        run.read()
    with console.capture() as capture:
        console.print(view(runs, console, width, 24))
    return capture.get()


def test_a_run_is_read_as_it_grows_every_line_once(folder, monkeypatch):
    parsed = []
    real = json.loads
    monkeypatch.setattr(followed.json, "loads", lambda line: parsed.append(line) or real(line))
    run = Followed(folder)
    run.read()
    assert (run.step, run.rate, run.finished) == (0, None, False)
    write(folder, text(train(1), train(2)))
    run.read()
    whole = text(train(3), valid(3))
    write(folder, whole[:40])  # in the middle of a line
    run.read()
    assert run.step == 2
    write(folder, whole[40:-5])
    run.read()
    assert list(run.steps) == [1, 2, 3]
    assert not run.evaluated
    write(folder, whole[-5:] + "\n{broken\n[1]\n" + text(train(4)))
    run.read()
    run.read()
    assert list(run.losses) == [7.5, 7.0, 6.5, 6.0]
    assert run.evaluated == {3: valid(3)}
    assert run.seconds_left == pytest.approx(6 * 100 / 50)
    assert len(parsed) == 5 + 3


def test_a_block_ends_anywhere(folder, monkeypatch):
    monkeypatch.setattr(followed, "BLOCK", 7)
    write(folder, text(*map(train, range(1, 6))))
    run = Followed(folder)
    run.read()
    assert list(run.steps) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("replaced", [True, False], ids=["another file", "the same file"])
@pytest.mark.parametrize("longer", [True, False], ids=["longer by now", "shorter"])
def test_a_resumed_run_is_read_again(folder, replaced, longer):
    """Its file was cut back to update 2, and goes on with other timings."""
    run = Followed(folder)
    write(folder, text(*map(train, range(1, 6)), valid(5)))
    run.read()
    after = [train(step, tokens_per_second=70.25, loss=3.0) for step in range(3, 10 if longer else 4)]
    if replaced:
        (folder / "metrics.jsonl").unlink()
    write(folder, text(train(1), train(2), *after), "w")
    run.read()
    assert list(run.losses) == [7.5, 7.0] + [3.0] * len(after)
    assert not run.evaluated


def test_lines_that_are_appended_again_replace_the_first(folder):
    write(folder, text(*map(train, range(1, 6)), valid(5), train(4, loss=1.0)))
    run = Followed(folder)
    run.read()
    assert list(run.steps) == [1, 2, 3, 4]
    assert run.losses[-1] == 1.0
    assert not run.evaluated


def test_a_long_file_is_not_read_again_every_second(folder):
    lines = text(*map(train, range(1, 40_001)))
    write(folder, lines)
    run = Followed(folder)
    run.read()
    begin = time.perf_counter()
    for _ in range(50):
        run.read()
    assert time.perf_counter() - begin < 1
    assert run.step == 40_000


def test_a_run_has_finished_when_it_has_evaluated_its_end_and_left_its_sample(folder):
    write(folder, text(*map(train, range(1, 11))))
    run = Followed(folder)
    run.read()
    assert not run.finished
    write(folder, text(valid(10)))
    run.read()
    assert not run.finished
    (folder / "sample.txt").write_text("We must\n")
    assert run.finished
    (folder / "sample.txt").unlink()
    os.utime(folder / "metrics.jsonl", (0, 0))
    run.read()
    assert run.finished  # a copy of its metrics alone


def test_the_view_tells_where_runs_are(folder, tmp_path):
    other = tmp_path / "[red]other"  # a name is no markup
    other.mkdir()
    told = shown(folder, other)
    assert "not begun" in told
    assert "nothing to plot yet" in told
    write(folder, text(*map(train, range(1, 6)), valid(5, bits_per_byte=1.25)))
    write(other, text(*map(train, range(1, 4))))  # no recipe: it ends nobody knows when
    (folder / "sample.txt").write_text("a \x1b[31m sample\nof two lines")
    told = shown(folder, other)
    row, second = (next(line for line in told.splitlines() if line.startswith(name)) for name in ("run-1", "[red]"))
    assert row.split() == ["run-1", "5/10", "50", "10", "s", "6.500", "6.000", "1.250"]
    assert second.split() == ["[red]other", "3", "50", "7.000"]
    assert "run-1 wrote:\na � sample" in told.replace("[31m ", " ").replace("\ufffd", "�")
    assert "\x1b" not in told
    os.utime(folder / "metrics.jsonl", (time.time() - 300, time.time() - 300))
    assert "silent 5.0 min" in shown(folder)


def test_losses_of_two_objectives_share_no_axes(folder, tmp_path):
    folders = [folder, tmp_path / "other"]
    folders[1].mkdir()
    for path, name, loss in zip(folders, ("causal", "masked"), (2.0, 900.0), strict=True):
        (path / "recipe.yaml").write_text(
            f"objective: {{name: {name}}}\ntrain: {{updates: 10, tokens_per_update: 100}}\n"
        )
        write(path, text(train(1, loss=loss), train(2, loss=loss + 1)))
    causal, masked = shown(*folders).partition("\nmasked\n")[::2]
    assert "\ncausal\n" in causal
    assert "run-1" in causal.partition("\ncausal\n")[2]
    assert "901" not in causal
    assert "other" in masked
    assert "901" in masked
    (folders[1] / "recipe.yaml").write_text((folder / "recipe.yaml").read_text())
    assert "\ncausal\n" not in shown(*folders)  # one plot says nothing of its objective


def test_losses_that_are_not_finite_are_left_out_of_the_plot(folder):
    write(folder, text(train(1), train(2), train(3, loss=float("nan")), train(4)))
    assert "nan" in shown(folder)  # the loss of late
    assert plot([Curve("all", [1], [float("nan")])], 30, 4, "updates", braille=False).plain == "nothing to plot yet"


def test_without_a_terminal_it_is_printed_once(folder, capsys):
    write(folder, text(*map(train, range(1, 6))))
    assert command(["watch", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "5/10" in out
    assert err == ""
    assert command(["watch", str(folder.parent / "run-2")]) == 2
    assert "there is no run" in capsys.readouterr().err
    assert command(["watch"]) == 2


def test_it_starts_without_anything_heavy(folder):
    code = f"""
import sys
from zoo.cli import run
run(["watch", {str(folder)!r}])
print(*(name.split(".")[0] for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY.isdisjoint(done.stdout.splitlines()[-1].split())


def on_terminal(*runs):
    """A zoo watch of these runs on a terminal of its own: the process, and where it writes."""
    import pty

    process, terminal = pty.fork()
    if process == 0:
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", "PYTHONPATH": str(ROOT)}
        os.execve(sys.executable, [sys.executable, "-m", "zoo", "watch", *map(str, runs)], env)
    return process, terminal


def read_until(terminal, wanted, seconds=60.0):
    """All that a terminal was sent, until something stands in it; to the end where that is None."""
    import select

    found, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and (wanted is None or wanted not in found):
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                found += os.read(terminal, 65536)
            except OSError:  # nobody is at the other end
                return found
    return found


def test_on_a_terminal_it_follows_until_all_have_finished(folder):
    write(folder, text(*map(train, range(1, 6))))
    process, terminal = on_terminal(folder)
    assert b"5/10" in read_until(terminal, b"5/10")
    write(folder, text(*map(train, range(6, 11)), valid(10)))
    (folder / "sample.txt").write_text("We must act.\n")
    rest = read_until(terminal, None)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    after = rest[rest.index(b"\x1b[?1049l") :]  # the screen that was there before is back
    assert b"finished" in after
    assert b"We must act." in after


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(folder, number, code):
    write(folder, text(*map(train, range(1, 6))))
    process, terminal = on_terminal(folder)
    read_until(terminal, b"5/10")
    os.kill(process, number)
    rest = read_until(terminal, None)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == code
    assert rest.endswith(b"\x1b[?25h\x1b[?1049l")  # the cursor and the screen, and not a word


# --- text plots


def test_a_line_is_joined_and_points_are_not():
    lines = plot([Curve("a", [0, 100], [1, 0])], 49, 10, "updates", braille=False).plain.splitlines()[:10]
    assert [line[9:].rstrip() for line in lines] == [" " * (4 * n) + "*" * 4 for n in range(10)]
    points = plot([Curve("a", [0, 100], [1, 0], points=True)], 49, 10, "updates", braille=False).plain
    assert points.count("o") == 2 + 1  # and in the legend
    steep = plot([Curve("a", [0, 1, 100], [1, 0, 0])], 49, 10, "updates", braille=True).plain.splitlines()[:10]
    assert all("\u2800" < line[9] <= "\u28ff" for line in steep)  # no row is left out on the way down


def test_means_of_equally_many():
    x, y = binned(np.arange(1.0, 11), np.arange(10.0), 5)
    assert y.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert x.tolist() == [1.5, 3.5, 5.5, 7.5, 9.5]
    assert len(binned(np.arange(3.0), np.arange(3.0), 5)[0]) == 3
