"""scripts/zoo and scripts/test make their environment once, repair it, and say so in one line where they cannot.

pip and venv are played by a few lines of shell, so that nothing is installed; .ci/run is the test with the real ones.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[1]

# `-m venv --clear DIR` makes an environment whose python is PIP below; all else is done by the real Python.
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {real} "$@"
echo venv >>"{log}"
rm -rf "$4" && mkdir -p "$4/bin" && cp "{pip}" "$4/bin/python"
"""
PIP = """#!/bin/bash
if [ "$2" = pytest ]; then printf '%s|' "$PWD" "$@"; exit; fi
echo "pip $PIP_CONSTRAINT ${@: -1}" >>"LOG"
echo "Collecting everything"
echo $$ >"LOG.pid"
sleep "${PIP_SECONDS:-0}" >/dev/null 2>&1 9>&-
[ -z "${PIP_FAILS:-}" ] || { echo "ERROR: no route to host" >&2; exit 1; }
printf '#!/bin/sh\\nprintf "%%s|" "$PWD" "$@"; exit 7\\n' >"${0%/*}/zoo" && chmod +x "${0%/*}/zoo"
"""


class Place:
    """A checkout whose path holds a space, with a Python that logs what it is asked to install."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.log = folder / "log"
        self.log.touch()
        shutil.copytree(CHECKOUT / "scripts", self.root / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(CHECKOUT / name, self.root / name)
        pip = self.program(folder / "pip", PIP.replace("LOG", str(self.log)))
        self.python = self.program(folder / "python", PYTHON.format(real=sys.executable, log=self.log, pip=pip))
        self.env = {**os.environ, "PYTHON": str(self.python)}

    @staticmethod
    def program(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, *words: str, script: str = "zoo", **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(self.root / "scripts" / script), *words],
            cwd=self.log.parent,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, script: str = "zoo", **env: str) -> tuple[int, str, str]:
        process = self.start(*words, script=script, **env)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    @property
    def done(self) -> list[str]:
        """What was made and installed so far, in order."""
        return [line.split()[0] for line in self.log.read_text().splitlines()]

    @property
    def ready(self) -> tuple[int, str]:
        """The exit status and output of `zoo list` where the environment stands."""
        return 7, f"{self.log.parent}|list|"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_makes_the_environment_once(place: Place) -> None:
    status, out, err = place.call("show", "two words", "")
    assert (status, out) == (7, f"{place.log.parent}|show|two words||")  # the caller's folder, words and status
    assert "takes a few minutes" in err
    assert place.log.read_text() == "venv\npip constraints.txt .[dev]\n"
    assert place.call("list") == (*place.ready, "")
    status, out, err = place.call("-m", "not slow", script="test")
    assert (status, out, err) == (0, f"{place.root}|-m|pytest|-n|2|-m|not slow|", "")
    assert place.done == ["venv", "pip"]


def test_is_found_through_a_link(place: Place) -> None:
    link = place.log.parent / "linked"
    link.symlink_to(place.root / "scripts" / "zoo")
    done = subprocess.run([link, "list"], env=place.env, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "/|list|")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_follows_what_it_was_made_from(place: Place, name: str) -> None:
    place.call("list")
    with (place.root / name).open("a") as file:
        file.write("# another line\n")
    assert place.call("list")[:2] == place.ready
    assert place.call("list") == (*place.ready, "")
    assert place.done == ["venv", "pip", "pip"]


def test_a_moved_checkout_is_made_afresh(place: Place) -> None:
    place.call("list")
    place.root = place.root.rename(place.root.with_name("moved"))
    assert place.call("list")[:2] == place.ready
    assert place.done == ["venv", "pip", "venv", "pip"]


def test_a_failed_update_is_made_afresh(place: Place) -> None:
    place.call("list")
    with (place.root / "constraints.txt").open("a") as file:
        file.write("# another line\n")
    assert place.call("list", PIP_FAILS="1")[0] == 1
    assert place.call("list")[:2] == place.ready
    assert place.done == ["venv", "pip", "pip", "venv", "pip"]


def test_says_why_installing_failed(place: Place) -> None:
    status, out, err = place.call("list", PIP_FAILS="1")
    assert (status, out) == (1, "")
    assert "no route to host" in err
    assert "install.log" in err


def test_a_killed_install_is_repaired(place: Place) -> None:
    pid = Path(f"{place.log}.pid")
    with place.start("list", PIP_SECONDS="20") as first:
        until(lambda: pid.is_file() and pid.read_text().endswith("\n"))
        pip = int(pid.read_text())
        first.kill()
    # Its pip is still at work, so the next one waits: it must not install into the same folder.
    with place.start("list") as second:
        assert second.stderr is not None
        assert "waiting" in second.stderr.readline()
        assert place.done == ["venv", "pip"]
        os.kill(pip, signal.SIGKILL)
        assert second.communicate(timeout=30)[0] == place.ready[1]
    assert place.done == ["venv", "pip", "venv", "pip"]


def test_two_at_once_install_once(place: Place) -> None:
    first, second = place.start("list", PIP_SECONDS="1"), place.start("list", PIP_SECONDS="1")
    errors = [first.communicate(timeout=30)[1], second.communicate(timeout=30)[1]]
    assert sum("waiting" in error for error in errors) == 1
    assert (first.returncode, second.returncode) == (7, 7)
    assert place.done == ["venv", "pip"]


def test_output_ends_with_the_command(place: Place) -> None:
    """Nothing left in the background keeps a pipe open."""
    started = time.monotonic()
    place.call("list")
    assert time.monotonic() - started < 10  # the progress line comes every 15 s


@pytest.mark.parametrize(
    "text, why",
    [
        ("exit 127", "does not run"),
        ("echo Python 3.10", "is Python 3.10"),
        ("echo Python 3.14", "is Python 3.14"),
        ('case "$2" in *version*) echo Python 3.12;; *) exit 1;; esac', "Python 3.12 without its venv module"),
        (None, "not found"),
    ],
)
def test_an_unfit_python_is_named_in_one_line(place: Place, text: str | None, why: str) -> None:
    if text:
        place.program(place.python, f"#!/bin/sh\n{text}\n")
    else:
        place.python.unlink()
    status, out, err = place.call("list")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{place.python} ({why})" in err
    assert "apt install" in err
    assert not (place.root / ".venv").exists()


def test_a_broken_python_is_passed_over(place: Place) -> None:
    """As with pyenv, whose python3.12 exists and fails where that version is not switched on."""
    programs = place.log.parent / "bin"
    programs.mkdir()
    for name in ("python3", "python3.12", "python3.13"):
        place.program(programs / name, "#!/bin/sh\nexit 127\n")
    (programs / "python3.11").symlink_to(place.python)
    status, out, _ = place.call("list", PYTHON="", PATH=f"{programs}:{os.environ['PATH']}")
    assert (status, out) == place.ready


def test_a_checkout_that_cannot_be_written(place: Place) -> None:
    (place.root / ".venv.lock").mkdir()  # permissions do not stop the superuser
    status, _, err = place.call("list")
    assert status == 2
    assert err == f"zoo: cannot write in {place.root}, where .venv belongs\n"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_everything_installed_is_pinned() -> None:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = "dev,parity" if find_spec("torch") else "dev"
    wanted, seen = [Requirement(f"objective-zoo[{extras}]")], set()
    while wanted:
        package = wanted.pop()
        name = canonicalize_name(package.name)
        if (name, *package.extras) in seen:
            continue
        seen.add((name, *package.extras))
        found = metadata.distribution(name)
        version = found.version.partition("+")[0]  # torch's says which accelerator it is for
        assert name == "objective-zoo" or pins.get(name) == version, f"{name} {found.version} is installed"
        for below in map(Requirement, found.requires or []):
            if any(not below.marker or below.marker.evaluate({"extra": extra}) for extra in ("", *package.extras)):
                wanted.append(below)
    assert len(seen) > 50
