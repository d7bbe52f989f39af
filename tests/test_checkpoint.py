"""Checkpoints are whole or not there, hold one moment, and only the right ones go."""

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shrunk import Bench, shrunk

from zoo import disk
from zoo.errors import UserError
from zoo.saved import open_saved
from zoo.sections import Train
from zoo.train import checkpoint
from zoo.train.saver import Saver


def written(folder: Path, *steps: int) -> list[Path]:
    """Small checkpoints of these steps."""
    for step in steps:
        weights = {"a.kernel": np.full(2, step, np.float32), "b": np.ones((1, 1), np.float32)}
        slots = {"b.m": np.full((1, 1), step, np.float32)}
        checkpoint.save(folder, step, weights, slots, {}, {"tokens": 8 * step})
    return [checkpoint.folder_of(folder, step) for step in steps]


def keeping(**train: int | None) -> Train:
    return shrunk("gpt2-small", **train).train


@pytest.fixture
def run(tmp_path: Path) -> Path:
    written(tmp_path, 1, 2, 3)
    return tmp_path


def test_what_is_saved_is_read_back(run):
    found = checkpoint.newest(run)
    weights, slots, memory, state = checkpoint.load(found)
    assert found.name == "step-00000003"
    assert state == {"step": 3, "tokens": 24}
    assert weights["a.kernel"].tolist() == [3, 3]
    assert slots["b.m"].tolist() == [[3]]
    assert memory is None


def test_equal_state_gives_equal_bytes(tmp_path):
    one, two = (written(tmp_path / name, 1)[0] / disk.MANIFEST for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def damage(folder: Path, harm: str) -> None:
    file = folder / "model.safetensors"
    if harm == "truncate":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "flip":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
    elif harm == "remove":
        file.unlink()
    elif harm == "manifest":
        (folder / "MANIFEST.json").write_text("{")
    else:
        (folder / "MANIFEST.json").unlink()


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest", "no manifest"])
def test_a_damaged_one_is_named_passed_over_and_kept(run, capsys, harm):
    damaged = checkpoint.folder_of(run, 3)
    damage(damaged, harm)
    before = {path.name: path.read_bytes() for path in damaged.iterdir()}
    assert checkpoint.newest(run).name == "step-00000002"
    assert f"{damaged} is damaged" in capsys.readouterr().err
    assert damaged.exists()  # who only reads a run changes nothing in it
    checkpoint.tidy(run, 2)
    assert "damaged-step-00000003" in capsys.readouterr().err
    aside = run / "checkpoints" / "damaged-step-00000003"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert list(checkpoint.found(run)) == [2, 1]


def test_a_damaged_one_pushes_no_other_out(tmp_path):
    for _ in range(2):  # the second time the name that it would get is taken
        before, newest = written(tmp_path, 3, 4)
        damage(newest, "flip")
        assert checkpoint.newest(tmp_path) == before
        checkpoint.tidy(tmp_path, 3)
        written(tmp_path, 4)
        checkpoint.drop(tmp_path, keeping(keep_checkpoints=1), {})
        assert checkpoint.newest(tmp_path) == newest
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-00000004", "damaged-step-00000004", "damaged-step-00000004-2"}


def test_what_a_killed_process_left_is_swept_away(run):
    for name in (".step-00000004.partial", ".step-00000001.partial"):  # being written, being deleted
        (run / "checkpoints" / name).mkdir()
    checkpoint.tidy(run, 3)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {f"step-0000000{n}" for n in (1, 2, 3)}


def test_a_save_that_fails_leaves_nothing(run, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "flush", full)
    with pytest.raises(OSError, match="No space"):
        written(run, 4)
    assert checkpoint.newest(run).name == "step-00000003"
    assert not [p for p in (run / "checkpoints").iterdir() if p.name.startswith(".")]


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UserError, match="no whole checkpoint"):
        open_saved(tmp_path)
    with pytest.raises(UserError, match="no run, checkpoint or Hugging Face folder"):
        open_saved(tmp_path / "nowhere")


# --- which are kept


def test_the_newest_the_multiples_and_the_best_are_kept(tmp_path):
    train = keeping(keep_checkpoints=2, keep_every=4)
    losses = {2: 5.0, 3: 3.0, 5: 4.0, 9: math.nan}
    for step in range(10):
        written(tmp_path, step)
        checkpoint.drop(tmp_path, train, losses)
    assert list(checkpoint.found(tmp_path)) == [9, 8, 4, 3]


LOSSES = st.dictionaries(st.integers(0, 30), st.floats(allow_nan=True), max_size=12)


@given(
    saves=st.lists(st.integers(0, 30), unique=True, min_size=1).map(sorted),
    losses=LOSSES,
    last=st.integers(1, 4),
    every=st.none() | st.integers(1, 9),
)
def test_whatever_is_deleted_on_the_way_the_best_and_the_newest_are_there(saves, losses, last, every):
    train = keeping(keep_checkpoints=last, keep_every=every)
    there: set[int] = set()
    for step in saves:
        there = checkpoint.kept({*there, step}, train, {at: loss for at, loss in losses.items() if at <= step})
    assert set(saves[-last:]) <= there
    assert {step for step in saves if every and step and step % every == 0} <= there
    known = [step for step in saves if math.isfinite(losses.get(step, math.nan))]
    if known:
        assert min(known, key=losses.__getitem__) in there
    assert len(there) <= last + 1 + (30 // every if every else 0)


# --- a moment is held while training goes on


@pytest.mark.parametrize("micro_rows", [8, 3], ids=["one micro-batch", "summed micro-batches"])
def test_a_held_state_is_left_alone_by_updates(micro_rows, tmp_path):
    """bert-base decays weights, which is another op in place before Adam's."""
    bench = Bench("bert-base", micro_rows)
    engine, learner, optimizer = bench.engine, bench.learner, bench.optimizer
    assert bench.recipe.train.adam.weight_decay

    def update(number):
        from zoo.train.replicas import to_device

        made = bench.feed.update(number)
        if len(made.batches) > 1:
            bench.sums(number)
            engine.apply(1e-3, number)
        else:
            engine.update(to_device(made.batches[0]), made.factors(engine.scales), 1e-3, number)

    def copied():
        return [
            {name: np.copy(value.value.numpy()) for name, value in values.items()}
            for values in (learner.weights, optimizer.slots)
        ]

    update(0)
    expected, held = copied(), engine.state()
    for number in (1, 2):
        update(number)
    now = copied()
    for values, then in zip(now, expected, strict=True):
        assert all((values[name] != then[name]).any() for name in then if not name.startswith("attend.k.bias"))
    learner.set_weights({name: np.zeros_like(value) for name, value in expected[0].items()})
    engine.reset()
    checkpoint.save(tmp_path, 1, *held, {})
    saved = checkpoint.load(checkpoint.folder_of(tmp_path, 1))[:2]
    for values, then in zip(saved, expected, strict=True):
        assert values.keys() == then.keys()
        for name, value in then.items():
            np.testing.assert_array_equal(values[name], value, err_msg=name)


def test_holding_a_state_copies_nothing():
    bench = Bench("gpt2-small")
    for once, again in zip(bench.engine.state(), bench.engine.state(), strict=True):
        for name, value in once.items():
            assert np.shares_memory(np.asarray(value), np.asarray(again[name])), name


# --- saving beside training


def test_saves_run_beside_training_one_at_a_time_and_in_order():
    saver, gates, done = Saver(), [threading.Event(), threading.Event()], []

    def save(number):
        assert gates[number].wait(10)
        done.append(number)

    saver.begin(1, lambda: save(0))
    assert saver.busy
    assert not done
    opener = threading.Timer(0.1, gates[0].set)
    opener.start()
    saver.begin(2, lambda: save(1))
    assert done == [0]
    gates[1].set()
    saver.wait()
    assert done == [0, 1]
    assert not saver.busy


def test_a_save_that_fails_is_told_once_and_the_next_one_is_tried(capsys):
    def full():
        raise OSError(28, "No space left on device")

    saver, done = Saver(), []
    saver.begin(7, full)
    while saver.busy:
        pass
    saver.look()
    saver.look()
    told = capsys.readouterr().err
    assert told == "warning: the checkpoint after update 7 could not be written ([Errno 28] No space left on device)\n"
    saver.begin(8, lambda: done.append(8))
    saver.wait()
    assert done == [8]
    assert capsys.readouterr().err == ""


def test_a_fault_in_a_save_is_no_warning():
    saver = Saver()
    saver.begin(1, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        saver.wait()
