"""A run's folder: what it holds, who may write to it, and what resuming it allows."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from zoo.corpus.remote import is_address
from zoo.disk import make_folder, write_whole
from zoo.errors import RunFailed, UserError, some
from zoo.registry import read_sections
from zoo.schema import Recipe, checked

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
TOKENIZERS = {"tokenizer": "tokenizer.json", "source_tokenizer": "source_tokenizer.json"}  # by their sections
METRICS, SAMPLE = "metrics.jsonl", "sample.txt"
LOCK = ".lock"
CODE = Path(__file__).parent.parent
MEMORY = "memory"  # stands for a corpus that was given as texts or as a DataFrame
LIBRARIES = ("tensorflow", "jax", "keras", "numpy", "tokenizers", "datasets", "safetensors")


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


def numbered(stem: str) -> dict[int, Path]:
    """The folders runs/STEM-1, -2, ... that are there, by their numbers."""
    found = {path.name.removeprefix(f"{stem}-"): path for path in Path("runs").glob(f"{stem}-*")}
    return {int(number): path for number, path in found.items() if number.isdecimal()}


def choose_folder(recipe: Recipe, out: str | Path | None, resume: bool) -> Path:
    """`out`, or runs/<recipe>-<n>: the newest one to resume, else the next free one."""
    if out is not None:
        folder = Path(out)
    else:
        taken = numbered(recipe.name)
        newest = max(taken, default=0)
        folder = taken[newest] if resume and taken else Path("runs") / f"{recipe.name}-{newest + 1}"
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return folder
    except OSError as error:
        raise UserError(f"--out {str(folder)!r} cannot be a run's folder: {error.strerror}") from None
    if RECIPE in names and not resume:
        raise UserError(f"{str(folder)!r} already holds a run; --resume continues it, another --out starts a new one")
    # The recipe is written last: a start that was killed before it may have left the others, or one half written.
    begun = LOCK in names and {name for name in names if name[0] != "."} <= {*TOKENIZERS.values(), ENVIRONMENT}
    if names and RECIPE not in names and not begun:
        raise UserError(f"--out {str(folder)!r} holds files that are not a run's; give a new or an empty folder")
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it; takes away what was made if nothing was written to it.

    Raises:
        UserError: it cannot be written, or another process holds it. RunFailed: the disk became full.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        make_folder(folder)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        _take_away(made)
        raise UserError(f"--out {str(folder)!r} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = os.fstat(lock.fileno()).st_nlink == 0  # who held it took it away, and nobody else is kept out by it
        except OSError:
            gone = True
        if gone:
            raise UserError(f"another process is training in {str(folder)!r}; wait for it or give another --out")
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RunFailed(f"{str(folder)!r}: {error.strerror}; with more room --resume continues the run") from None
        finally:
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                _take_away(made)


def _take_away(made: list[Path]) -> None:
    """Removes folders from the innermost outwards, up to one that holds something by now."""
    with suppress(OSError):
        for path in filter(os.path.exists, made):
            path.rmdir()


def check_space(folder: Path, needed: int) -> None:
    """Refuses a disk that could not take the first checkpoint, of so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"a checkpoint needs {needed / 1e6:.0f} MB and {str(folder)!r} has {free / 1e6:.0f} MB free;"
            " make room, or give an --out on another disk"
        )


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """recipe.yaml: resolved, so that the run can be repeated from it alone."""
    write_whole(folder / RECIPE, to_yaml(recipe))


def to_yaml(recipe: Recipe) -> str:
    """A recipe as YAML that `zoo.recipe` reads back."""
    sections = recipe.model_dump(exclude={"name"}, exclude_none=True)
    values = {name: section for name, section in sections.items() if section}
    return f"# {recipe.name}\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run."""
    file = folder / RECIPE
    if not file.is_file():
        raise UserError(f"{str(folder)!r} holds no run ({RECIPE} is missing)")
    values = read_sections(file)
    name = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return checked(Recipe, {**values, "name": name}, str(file))


def write_environment(folder: Path, **facts: Any) -> None:
    """environment.json: versions, commit, device, the corpus' fingerprint, and what the caller adds."""
    from zoo import __version__

    versions = {"zoo": __version__, "python": platform.python_version()} | _versions()
    known = {"versions": versions, "commit": _commit(), "platform": platform.platform(), "command": sys.argv}
    write_whole(folder / ENVIRONMENT, json.dumps({**known, **facts}, indent=1))


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # one of the engines
            found[name] = version(name)
    return found


def read_environment(folder: Path) -> dict[str, Any]:
    """The contents of environment.json."""
    file = folder / ENVIRONMENT
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); without it this run cannot be continued") from None


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


def asked(recipe: Recipe, given: dict[str, Any], data: Any) -> Recipe:
    """The recipe with what was given beside it; its files are absolute, so that it can be repeated from any folder."""
    train = {key: given[key] for key in ("updates", "seed") if given[key] is not None}
    if data is None:
        corpus = recipe.data.corpus
        corpus = corpus if corpus == MEMORY else _absolute(corpus)
    else:
        corpus = _absolute(str(data)) if isinstance(data, str | Path) else MEMORY
    texts = {"corpus": corpus, "valid": _absolute(recipe.data.valid)}
    return recipe.with_changes(train=train, data=texts, tokenizer={"file": _absolute(recipe.tokenizer.file)})


def _absolute(place: str | None) -> str | None:
    """The same place from any folder; names stay names."""
    if not place or place == "sotu" or place.startswith("hf:") or is_address(place):
        return place
    return str(Path(place).expanduser().absolute())


def facts(asked: Recipe, fingerprint: str, **given: Any) -> dict[str, Any]:
    """What must be equal wherever a run is trained: what was asked for, places aside, the corpus and the code."""
    from zoo import __version__

    sections = asked.model_dump(mode="json")
    for section, key in (("data", "corpus"), ("data", "valid"), ("data", "test"), ("tokenizer", "file")):
        sections[section].pop(key, None)
    digest = hashlib.sha256()
    for file in sorted(CODE.rglob("*.py")):
        digest.update(file.read_bytes())
    versions = _versions()
    code = f"zoo {__version__}, {digest.hexdigest()[:12]}"
    return {"recipe": sections, **given, "corpus": fingerprint, "code": code, "versions": versions}


def corpus_of(recipe: Recipe) -> str:
    """What the recipe reads. UserError where a run read what only its process had."""
    if recipe.data.corpus == MEMORY:
        raise UserError("the corpus of this recipe was in the memory of a Python process; give its texts again there")
    return recipe.data.corpus


def continuing(folder: Path, recipe: Recipe, stop_at: int | None) -> str:
    """The command that continues a run, for a shell in this folder; for Python where the corpus came from there."""
    file = folder / RECIPE
    if recipe.data.corpus == MEMORY:
        more = "" if stop_at is None else f", stop_at={stop_at}"
        return f"zoo.pretrain({str(file)!r}, the same texts, {str(folder)!r}, resume=True{more})"
    words = ["zoo", "pretrain", str(file), "--out", str(folder), "--resume"]
    return shlex.join(words if stop_at is None else [*words, "--stop-at", str(stop_at)])


def given_again(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What was given at the start, under what is given now; how the run began cannot be changed."""
    before = read_environment(folder)["given"]
    again = {key: value for key, value in given.items() if value is not None}
    beginning = {key: again[key] for key in ("minutes", "init_from") if key in again}
    _refuse(folder, differences({key: before[key] for key in beginning}, beginning))
    return {**before, **again}


def continued(folder: Path, asked: Recipe, given: dict[str, Any], fingerprint: str) -> Recipe:
    """The stored recipe, after a check that what is asked now is what was asked then."""
    stored = read_recipe(folder)
    if read_environment(folder)["corpus_fingerprint"] != fingerprint:
        raise UserError(
            f"{str(folder)!r} was started on another corpus ({stored.data.corpus}); --resume needs the same"
        )
    kept: dict[str, Any] = {}
    for key in ("precision", "compile", "micro_rows"):  # settled on the machine that started the run
        if getattr(asked.train, key) in ("auto", None):
            kept[key] = getattr(stored.train, key)
    if given["minutes"] is not None and given["updates"] is None:
        kept |= {"updates": stored.train.updates, "warmup_updates": stored.train.warmup_updates}
    changes: dict[str, Any] = {"train": kept, "data": {"corpus": stored.data.corpus}}
    if given["init_from"] is not None:  # then the special tokens are the other model's
        changes["tokenizer"] = {"specials": stored.tokenizer.specials}
    asked = asked.with_changes(**changes)
    _refuse(
        folder, differences(stored.model_dump(exclude={"name", "mesh"}), asked.model_dump(exclude={"name", "mesh"}))
    )
    return stored.model_copy(update={"mesh": asked.mesh})  # the devices may be others


def _refuse(folder: Path, differing: list[str]) -> None:
    if differing:
        raise UserError(f"--resume cannot change the settings of {str(folder)!r}: {some(differing, 4)}")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without one that was cut off when the machine went down."""
    lines = []
    try:
        text = (folder / METRICS).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def cut_metrics(folder: Path, step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step`, which the resumed run writes again; returns those kept."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    write_whole(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def _commit() -> str | None:
    """The git commit of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
