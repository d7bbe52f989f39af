"""A run's folder: what it holds, who may write to it, and what resuming it allows."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from zoo.errors import UserError
from zoo.registry import read_yaml
from zoo.schema import Recipe, checked

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

RECIPE, ENVIRONMENT, TOKENIZER = "recipe.yaml", "environment.json", "tokenizer.json"
METRICS, SAMPLE = "metrics.jsonl", "sample.txt"
LIBRARIES = ("tensorflow", "keras", "numpy", "tokenizers", "datasets", "safetensors")


class Run(NamedTuple):
    """What `zoo.pretrain` returns."""

    folder: Path
    history: list[dict[str, Any]]  # the lines of metrics.jsonl

    @property
    def sample(self) -> str | None:
        """What the trained model wrote or filled in; None before the schedule's end."""
        file = self.folder / SAMPLE
        return file.read_text(encoding="utf-8") if file.exists() else None

    def load(self) -> "Loaded":
        """The trained model, numpy in and numpy out."""
        from zoo.use.loaded import load

        return load(self.folder)


def choose_folder(recipe: Recipe, out: str | Path | None, resume: bool) -> Path:
    """`out`, or runs/<recipe>-<n>: the newest one to resume, else the next free one."""
    if out is not None:
        folder = Path(out)
    else:
        taken = {}
        for path in Path("runs").glob(f"{recipe.name}-*"):
            number = path.name.removeprefix(f"{recipe.name}-")
            if number.isdigit():
                taken[int(number)] = path
        newest = max(taken, default=0)
        folder = taken[newest] if resume and taken else Path("runs") / f"{recipe.name}-{newest + 1}"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {str(folder)!r} is a file; it must be a folder, or not exist yet")
    if (folder / RECIPE).is_file() and not resume:
        raise UserError(f"{str(folder)!r} already holds a run; --resume continues it, another --out starts a new one")
    # The recipe is written last: a start that was killed before it may have left the others.
    beginnings = {".lock", TOKENIZER, ENVIRONMENT}
    if folder.is_dir() and not (folder / RECIPE).exists() and {p.name for p in folder.iterdir()} - beginnings:
        raise UserError(f"--out {str(folder)!r} holds files that are not a run's; give a new or an empty folder")
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it while the run lasts; an empty one is taken away again."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"--out {str(folder)!r} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process is training in {str(folder)!r}; wait for it or give another --out"
            ) from None
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [".lock"]:
                shutil.rmtree(folder)


def check_space(folder: Path, params: int) -> None:
    """Refuses a disk that could not take the first checkpoint: three float32 a weight."""
    needed, free = 12 * params + 2**20, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"a checkpoint needs {needed / 1e6:.0f} MB and {str(folder)!r} has {free / 1e6:.0f} MB free;"
            " give an --out on another disk"
        )


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """recipe.yaml: resolved, so that the run can be repeated from it alone."""
    _write(folder / RECIPE, to_yaml(recipe))


def to_yaml(recipe: Recipe) -> str:
    """A recipe as YAML that `zoo.recipe` reads back."""
    values = recipe.model_dump(exclude={"name"}, exclude_none=True)
    return f"# {recipe.name}\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run."""
    file = folder / RECIPE
    if not file.is_file():
        raise UserError(f"{str(folder)!r} holds no run ({RECIPE} is missing)")
    text = file.read_text(encoding="utf-8")
    name = text.partition("\n")[0].removeprefix("# ")
    return checked(Recipe, {**read_yaml(text, str(file)), "name": name}, str(file))


def write_environment(folder: Path, **facts: Any) -> None:
    """environment.json: versions, commit, device, the corpus' fingerprint, and what the caller adds."""
    from zoo import __version__

    versions = {"zoo": __version__, "python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    known = {"versions": versions, "commit": _commit(), "platform": platform.platform(), "command": sys.argv}
    _write(folder / ENVIRONMENT, json.dumps({**known, **facts}, indent=1))


def read_environment(folder: Path) -> dict[str, Any]:
    """The contents of environment.json."""
    return json.loads((folder / ENVIRONMENT).read_text())


def differences(stored: dict[str, Any], given: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, with both values."""
    found = []
    for key in sorted(stored.keys() | given.keys()):
        old, new, path = stored.get(key), given.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{path}.")
        elif old != new:
            found.append(f"{path} (was {old!r}, now {new!r})")
    return found


def continued(folder: Path, asked: Recipe, given: dict[str, Any], fingerprint: str) -> Recipe:
    """The stored recipe, after a check that what is asked now is what was asked then."""
    stored = read_recipe(folder)
    if read_environment(folder)["corpus_fingerprint"] != fingerprint:
        raise UserError(
            f"{str(folder)!r} was started on another corpus ({stored.data.corpus}); --resume needs the same"
        )
    kept: dict[str, Any] = {}
    for key in ("precision", "micro_rows"):  # settled on the machine that started the run
        if getattr(asked.train, key) in ("auto", None):
            kept[key] = getattr(stored.train, key)
    if given["minutes"] is not None:
        kept |= {"updates": stored.train.updates, "warmup_updates": stored.train.warmup_updates}
    asked = asked.with_changes(train=kept, data={"corpus": stored.data.corpus})
    if differing := differences(stored.model_dump(exclude={"name"}), asked.model_dump(exclude={"name"})):
        raise UserError(f"--resume cannot change the settings of {str(folder)!r}: {', '.join(differing)}")
    return stored


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none where the file does not exist yet."""
    file = folder / METRICS
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def cut_metrics(folder: Path, step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step`, which the resumed run writes again; returns those kept."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    _write(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def _write(file: Path, text: str) -> None:
    """Replaces a file as a whole: readers see the old text or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def _commit() -> str | None:
    """The git commit of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
