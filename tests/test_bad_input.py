"""What goes wrong in use: one line that names it, the right exit code, nothing overwritten, lost or left behind."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_checkpoint import written

import zoo
from zoo import cli
from zoo.errors import Interrupted, RunFailed, UserError
from zoo.kernels import startup
from zoo.saved import open_saved
from zoo.train import checkpoint, pretrain, run, start
from zoo.train.signals import CAUGHT
from zoo.train.telemetry import Display
from zoo.use.loaded import Loaded

SMALL = """
model: {width: 16, layers: 1, heads: 2, context: 16}
tokenizer: {kind: bytes, size: 257}
objective: {name: causal}
train: {tokens_per_update: 32, updates: 4, learning_rate: 1e-3, precision: float32, evaluate_every: 2}
"""
TEXT = "".join(f"The {n}th cat sat on the mat and slept until the dog came home.\n" for n in range(60))
FILES = {
    "small.yaml": SMALL,
    "pairs.yaml": SMALL.replace("{name: causal}", "{name: masked, next_sentence: true}\ndata: {rows: pairs}").replace(
        "size: 257", "size: 300, specials: {cls: <c>, sep: <s>, mask: <m>}"
    ),
    "shared.yaml": SMALL.replace("size: 257", "size: 257, specials: {eod: <e>, pad: <e>}"),
    "twice.yaml": SMALL + "train: {updates: 3}\n",
    "ring.yaml": "extends: gnir\n",
    "gnir.yaml": "extends: ring\n",
    "child.yaml": "extends: small\n",
    "grandchild.yaml": "extends: child\n",
    "text.txt": TEXT,
    "mark.txt": "\ufeff" + TEXT,
    "short.txt": "Too short.",
    "shorter.txt": "A cat sat. A dog came. Both slept.",
    "table.csv": "id,txet\n1,one\n",
    "blank.txt": " \n\n",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder a user works in."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "image.txt").write_bytes(bytes(range(256)))
    (tmp_path / "latin.txt").write_bytes("café ".encode("latin-1") * 9)
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(os.urandom(9999).hex().encode())[:-300])
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@pytest.fixture
def refused(desk: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that must be refused with one line and leave the user's folder as it is; returns the line."""

    def refuse(*arguments: str) -> str:
        before = contents(desk)
        assert cli.run(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        *progress, line = err.splitlines()
        assert line.startswith("zoo: ")
        assert not any(told.startswith("zoo: ") for told in progress)
        assert contents(desk) == before
        return line

    return refuse


# --- command lines


@pytest.mark.parametrize(
    "line, parts",
    [
        ("twice.yaml", ["twice.yaml, line 6", "'train' stands twice"]),
        ("ring.yaml", ["ring.yaml extends 'gnir', which extends it in turn"]),
        ("grandchild.yaml", ["grandchild.yaml extends 'child', which itself extends 'small'"]),
        ("small.yaml --set tokenizer.specials.edo=x", ["unknown role 'edo'", "did you mean", "'eod'"]),
        ("shared.yaml", ["shared.yaml: tokenizer: specials", "a token of its own"]),
        ("small.yaml --data table.csv", ["no column 'text'", "did you mean 'txet'?"]),
        ("small.yaml --data blank.txt", ["blank.txt", "no text"]),
        ("small.yaml --data image.txt", ["image.txt", "NUL at byte 0", "binary"]),
        ("small.yaml --data latin.txt", ["latin.txt: byte 3 is not UTF-8", "Windows-1252"]),
        ("small.yaml --data cut.txt.gz", ["cut.txt.gz", "cut off"]),
        ("small.yaml --data short.txt", ["short.txt: no word starts in the last part of its 10 bytes", "more text"]),
        ("small.yaml --data shorter.txt --set model.context=32", ["too few for one row", "32; nearest that fits: "]),
        ("small.yaml --data text.txt --set data.valid=blank.txt", ["blank.txt", "no text"]),
        ("pairs.yaml --data text.txt", ["at least 2 documents and the corpus has 1", "data.document=line"]),
        ("small.yaml --data text.txt --set tokenizer.size=99", ["tokenizer.size is 99", "needs 257"]),
        ("small.yaml --data text.txt --set tokenizer.file=file", ["tokenizer.file: file is no tokenizer.json"]),
    ],
)
def test_a_batch_that_cannot_be(refused: Any, line: str, parts: list[str]) -> None:
    """These are found out before TensorFlow is needed, so `batch` says them as `pretrain` does."""
    message = refused("batch", *line.split(), "--step", "1")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "line, parts",
    [
        ("--data nowhere.txt --out new/deep/run", ["nowhere.txt"]),
        ("--data blank.txt --out new/deep/run", ["blank.txt"]),
        ("--data blank.txt", ["blank.txt"]),
        ("--data text.txt --out file", ["--out 'file'", "Not a directory"]),
        ("--data text.txt --out file/run", ["--out 'file/run'", "Not a directory"]),
        ("--data text.txt --out folder", ["--out 'folder' holds files that are not a run's"]),
        ("--data text.txt --out new/" + 300 * "x", ["--out", "File name too long"]),
        ("--data text.txt --out /proc/run", ["--out '/proc/run' cannot be written"]),
        ("--data text.txt --init-from ./nowhere", ["no run, checkpoint or Hugging Face folder 'nowhere'"]),
        ("--data text.txt --init-from ./folder", ["'folder' holds no whole checkpoint"]),
        ("--data text.txt --init-from nowhere", ["there is no checkpoint 'nowhere'"]),
        ("--data text.txt --init-from folder", ["there is no checkpoint 'folder'; the folder is ./folder"]),
        ("--data text.txt --updates 99999999999", ["--updates", "below 2,147,483,648"]),
    ],
)
def test_a_run_that_cannot_start(refused: Any, line: str, parts: list[str]) -> None:
    message = refused("pretrain", "small.yaml", *line.split())
    for part in parts:
        assert part in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system that nobody, not even root, can write to")
def test_a_home_that_cannot_be_written(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", "/proc")
    assert "ZOO_HOME /proc cannot be written" in refused("pretrain", "small.yaml", "--data", "text.txt")


def test_a_byte_order_mark_is_no_text(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for name in ("text.txt", "mark.txt"):
        assert cli.run(["batch", "small.yaml", "--step", "1", "--data", name]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


# --- the run's folder


def test_what_can_be_known_early_is(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the corpus is touched, which may take minutes to tokenize."""
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda folder: full)
    monkeypatch.delattr(pretrain, "open_texts")
    assert "a checkpoint needs" in refused("pretrain", "small.yaml")


def test_an_empty_folder_of_the_users_stays(desk: Path) -> None:
    (desk / "empty").mkdir()
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        zoo.pretrain("small.yaml", "nowhere.txt", "empty")
    assert contents(desk / "empty") == {}


def test_what_a_killed_start_left_is_taken_over_and_a_users_tokenizer_is_not(desk: Path) -> None:
    recipe = zoo.recipe("small.yaml")
    for name in ("tokenizer.json", ".recipe.yaml.partial"):
        (desk / "folder" / name).touch()
    (desk / "folder" / "thesis.tex").unlink()
    with pytest.raises(UserError, match="not a run's"):
        run.choose_folder(recipe, "folder", resume=True)
    (desk / "folder" / ".lock").touch()
    assert run.choose_folder(recipe, "folder", resume=True) == Path("folder")


def test_a_second_run_in_the_folder_is_refused(desk: Path) -> None:
    with run.locked(desk / "run"):
        (desk / "run" / "recipe.yaml").touch()
        with pytest.raises(UserError, match="another process is training in"), run.locked(desk / "run"):
            pass
        assert (desk / "run" / ".lock").exists()


def test_the_lock_of_a_killed_process_is_free_at_once(desk: Path) -> None:
    hold = "import sys, time; from zoo.train.run import locked\nwith locked(__import__('pathlib').Path('run')):"
    hold += " open('run/recipe.yaml', 'w'); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training in"), run.locked(Path("run")):
            pass
        process.kill()
        process.wait()
        with run.locked(Path("run")):
            pass


def test_a_lock_that_was_taken_away_keeps_nobody_out(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder found the folder empty and removed it, after we opened the file and before we had the lock."""
    flock = run.fcntl.flock

    def late(file: Any, operation: int) -> None:
        (desk / "run" / ".lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(run.fcntl, "flock", late)
    with pytest.raises(UserError, match="another process"), run.locked(desk / "run"):
        pass


def test_a_disk_that_becomes_full_ends_the_run(desk: Path) -> None:
    with pytest.raises(RunFailed, match=r"No space left .* --resume continues"), run.locked(desk / "run"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(IsADirectoryError), run.locked(desk / "run"):
        desk.read_text()


def test_files_of_a_run_that_were_damaged(desk: Path) -> None:
    for text in ("", "[1]", "model: {"):
        (desk / "recipe.yaml").write_text(text)
        with pytest.raises(UserError, match=r"recipe\.yaml"):
            run.read_recipe(desk)
    for text in ("", "{"):
        (desk / "environment.json").write_text(text)
        with pytest.raises(UserError, match=r"environment\.json cannot be read"):
            run.read_environment(desk)
    (desk / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3, "spl')
    assert run.read_metrics(desk) == [{"step": 1}, {"step": 2}]


def test_how_a_run_began_cannot_change(desk: Path) -> None:
    began = {"updates": None, "seed": None, "minutes": 5.0, "init_from": None}
    run.write_environment(desk, given=began)
    assert run.given_again(desk, dict.fromkeys(began)) == began
    assert run.given_again(desk, {**began, "updates": 9}) == {**began, "updates": 9}  # continued() looks at that
    with pytest.raises(UserError, match=r"init_from \(was None, now 'x'\), minutes \(was 5.0, now 6.0\)"):
        run.given_again(desk, {**began, "minutes": 6.0, "init_from": "x"})


# --- checkpoints


def test_where_all_are_damaged_nothing_is_started_over(tmp_path: Path) -> None:
    for folder in written(tmp_path, 1, 2):
        (folder / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"all checkpoints of .* are damaged"):
        checkpoint.newest(tmp_path)


def test_a_damaged_checkpoint_is_not_loaded_by_its_own_name(tmp_path: Path) -> None:
    (folder,) = written(tmp_path, 1)
    assert checkpoint.damage(folder) is None
    (folder / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"is damaged \(state\.json"):
        open_saved(folder)


def test_a_full_disk_is_an_os_error_whatever_the_library_calls_it(tmp_path: Path, monkeypatch: Any) -> None:
    import safetensors.numpy

    def full(*given: Any) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, 1)


# --- signals


@pytest.mark.parametrize("number", CAUGHT)
def test_a_signal_while_the_corpus_is_read(desk: Path, number: int) -> None:
    with (desk / "zeros.txt").open("wb") as file:
        file.truncate(1 << 40)  # takes no room, and hours to hash
    before = {path.name for path in desk.iterdir()}
    command = [sys.executable, "-m", "zoo", "pretrain", "small.yaml", "--data", "zeros.txt", "--out", "new/run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 30
        while not (desk / "new" / "run" / ".lock").exists() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(number)
        told = process.communicate(timeout=30)[1]
    assert told == "zoo: interrupted\n"
    # Python ends itself by SIGINT where Ctrl-C fell into code that a library makes with exec; shells call that 130.
    assert process.returncode in (128 + number, -signal.SIGINT)
    assert {path.name for path in desk.iterdir()} == before


@pytest.mark.slow
def test_a_signal_does_not_wait_for_an_evaluation(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made up for on resume, so that the run is the same as one that was left alone."""
    whole = zoo.pretrain("small.yaml", "text.txt", "whole")
    handler, seen = signal.getsignal(signal.SIGTERM), []

    def interrupting(display: Display, rows: int, of: int) -> None:
        seen.append(rows)
        if seen.count(rows) == 2:  # the first rows of the second evaluation, which is the last
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "evaluating", interrupting)
        with pytest.raises(
            Interrupted,
            match=r"saved after update 4 of 4; to continue: zoo pretrain parts/recipe.yaml --out parts --resume",
        ):
            zoo.pretrain("small.yaml", "text.txt", "parts")
    assert len(set(seen)) > 2
    assert [line["step"] for line in run.read_metrics(desk / "parts") if line["split"] == "valid"] == [2]
    assert signal.getsignal(signal.SIGTERM) == handler
    parts = zoo.pretrain("small.yaml", "text.txt", "parts", resume=True)
    assert untimed(parts) == untimed(whole)
    assert parts.sample == whole.sample


def untimed(done: run.Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in done.history]


@pytest.mark.parametrize("raised, shown", [(KeyboardInterrupt, ""), (ImportError, "chatter")])
def test_what_tensorflow_says_at_its_start_is_shown_if_it_fails(
    capfd: pytest.CaptureFixture[str], raised: type[BaseException], shown: str
) -> None:
    def start_that_fails() -> None:
        with startup.stderr_held():
            os.write(2, b"chatter")
            raise raised

    with pytest.raises(raised):
        start_that_fails()
    assert capfd.readouterr().err == shown


# --- streams that are not there, settings of other programs


class Stream(NamedTuple):
    """How a shell was told to redirect, what the command must end with, and what it says."""

    redirected: str
    code: int
    told: str


@pytest.mark.parametrize(
    "given",
    [
        Stream("list >&-", 0, ""),
        Stream("show nope 2>&-", 2, ""),
        Stream("show nope 2>/dev/full", 2, ""),
        Stream("list >/dev/full", 1, "zoo: what was to be printed could not be written: No space left on device\n"),
    ],
    ids=lambda given: given.redirected,
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_streams_that_are_closed_or_full(given: Stream) -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m zoo {given.redirected}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (given.code, given.told)


def test_who_stops_watching_does_not_end_the_work() -> None:
    read, write = os.pipe()
    os.close(read)
    script = "from zoo.progress import say; say('one'); say('two'); print('done')"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.fixture
def half_precision() -> Iterator[Any]:
    start.start_backend()
    import keras

    keras.config.set_floatx("float16")
    yield keras.config
    keras.config.set_floatx("float32")


def test_the_users_float_type_does_not_matter(half_precision: Any) -> None:
    start.start_backend()
    assert half_precision.floatx() == "float32"


@pytest.mark.slow
def test_the_users_keras_does_not_matter(desk: Path) -> None:
    settings = {"backend": "torch", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 1e-3}
    (desk / "keras.json").write_text(json.dumps(settings))
    losses = []
    for out, environment in (("plain", {}), ("theirs", {"KERAS_HOME": str(desk), "KERAS_BACKEND": "jax"})):
        command = [sys.executable, "-m", "zoo", "pretrain", "small.yaml", "--data", "text.txt", "--out", out]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
        losses.append([line["loss"] for line in run.read_metrics(desk / out)])
    assert losses[0] == losses[1]


# --- Python


@pytest.mark.parametrize(
    "options, told",
    [
        ({"updates": "3"}, "--updates is '3'; it must be a whole number above 0"),
        ({"stop_at": 1.5}, "--stop-at is 1.5; it must be a whole number above 0"),
        ({"minutes": float("inf")}, "--minutes is inf; it must be a number above 0"),
        ({"minutes": float("nan")}, "--minutes is nan"),
        ({"seed": -1}, "train.seed is -1"),
    ],
)
def test_numbers_of_other_kinds(desk: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        zoo.pretrain("small.yaml", ["text"], "run", **options)
    assert not (desk / "run").exists()


@pytest.mark.parametrize(
    "arrays, told",
    [
        ({"token": [1, 2]}, r"token is int64 \[2\]; it must be integers \[rows, tokens\]"),
        ({"token": [[1.5]]}, r"token is float64 \[1, 1\]"),
        ({"token": [["a"]]}, "token is <U1"),
        ({"token": [[300]]}, "ids from 300 to 300; allowed: 0 to 256"),
        ({"token": [[0] * 17]}, "17 tokens a row are more than model.context 16"),
        ({"token": [[1, 2]], "doc": [[1]]}, r"doc has the shape \[1, 1\]; token has \[1, 2\]"),
        ({"token": [[1, 2]], "rank": [0, 1]}, r"rank has the shape \[2\]"),
    ],
)
def test_arrays_that_do_not_fit(desk: Path, arrays: dict[str, Any], told: str) -> None:
    learner: Any = SimpleNamespace(network=None, objective=SimpleNamespace(visibility="causal"))
    model = Loaded(zoo.recipe("small.yaml"), None, learner)  # pyright: ignore[reportArgumentType]
    assert model.stream(np.array([[1, 2]])).rank.tolist() == [[0, 1]]
    with pytest.raises(UserError, match=told):
        model.stream(**arrays)
