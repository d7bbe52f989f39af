"""Services beside a run: what each is told, and that none of them can stop training."""

import json
import shutil
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from shrunk import shrunk
from test_loop import SPECIALS, text  # noqa: F401 -- a fixture

import zoo
from zoo.cli import run as command
from zoo.errors import UserError
from zoo.train import checkpoint, trackers
from zoo.train.trackers import Trackers

RECIPE = shrunk("gpt2-small")
LINES = [
    {"step": 1, "split": "train", "loss": 4.5, "tokens": 192, "grad_norm": 1.0},
    {"step": 2, "split": "train", "loss": 4.25, "tokens": 384, "grad_norm": 0.5},
    {"step": 2, "split": "valid", "loss": 4.4, "causal": 4.4},
]
NUMBERS = [
    (1, {"train/loss": 4.5, "train/grad_norm": 1.0}),
    (2, {"train/loss": 4.25, "train/grad_norm": 0.5}),
    (2, {"valid/loss": 4.4, "valid/causal": 4.4}),
]


class FakeRun:
    """A run of wandb or trackio: they take the same calls."""

    def __init__(self, **about):
        self.about, self.logged, self.ended = about, [], False

    def log(self, numbers, step):
        self.logged.append((step, numbers))

    def finish(self):
        self.ended = True


class FakeMLflow:
    """A store with one client; runs by their id."""

    def __init__(self):
        self.experiments, self.runs = {}, {}

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id="7")
        return "7"

    def search_runs(self, experiments, wanted):
        key, _, value = wanted.partition(" = ")
        assert experiments == ["7"]
        assert key == "tags.`zoo.run`"
        return [run.handle for run in self.runs.values() if run.tags["zoo.run"] == value.strip("'")]

    def create_run(self, experiment, tags, run_name):
        handle = SimpleNamespace(info=SimpleNamespace(run_id=f"run {len(self.runs)}"))
        self.runs[handle.info.run_id] = SimpleNamespace(
            handle=handle, tags=tags, name=run_name, params={}, logged=[], status="RUNNING"
        )
        return handle

    def update_run(self, run, status):
        self.runs[run].status = status

    def set_terminated(self, run):
        self.runs[run].status = "FINISHED"

    def log_batch(self, run, metrics=(), params=()):
        self.runs[run].params |= dict(params)
        for key, value, when, step in metrics:
            assert abs(when / 1000 - time.time()) < 100
            self.runs[run].logged.append((step, key, value))


@pytest.fixture
def services(monkeypatch):
    """Small stand-ins for the modules of all services, and what they were told."""
    told = SimpleNamespace(wandb=[], trackio=[], mlflow=FakeMLflow())

    def wandb(**about):
        told.wandb.append(FakeRun(**about))
        return told.wandb[-1]

    def trackio(project, name, **about):
        print("* a line for people")
        told.trackio.append(FakeRun(project=project, name=name, **about))
        return told.trackio[-1]

    entities = SimpleNamespace(Metric=lambda *fields: fields, Param=lambda *fields: fields)
    modules = {
        "wandb": SimpleNamespace(init=wandb),
        "trackio": SimpleNamespace(init=trackio),
        "mlflow": SimpleNamespace(MlflowClient=lambda: told.mlflow),
        "mlflow.entities": entities,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trackers, "_installed", lambda name: name in (*modules, "failing"))  # and no TensorBoard
    return told


def follow(folder, *names, lines=LINES, told=()):
    folder.mkdir(exist_ok=True)
    following = Trackers(names, folder, RECIPE, told)
    for line in lines:
        following.write(line)
    following.close()


def test_every_service_is_told_the_run_and_its_numbers(services, tmp_path, capsys):
    follow(tmp_path / "run-1", "wandb", "trackio", "mlflow")
    assert capsys.readouterr() == ("", "* a line for people\n")
    (wandb,), (trackio,), (run,) = services.wandb, services.trackio, services.mlflow.runs.values()
    config = RECIPE.model_dump(mode="json")
    for one in (wandb, trackio):
        assert one.about["project"] == "zoo"
        assert one.about["name"] == "run-1"
        assert one.about["config"] == config
        assert one.logged == NUMBERS
        assert one.ended
    assert run.name == "run-1"
    assert run.status == "FINISHED"
    assert run.params["train.adam.beta2"] == str(RECIPE.train.adam.beta2)
    assert run.logged == [(step, key, value) for step, numbers in NUMBERS for key, value in numbers.items()]
    assert json.dumps(config)


def test_a_resumed_run_is_the_same_run_and_repeats_nothing(services, tmp_path):
    names = ("wandb", "trackio", "mlflow")
    follow(tmp_path / "run", *names, lines=LINES[:2])
    told = [(line["step"], line["split"]) for line in LINES[:2]]
    follow(tmp_path / "run", *names, lines=LINES[1:], told=told)  # it goes on from update 1
    follow(tmp_path / "other", *names, lines=[])
    ids = [one.about["id"] for one in services.wandb]
    assert ids[0] == ids[1] != ids[2]
    assert [one.about["resume"] for one in services.wandb] == ["allow"] * 3
    assert [one.about["resume"] for one in services.trackio] == ["never", "allow", "never"]
    for first, again, _ in (services.wandb, services.trackio):
        assert first.logged + again.logged == NUMBERS
    run, _ = services.mlflow.runs.values()
    assert [(step, key) for step, key, _ in run.logged] == [(step, key) for step, keys in NUMBERS for key in keys]


class Failing:
    """A tracker that raises, or hangs, at one of its three moments."""

    def __init__(self, run, where="start", hang=False):
        self.where, self.hang, self.written = where, hang, 0
        self.reach("start")

    def reach(self, where):
        if where == self.where:
            if self.hang:
                threading.Event().wait(1.5)  # and then it fails
            raise RuntimeError("no\nroute to host")

    def write(self, line):
        self.written += 1
        self.reach("write")

    def close(self):
        self.reach("close")


@pytest.mark.parametrize("hang", [False, True], ids=["raises", "hangs"])
@pytest.mark.parametrize("where", ["start", "write", "close"])
def test_a_tracker_that_fails_is_dropped_with_one_warning(where, hang, services, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(trackers.TRACKERS, "failing", lambda run: Failing(run, where, hang))
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.5 if hang else 10.0)
    begin = time.monotonic()
    follow(tmp_path / "run", "failing", "wandb", lines=LINES * 3)
    assert time.monotonic() - begin < 8
    why = "it did not end within 0 s" if hang else "RuntimeError: no route to host"
    if hang:
        time.sleep(1.5)
    assert capsys.readouterr().err == f"warning: failing no longer follows this run, which goes on ({why})\n"
    assert services.wandb[0].logged == NUMBERS * 3


def test_a_tracker_that_hangs_takes_no_memory_without_end(services, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(trackers.TRACKERS, "failing", lambda run: Failing(run, "start", True))
    monkeypatch.setattr(trackers, "MOST_WAITING", 100)
    follow(tmp_path / "run", "failing", lines=LINES * 50)
    assert capsys.readouterr().err.count("which goes on (it is 100 lines behind)") == 1


def test_trackers_that_are_not_there_are_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "_installed", lambda name: False)
    out = tmp_path / "run"
    assert command(["pretrain", "gpt2-nano", "--out", str(out), "--track", "wandb"]) == 2
    assert "--track wandb: it is not installed; pip install 'objective-zoo[wandb]'" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such tracker; did you mean 'wandb'"):
        zoo.pretrain(RECIPE, ["text"], out, track=["wanbd"])
    assert not out.exists()


def small(**train):
    tokenizer = {"kind": "bytes", "size": 300, "specials": SPECIALS}
    return shrunk("gpt2-small", **train).with_changes(tokenizer=tokenizer)


def test_a_run_goes_on_with_its_trackers(services, text, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(trackers.TRACKERS, "failing", lambda run: Failing(run, "write"))
    out = tmp_path / "run"
    recipe = small(checkpoint_every=2, updates=9)
    run = zoo.pretrain(recipe, text, out, track=["failing", "wandb"], stop_at=4)
    assert capsys.readouterr().err.count("warning: failing no longer follows this run") == 1
    shutil.rmtree(checkpoint.folder_of(out, 4))
    again = zoo.pretrain(recipe, text, out, resume=True, stop_at=5)  # it remembers what follows it
    first, second = services.wandb
    assert [line["step"] for line in again.history] == [1, 2, 3, 4, 5]
    assert [step for step, _ in first.logged] == [line["step"] for line in run.history]
    assert [step for step, _ in second.logged] == [5]
    assert second.about["id"] == first.about["id"]
    assert first.about["config"]["train"]["updates"] == 9
