"""gpt2-char beside nanoGPT's character-level Shakespeare: seconds of the whole command, and the validation loss.

    .venv/bin/python scripts/bench_char.py INPUT.txt [--turns 3]

INPUT.txt is tiny Shakespeare; its last tenth is for validation. Ours is `zoo pretrain gpt2-char --data INPUT.txt`, from
the start of the process to its end, with a tokenizer and tokens that are there already, as nanoGPT's prepare.py has
made them; the peer is peer_char.py, from the start of its process too. The losses are over the whole validation text,
in rows of 64. Writes its table into docs/performance.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import in_turns, machine, peer_python, publish

OURS, PEER = "zoo pretrain gpt2-char", "nanoGPT's work in PyTorch"
OWN = "--own"  # the run of the other process


def own(text: str) -> None:
    """Trains and evaluates; prints one line of JSON."""
    with tempfile.TemporaryDirectory() as room:
        zoo, folder = [sys.executable, "-m", "zoo"], f"{room}/run"
        begin = time.perf_counter()
        subprocess.run([*zoo, "pretrain", "gpt2-char", "--data", text, "--out", folder], check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - begin
        found = subprocess.run([*zoo, "eval", folder, "--json"], check=True, stdout=subprocess.PIPE)
        print(json.dumps({"seconds": seconds, "loss": json.loads(found.stdout)["loss"]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", metavar="INPUT.txt")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(OWN, action="store_true", help="one run of ours, for the other process")
    given = parser.parse_args()
    text = str(Path(given.text).absolute())
    if given.own:
        own(text)
        return
    here = Path(__file__).parent
    commands = {
        OURS: [sys.executable, __file__, text, OWN],
        PEER: [str(peer_python()), str(here / "peer_char.py"), text],
    }
    found = in_turns(commands, given.turns)
    lines = [f"{machine()}; medians of {given.turns} turns", "", "| | seconds | validation loss |", "|---|---|---|"]
    lines += [f"| {name} | {numbers['seconds']:.0f} | {numbers['loss']:.3f} |" for name, numbers in found.items()]
    publish("char", "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
