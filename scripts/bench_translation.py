"""Our translation beside Hugging Face's MarianMTModel of the same shape: the same work, in turns, in one go.

    .venv/bin/python scripts/bench_translation.py RUN --input test.en [--turns 2]

RUN is a trained run of an encoder-decoder recipe; it is exported, so that both sides have its weights. Decoding: all
lines of --input, beam 5 with the length penalty of the recipe's paper, float32, 64 texts at once, sorted by length;
after a first call on a few lines, which does not count, once (ours makes its graphs then) and once again. How the mean
score of what is found (log-likelihood over the length penalty) changes with the beam is told once. Training: updates on
the run's own corpus in bfloat16 (autocast there), with its dropout, label smoothing and Adam, the targets' tokens that
are no padding counted; the peer's batches hold pairs of like length, and as many places as ours. The peer runs in
.venv-peers (see bench_peers.py).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from peers import in_turns, peer_python, run

BEAM, PENALTY, AT_ONCE = 5, 0.6, 64
BEAMS = (1, 2, 5, 10)  # whose mean scores are told
WARM_LINES, WARM_UPDATES, LEAST_SECONDS = 8, 5, 30.0


def zoo(folder: Path, file: Path, shared: Path) -> dict[str, float]:
    """Runs in ours; leaves what the peer needs in `shared`: the exported model and the ids of all pairs."""
    import zoo as package
    from zoo.corpus.prepare import open_texts, tokenized
    from zoo.exchange.folder import write
    from zoo.home import home
    from zoo.saved import open_saved
    from zoo.train.replicas import Replicas
    from zoo.train.run import read_recipe
    from zoo.train.session import Session

    texts = file.read_text(encoding="utf-8").splitlines()
    model = package.load(folder)
    found = decoding(lambda some: model.translate(some, beam=BEAM, length_penalty=PENALTY), texts)

    saved, recipe = open_saved(folder), read_recipe(folder)
    corpus = tokenized(recipe, open_texts(recipe.data.corpus, recipe.data), saved.tokenizers, home())
    if not (shared / "model").exists():
        write(saved, shared / "model")
        ends = [model.source_tokenizer.encode(text).tolist() for text in texts]
        sides = (corpus.train.source, corpus.train)
        pairs = [[side.token[a:b].tolist() for a, b in pairwise(side.documents)] for side in sides if side]
        given = {
            "pairs": pairs,
            "texts": ends,
            "special": model.tokenizer.special,
            "smoothing": recipe.objective["label_smoothing"],
        }
        given |= {"places": recipe.train.tokens_per_update, "width": recipe.row_tokens}
        (shared / "given.json").write_text(json.dumps(given))
    recipe = recipe.with_changes(train={"precision": "bfloat16"})
    session = Session(recipe, corpus, shared, Replicas())
    numbers = iter(range(10**9))

    def update() -> float:
        made = session.feed.update(next(numbers))
        factors = made.factors(session.engine.scales)
        for batch, first in zip(made.batches, made.firsts, strict=True):
            if len(made.batches) == 1:
                session.engine.update(batch, factors, 1e-5, made.number)
            else:
                session.engine.gradient(batch, factors, made.number, first)
        if len(made.batches) > 1:
            session.engine.apply(1e-5, made.number)
        session.engine.failed.numpy()  # waits for the update
        return sum(made.weights.values())

    return found | {"tokens_per_second": speed(update)}


def peer(shared: Path) -> dict[str, float]:
    """Runs in the peers' environment."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import MarianMTModel  # pyright: ignore[reportMissingImports]

    given = json.loads((shared / "given.json").read_text())
    special = given["special"]
    model: Any = MarianMTModel.from_pretrained(shared / "model")

    def padded(rows: list[list[int]]) -> Any:
        width = max(map(len, rows))
        return torch.tensor([row + [special["pad"]] * (width - len(row)) for row in rows])

    def translate(texts: list[list[int]]) -> None:
        order = sorted(texts, key=len)
        for first in range(0, len(order), AT_ONCE):
            token = padded([[*ids, special["eod"]] for ids in order[first : first + AT_ONCE]])
            settings = {"num_beams": BEAM, "length_penalty": PENALTY, "max_new_tokens": token.shape[1] + 50}
            with torch.inference_mode():
                model.generate(token, attention_mask=(token != special["pad"]).long(), **settings)

    model.eval()
    found = decoding(translate, given["texts"])

    model.train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-9, fused=True)
    draw = np.random.default_rng(0)
    sources, targets = given["pairs"]
    batches: list[list[int]] = []
    order = sorted(
        (n for n in range(len(targets)) if max(len(sources[n]), len(targets[n])) <= given["width"]),
        key=lambda n: (len(targets[n]), len(sources[n])),
    )
    for n in order:  # as many places as ours: the longest side times the rows
        longest = max(len(sources[n]), len(targets[n]))
        if not batches or (len(batches[-1]) + 1) * longest > given["places"]:
            batches.append([])
        batches[-1].append(n)

    def update() -> float:
        chosen = batches[draw.integers(len(batches))]
        source, target = padded([sources[n] for n in chosen]), padded([targets[n] for n in chosen])
        begins = torch.full((len(chosen), 1), special["bos"])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(
                input_ids=source,
                attention_mask=(source != special["pad"]).long(),
                decoder_input_ids=torch.cat([begins, target[:, :-1]], dim=1),
            ).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            target.flatten(),
            ignore_index=special["pad"],
            label_smoothing=given["smoothing"],
        )
        loss.backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        return float((target != special["pad"]).sum())

    return found | {"tokens_per_second": speed(update)}


def mean_scores(folder: Path, file: Path) -> dict[str, float]:
    """Of what beam search finds, by the beam's width: all of a file's texts together."""
    import zoo as package
    from zoo.use.beam import Search
    from zoo.use.translate import write

    model = package.load(folder)
    end, read = model.source_tokenizer.special["eod"], model.source_tokenizer.encode
    sources = [[*read(text).tolist(), end] for text in file.read_text(encoding="utf-8").splitlines()]
    searches = {f"beam {beam}": Search(beam=beam, length_penalty=PENALTY) for beam in BEAMS}
    return {
        name: statistics.fmean(one.score for one in write(model, sources, search)) for name, search in searches.items()
    }


def decoding(translate: Callable[[list[Any]], Any], texts: list[Any]) -> dict[str, float]:
    """Texts a second: of a first call on all of them, and of a second one."""
    translate(texts[:WARM_LINES])
    found = {}
    for name in ("sentences_per_second", "sentences_per_second_again"):
        begin = time.perf_counter()
        translate(texts)
        found[name] = len(texts) / (time.perf_counter() - begin)
    return found


def speed(update: Callable[[], float]) -> float:
    """Targets a second over LEAST_SECONDS of updates, each of which says how many it had."""
    for _ in range(WARM_UPDATES):
        update()
    tokens, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < LEAST_SECONDS:
        tokens += update()
    return tokens / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--input", type=Path, required=True, help="texts to translate, one a line")
    parser.add_argument("--turns", type=int, default=2, help="how often each runs")
    parser.add_argument("--part", choices=["peer", "zoo", "beams"], help=argparse.SUPPRESS)
    parser.add_argument("--shared", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        parts = {
            "peer": lambda: peer(given.shared),
            "zoo": lambda: zoo(given.run, given.input, given.shared),
            "beams": lambda: mean_scores(given.run, given.input),
        }
        print(json.dumps(parts[given.part]()))
        return
    pythons = {"zoo": sys.executable, "peer": str(peer_python())}
    with tempfile.TemporaryDirectory() as shared:
        rest = [str(given.run.absolute()), "--input", str(given.input.absolute()), "--shared", shared]
        scores = run([sys.executable, __file__, *rest, "--part", "beams"])
        print("mean score: " + ", ".join(f"{name} {score:.4f}" for name, score in scores.items()))
        commands = {name: [python, __file__, *rest, "--part", name] for name, python in pythons.items()}
        found = in_turns(commands, given.turns)
    for key in ("sentences_per_second", "sentences_per_second_again", "tokens_per_second"):
        ours, theirs = (numbers[key] for numbers in found.values())
        print(f"{key}: zoo {ours:,.1f}, MarianMTModel {theirs:,.1f}, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
