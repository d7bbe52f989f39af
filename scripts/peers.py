"""What the benchmarks share: the peers' environment, runs in turns, and the document that the tables go into."""

import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
PACKAGES = ("torch", "transformers", "datasets", "keras-hub", "tensorflow")  # their versions: constraints.txt
DOCUMENT = ROOT / "docs/performance.md"
Numbers = dict[str, float]


def peer_python() -> Path:
    """The Python of the peers' environment, which is made where it is missing, and again where it lacks a package."""
    ready, wanted = PEERS / "ready", " ".join(PACKAGES)
    if not ready.exists() or ready.read_text() != wanted:
        print("making .venv-peers ...", file=sys.stderr)
        venv.create(PEERS, with_pip=True)
        pip = [PEERS / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        subprocess.run([*pip, *PACKAGES], check=True)
        ready.write_text(wanted)
    return PEERS / "bin/python"


def run(command: list[str]) -> Numbers:
    """The JSON that a command prints on its last line; its progress is seen."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(commands: Mapping[str, list[str]], turns: int) -> dict[str, Numbers]:
    """Runs all commands one after another, so many times; the medians of what each prints.

    Every second turn goes backwards, so that a machine that slows down does not favour those that come first.
    """
    found: dict[str, list[Numbers]] = {name: [] for name in commands}
    for turn in range(turns):
        for name, command in list(commands.items())[:: -1 if turn % 2 else 1]:
            found[name].append(run(command))
            print(f"turn {turn + 1}: {name}: {json.dumps(found[name][-1])}", file=sys.stderr, flush=True)
    return {
        name: {
            key: statistics.median(one[key] for one in runs)
            for key, value in runs[0].items()
            if isinstance(value, int | float)
        }
        for name, runs in found.items()
    }


def machine() -> str:
    """The processor that was measured, in words."""
    from zoo.doctor import FLAGS
    from zoo.train.start import cpu_flags

    has = [flag for flag in FLAGS if flag in cpu_flags()]
    return f"{os.cpu_count()} cores, {platform.machine()}, {', '.join(has)}; {date.today():%B %Y}"


def publish(key: str, text: str, document: Path = DOCUMENT) -> None:
    """Puts a text between the two marks of its key in the document, and shows it."""
    begin, end = f"<!-- {key} -->\n", f"<!-- end of {key} -->\n"
    old = document.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        sys.exit(f"{document} has no place for {key!r}: it needs the lines {begin}{end}")
    document.write_text(f"{old.partition(begin)[0]}{begin}{text}{end}{old.partition(end)[2]}", encoding="utf-8")
    print(text)
