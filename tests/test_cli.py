"""The command line: what it prints where, how it refuses, its exit codes. In this process unless a process matters."""

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import zoo
import zoo.train.bench
import zoo.train.pretrain
from zoo import accounting, cli, doctor, registry
from zoo.corpus.prepare import prepare
from zoo.corpus.rows import plan
from zoo.corpus.sources import open_source
from zoo.errors import Interrupted, RunFailed, UserError
from zoo.home import home
from zoo.objective import Vocab
from zoo.registered import registered
from zoo.report.batch import as_text
from zoo.saved import is_folder
from zoo.train.feed import Feed
from zoo.train.run import Run
from zoo.train.start import make_objective

SMALL = """
model: {width: 16, layers: 1, heads: 2, context: 16}
tokenizer: {kind: bytes, size: 257}
objective: {name: causal}
train: {tokens_per_update: 32, updates: 2, learning_rate: 1e-3, precision: float32}
"""


def commands(group: Any, *before: str) -> list[str]:
    """The words of every command, those of groups too."""
    found = []
    for name, command in group.commands.items():
        words = (*before, name)
        found += commands(command, *words) if hasattr(command, "commands") else [" ".join(words)]
    return found


COMMANDS = commands(typer.main.get_command(cli.app))


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return str(file)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that must end with an exit code; returns its stdout and stderr."""

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        assert cli.run(list(arguments)) == code
        return capsys.readouterr()

    return run


@pytest.fixture
def refused(told: Any) -> Any:
    """Runs a command that must be refused in one line; returns the line."""

    def run(*arguments: str) -> str:
        out, err = told(*arguments, code=2)
        assert out == ""
        assert err.startswith("zoo: ")
        assert err.count("\n") == 1
        return err

    return run


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo", *arguments]
    return subprocess.run(command, **{"text": True, "capture_output": True, "timeout": 120, "check": False, **options})


# --- help


def test_help_names_every_command(told: Any) -> None:
    out, err = told("--help")
    assert err == ""
    assert told() == told("-h") == (out, err)
    for command in COMMANDS:
        assert f"\n  {command.split()[0]} " in out
    assert not any(line.endswith("...") for line in out.splitlines()[1:])  # every summary fits its line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(told: Any, command: str) -> None:
    out, _ = told(*command.split(), "--help")
    assert out.startswith(f"Usage: zoo {command}")
    if command not in ("list", "doctor", "checkpoints"):
        assert f"\n    zoo {command} " in out.partition("Example")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_the_help_can_be_typed(told: Any, command: str) -> None:
    """Their options exist, their values are taken, their recipes and checkpoints have these names."""
    group: Any = typer.main.get_command(cli.app)
    lines = [line.strip() for line in told(*command.split(), "--help")[0].splitlines()]
    lines = [line for line in lines if line.startswith("zoo ")]
    named: list[str | None] = []  # by an example before
    for line in lines:
        _, name, *arguments = shlex.split(line)
        with group.make_context("zoo", [name, "--help"], resilient_parsing=True) as context:
            found = group.get_command(context, name)
            if hasattr(found, "commands"):
                found, arguments = found.commands[arguments[0]], arguments[1:]
            parsed = found.make_context(name, arguments).params
        if "name" not in parsed and command == "data merge":
            continue  # it is of a folder
        if "runs" in parsed:
            assert command == "watch" or all(is_folder(str(place)) for place in parsed["runs"])
            continue
        if command == "compare":
            named += parsed["names"] or [parsed["base"]]
            assert all(is_folder(name) or name in registry.recipes() for name in named if name)
            continue
        if command == "curves" and (parsed["name"] is None or is_folder(parsed["name"])):
            continue
        if "checkpoint" in parsed or "place" in parsed:
            place = parsed.get("checkpoint") or parsed["place"]
            assert is_folder(place) or place.startswith("hf:") or place in {*registered(), *named, "my-gpt2"}
            named.append(parsed.get("name"))
        else:
            recipe = parsed.get("base") or parsed["name"]
            assert recipe in registry.recipes() or recipe.startswith("./")


def test_version(told: Any) -> None:
    assert told("--version") == (f"{zoo.__version__}\n", "")
    assert process("--version").stdout == f"{zoo.__version__}\n"


# --- list and show


def test_list_is_a_table_of_all_recipes(told: Any) -> None:
    out, err = told("list")
    head, *rows = out.splitlines()
    assert head.split() == ["NAME", "OBJECTIVE", "LAYERS", "x", "WIDTH", "CONTEXT", "PARAMETERS"]
    assert [row.split()[0] for row in rows] == registry.recipes()
    small = next(row for row in rows if row.startswith("gpt2-small "))
    assert small.split() == ["gpt2-small", "causal", "12", "x", "768", "1,024", "124,439,808"]
    assert any(row.split()[2:5] == ["6+6", "x", "512"] for row in rows)
    assert len({len(row) for row in rows}) == 1
    assert err == ""


def test_list_leaves_out_what_cannot_be_read(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.yaml").write_text("model: {widht: 3}")
    (tmp_path / "whole.yaml").write_text(SMALL)
    monkeypatch.setenv("ZOO_RECIPES", str(tmp_path))
    out, err = told("list")
    assert "\nwhole " in out
    assert "broken" not in out
    assert err.startswith("zoo: left out: broken.yaml: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", registry.recipes())
def test_what_show_prints_is_the_recipe(told: Any, name: str, tmp_path: Path) -> None:
    out, _ = told("show", name)
    file = tmp_path / f"{name}.yaml"
    file.write_text(out)
    again, recipe = registry.recipe(file), registry.recipe(name)
    assert again == recipe
    own = ["source_tokenizer"] if recipe.source_tokenizer is not None else []
    seen = ["evaluation"] if recipe.evaluation.model_dump(exclude_none=True) else []
    assert list(yaml.safe_load(out)) == ["model", "tokenizer", *own, "objective", "data", "train", *seen, "expect"]
    assert recipe.expect is not None
    assert f"# parameters: {recipe.expect.params:,}, as expected" in out


def test_show_obeys_set(told: Any) -> None:
    out, _ = told("show", "gpt2-nano", "--set", "model.layers=2", "--set", "train.adam.beta1=5e-1")
    shown = yaml.safe_load(out)
    assert (shown["model"]["layers"], shown["train"]["adam"]["beta1"]) == (2, 0.5)
    changed = registry.recipe("gpt2-nano", model={"layers": 2})
    assert changed.expect is not None
    assert f"# parameters: {accounting.params(changed):,}, not the {changed.expect.params:,} of: " in out


def test_show_takes_a_file(told: Any, small: str) -> None:
    out, _ = told("show", small)
    assert out.startswith("# small\n")
    assert "# parameters: 7,680\n" in out  # 257 x 16 + 16 x 16 + 12 x 16 x 16 + 13 x 16 + 2 x 16


def test_show_draws_who_sees_whom(told: Any, tmp_path: Path, small: str) -> None:
    file = tmp_path / "picture.png"
    out, _ = told("show", small, "--visibility", "--png", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    assert out.rstrip().endswith(f"# drawn in {file}")
    assert yaml.safe_load(out) == yaml.safe_load(told("show", small)[0])


def test_show_names_the_picture_for_the_recipe(
    told: Any, tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told("show", small, "--visibility")
    assert (tmp_path / "small-visibility.png").is_file()


# --- refusals


@pytest.mark.parametrize(
    "line, parts",
    [
        ("pretrian gpt2-nano", ["'pretrian'", "did you mean 'pretrain'?"]),
        ("frobnicate", ["'frobnicate'", "allowed: attention, batch, bench, checkpoints, compare, curves, data"]),
        ("--vresion", ["--vresion", "--version"]),
        ("show", ["NAME|FILE", "see zoo show --help"]),
        ("show gpt2-nanoo", ["'gpt2-nanoo'", "did you mean 'gpt2-nano'"]),
        ("show ./nowhere.yaml", ["'./nowhere.yaml'"]),
        ("show gpt2-nano bert-nano", ["bert-nano"]),
        ("show gpt2-nano --png x.png", ["'x.png'", "--visibility"]),
        ("show gpt2-nano --visibility --png /nowhere/x.png", ["'/nowhere/x.png'", "No such file or directory"]),
        ("show gpt2-nano --set model.heads=7", ["heads 7", "width 128", "nearest that does: 8"]),
        ("show gpt2-nano --set model.layers", ["--set", "model.layers", "train.updates=100"]),
        ("show gpt2-nano --set model.layer=3", ["'model.layer'", "did you mean 'layers'"]),
        ("show gpt2-nano --set modle.layers=3", ["'modle'", "did you mean 'model'"]),
        ("show gpt2-nano --set name=x", ["'name'"]),
        ("show gpt2-nano --set objective.name=cuasal", ["'cuasal'", "did you mean 'causal'?"]),
        ("show gpt2-nano --set model.layers=three", ["'three'", "valid integer"]),
        ("show gpt2-nano --sett model.layers=3", ["--sett", "--set"]),
        ("pretrain gpt2-nano --update 3", ["--update", "--updates"]),
        ("pretrain gpt2-nano --updates", ["--updates", "requires an argument"]),
        ("pretrain gpt2-nano --updates 0", ["--updates", "'0'", "1 or more"]),
        ("pretrain gpt2-nano --updates -3", ["--updates", "'-3'", "1 or more"]),
        ("pretrain gpt2-nano --updates 1.5", ["--updates", "'1.5'", "whole number"]),
        ("pretrain gpt2-nano --updates many", ["--updates", "'many'"]),
        ("pretrain gpt2-nano --stop-at 0", ["--stop-at", "'0'"]),
        ("pretrain gpt2-nano --minutes 0", ["--minutes", "'0'", "number"]),
        ("pretrain gpt2-nano --minutes inf", ["--minutes", "'inf'"]),
        ("pretrain gpt2-nano --minutes nan", ["--minutes", "'nan'"]),
        ("pretrain gpt2-nano --seed -1", ["--seed", "'-1'", "0 or more"]),
        ("pretrain gpt2-nano --minutes 3 --updates 5", ["--minutes 3", "--updates 5"]),
        ("pretrain gpt2-nanoo", ["'gpt2-nanoo'"]),
        ("batch gpt2-nano", ["--step"]),
        ("batch gpt2-nano --step 0", ["--step", "'0'", "1 or more"]),
        ("batch gpt2-nano --step 1 --rows 9", ["--rows 9", "8 rows"]),
        ("bench gpt2-nano --rows 0", ["--rows", "'0'"]),
        ("new mine", ["--from"]),
        ("new mine --from gpt2-nanoo", ["'gpt2-nanoo'", "did you mean 'gpt2-nano'"]),
        ("new gpt2-nano --from gpt2-small", ["'gpt2-nano'", "gpt2-nano.yaml"]),
        ("new a/b --from gpt2-small", ["'a/b'", "letters"]),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line(refused: Any, line: str, parts: list[str]) -> None:
    message = refused(*line.split())
    for part in parts:
        assert part in message


# --- pretrain


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Stands in for the training loop, and notes what it was asked."""
    asked: list[dict[str, Any]] = []
    signature = inspect.signature(zoo.train.pretrain.pretrain)
    lines = [
        {"step": 1, "split": "train", "loss": 5.0},
        {"step": 2, "split": "train", "loss": 4.0},
        {"step": 2, "split": "valid", "loss": 4.5},
    ]

    def noted(*arguments: Any, **options: Any) -> Run:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        asked.append(dict(bound.arguments))
        return Run(tmp_path / "run", lines)

    monkeypatch.setattr(zoo.train.pretrain, "pretrain", noted)
    return asked


def test_pretrain_needs_no_option(told: Any, trainer: list[dict[str, Any]], tmp_path: Path) -> None:
    out, _ = told("pretrain", "gpt2-nano")
    (asked,) = trainer
    assert asked.pop("recipe") == registry.recipe("gpt2-nano")
    assert asked.pop("resume") is False
    assert set(asked.values()) == {None}
    first, *rest = out.splitlines()
    assert first == f"run: {tmp_path / 'run'}"
    assert [line.partition(":")[0] for line in rest] == ["train after update 2", "valid after update 2"]
    assert "4.0" in rest[0]
    assert "4.5" in rest[1]


def test_pretrain_hands_on_every_option(told: Any, trainer: list[dict[str, Any]]) -> None:
    options = "--data texts --out there --updates 7 --stop-at 3 --seed 5 --set model.layers=2 --resume --init-from old"
    told("pretrain", "gpt2-nano", *options.split(), "--track", "wandb", "--track", "mlflow", "--engine", "jax")
    told("pretrain", "gpt2-nano", "--minutes", "2.5")
    first, second = trainer
    assert first == {
        "recipe": registry.recipe("gpt2-nano", model={"layers": 2}),
        "data": "texts",
        "out": Path("there"),
        "updates": 7,
        "seed": 5,
        "resume": True,
        "init_from": "old",
        "stop_at": 3,
        "minutes": None,
        "track": ["wandb", "mlflow"],
        "engine": "jax",
    }
    assert second["minutes"] == 2.5


@pytest.mark.parametrize(
    "raised, code, last",
    [
        (RunFailed("the loss is not\nfinite"), 1, "zoo: the loss is not finite\n"),
        (UserError("no such text"), 2, "zoo: no such text\n"),
        (Interrupted(signal.SIGTERM), 143, "zoo: interrupted\n"),
        (Interrupted(signal.SIGINT, "saved"), 130, "zoo: saved\n"),
        (KeyboardInterrupt(), 130, "zoo: interrupted\n"),
    ],
)
def test_exit_codes(told: Any, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, last: str) -> None:
    def fails(*arguments: Any, **options: Any) -> Run:
        raise raised

    monkeypatch.setattr(zoo.train.pretrain, "pretrain", fails)
    assert told("pretrain", "gpt2-nano", code=code) == ("", last)


def test_a_fault_of_the_zoo_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **options: Any) -> Run:
        raise ZeroDivisionError

    monkeypatch.setattr(zoo.train.pretrain, "pretrain", fails)
    with pytest.raises(ZeroDivisionError):
        cli.run(["pretrain", "gpt2-nano"])


# --- new


@pytest.mark.parametrize("base", ["gpt2-small", "bert-nano"])
def test_new_writes_a_recipe_that_is_its_base(told: Any, tmp_path: Path, base: str) -> None:
    out, err = told("new", "my-own", "--from", base, "--out", str(tmp_path / "deep" / "folder"))
    file = tmp_path / "deep" / "folder" / "my-own.yaml"
    assert (out, err) == (f"{file}\n", f"edit it, then: zoo pretrain {file}\n")
    made, begun = registry.recipe(file), registry.recipe(base)
    assert made.expect is None
    assert made == begun.model_copy(update={"name": "my-own", "expect": None})
    parent = registry.read_sections(registry.find(base)).get("extends", base)
    assert registry.read_sections(file)["extends"] == parent


@pytest.mark.parametrize("base", ["gpt2-small", "bert-nano"])
def test_hints_in_a_new_recipe_can_be_used(told: Any, tmp_path: Path, base: str) -> None:
    told("new", "my-own", "--from", base, "--out", str(tmp_path))
    file = tmp_path / "my-own.yaml"
    text, made = file.read_text(), registry.recipe(file)
    for section in ("model", "data", "train"):
        text = text.replace(f"# {section}: ", f"{section}: ")
    assert (text != file.read_text()) == (base == "gpt2-small")
    file.write_text(text)
    assert registry.recipe(file) == made


def test_new_from_a_file_elsewhere_stands_alone(told: Any, tmp_path: Path, small: str) -> None:
    told("new", "mine", "--from", small, "--out", str(tmp_path / "elsewhere"))
    file = tmp_path / "elsewhere" / "mine.yaml"
    assert "extends" not in registry.read_sections(file)
    assert registry.recipe(file) == registry.recipe(small).model_copy(update={"name": "mine"})


def test_new_from_a_file_beside_it_extends_it(told: Any, tmp_path: Path, small: str) -> None:
    told("new", "mine", "--from", small, "--out", str(tmp_path))
    assert registry.read_sections(tmp_path / "mine.yaml") == {"extends": "small"}


def test_new_overwrites_nothing(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    assert "mine.yaml' cannot be written: File exists" in refused(
        "new", "mine", "--from", "gpt2-small", "--out", str(tmp_path)
    )
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    assert "cannot be written" in refused("new", "mine", "--from", "gpt2-small", "--out", str(tmp_path / "mine.yaml"))


# --- the cache's home


def test_home_is_where_zoo_home_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "a" / "b"))
    assert home() == tmp_path / "a" / "b"
    assert home().is_dir()
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "zoo"


def test_a_home_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("ZOO_HOME", str(bad))
        with pytest.raises(UserError, match=f"^ZOO_HOME {bad} cannot be written .*; set ZOO_HOME to a folder"):
            home()


# --- processes


def test_a_reader_that_leaves_is_no_fault() -> None:
    """`zoo list | head -1`: the pipe's other end is closed before the first byte."""
    for command in (["list"], ["show", "gpt2-small"], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        done = process(*command, stdout=write, stderr=subprocess.PIPE, capture_output=False)
        os.close(write)
        assert done.stderr == ""
        assert done.returncode == 128 + signal.SIGPIPE


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "signs.yaml"
    file.write_text(SMALL.replace("size: 257", "size: 257, specials: {eod: ⟂}"), encoding="utf-8")
    done = process("show", str(file), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "\\u27c2" in done.stdout


def test_a_refusal_of_a_process_is_one_line() -> None:
    done = process("pretrain", "gpt2-nanoo")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "zoo: there is no recipe 'gpt2-nanoo'; did you mean 'gpt2-nano' or 'gpt2-char' or 'bert-nano'?\n"
    )


# --- doctor


def test_doctor_names_a_home_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    ((state, found),) = doctor._home()
    assert state == doctor.BAD
    assert "ZOO_HOME" in found


def test_doctor_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, told: Any) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("numpy", "no-such-library"))
    out, _ = told("doctor", code=1)
    assert "BAD   not installed: no-such-library" in out


@pytest.mark.slow
def test_doctor_finds_this_machine_well(tmp_path: Path) -> None:
    done = process("doctor", env={**os.environ, "ZOO_HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("Python 3.", "tensorflow 2.", "Keras runs on tensorflow", "bfloat16 matrix products: ", str(tmp_path)):
        assert part in done.stdout
    for setting in ("precision", "compile"):
        assert f"train.{setting}: auto is " in done.stdout
    assert "BAD" not in done.stdout


# --- batch, pretrain and bench on real text


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"The {n}th cat sat on the mat and slept until the dog came home." for n in range(40)))
    return str(file)


def test_batch_shows_what_training_reads(told: Any, small: str, text: str, zoo_home: Path) -> None:
    out, _ = told("batch", small, "--step", "3", "--rows", "2", "--data", text, "--set", "train.seed=7")
    recipe = registry.recipe(small, train={"seed": 7})
    corpus = prepare(open_source(text, recipe.data), recipe.tokenizer, recipe.data, home=zoo_home)
    tokenizer, rows = corpus.tokenizer, recipe.rows_per_update
    objective = make_objective(recipe, Vocab(recipe.tokenizer.size, tokenizer.size, tokenizer.special))
    shape: dict[str, Any] = {"row_tokens": recipe.row_tokens, "extra": objective.extra_tokens, "rows_per_update": rows}
    planned = plan(corpus.train, recipe.data, **shape, special=tokenizer.special, seed=7)
    trained = Feed(objective, planned, rows, rows, seed=7).update(2).batches[0]
    for row, block in enumerate(out.rstrip("\n").split("\n\n")):
        title, *lines = block.splitlines()
        assert title == f"small, update 3, row {row} of {rows} (· is a space)"
        assert lines == list(as_text(objective, trained, row, tokenizer.tokens))
    assert out.count("\n\n") == 1


@pytest.mark.parametrize("data", ["/nowhere/text.txt", "/nowhere/*.txt", "hf:"])
def test_batch_refuses_text_that_is_not_there(refused: Any, small: str, data: str) -> None:
    assert repr(data)[1:-1] in refused("batch", small, "--step", "1", "--data", data)


@pytest.mark.parametrize(
    "module", ["train.pretrain", "train.bench", "use.loaded", "report.batch", "doctor", "kernels.startup"]
)
def test_the_backend_is_chosen_before_keras_is_imported(module: str) -> None:
    """Else a user's KERAS_BACKEND or keras.json would decide."""
    code = f"import sys, zoo.{module}; sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("asked", [None, "0"])
def test_onednn_is_on_where_the_processor_has_avx2_and_nobody_says_no(asked: str | None) -> None:
    from zoo.train.start import cpu_flags

    others = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    code = "import os; from zoo.train.start import use_backend as use; use(); print(os.getenv('TF_ENABLE_ONEDNN_OPTS'))"
    environment = others if asked is None else {**others, "TF_ENABLE_ONEDNN_OPTS": asked}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(asked or ("1" if "avx2" in cpu_flags() else None))


@pytest.mark.slow
def test_pretrain_from_end_to_end(small: str, text: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    first = process(
        *("pretrain", small, "--data", text, "--out", out, "--stop-at", "1"), env={**os.environ, "KERAS_BACKEND": "jax"}
    )
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, f"run: {out}")
    again = process("pretrain", small, "--data", text, "--out", out)
    assert (again.returncode, again.stdout) == (2, "")
    assert "--resume" in again.stderr.splitlines()[-1]
    resumed = process("pretrain", small, "--data", text, "--out", out, "--resume")
    assert resumed.returncode == 0
    assert [line.partition(":")[0] for line in resumed.stdout.splitlines()[:3]] == [
        "run",
        "train after update 2",
        "valid after update 2",
    ]


@pytest.mark.slow
def test_bench_prints_numbers_others_read(small: str) -> None:
    keys = {"tokens_per_second", "mfu", "peak_rss_bytes", "update_seconds", "seconds_to_finish", "largest_rows"}
    done = process(
        "bench", small, "--rows", "3", "--context", "8", "--json", env={**os.environ, "KERAS_BACKEND": "jax"}
    )
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert keys <= found.keys()
    assert (found["rows"], found["context"]) == (3, 8)
    assert all(found[key] > 0 for key in keys)
    assert f"{found['recipe']}: 3 rows x 8 tokens" in done.stderr
    assert "at this rate" in done.stderr


def test_bench_prints_a_line_a_number(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return {"tokens_per_second": 1234.5678, "mfu": 0.25, "peak_rss_bytes": 123456789}

    monkeypatch.setattr(zoo.train.bench, "bench", measured)
    out, _ = told("bench", "gpt2-nano", "--rows", "3", "--set", "model.layers=2")
    assert out == "tokens_per_second 1235\nmfu 0.25\npeak_rss_bytes 123456789\n"
    assert asked == [(registry.recipe("gpt2-nano", model={"layers": 2}), 3, None)]
    assert json.loads(told("bench", "gpt2-nano", "--json")[0]) == measured()
