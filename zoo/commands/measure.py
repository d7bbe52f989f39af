"""The commands that measure trained models: texts, held-out losses, minimal pairs, several models side by side."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import evaluations
from zoo.commands.options import Checkpoint, Corpus, Settings, large, lines_of, number, overrides, print_found
from zoo.errors import UserError
from zoo.progress import say

WithinWord = Annotated[
    bool, typer.Option("--within-word", help="Hide the rest of a token's word too; not for causal models.")
]


def score(
    checkpoint: Checkpoint,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text file; every line that is not empty is scored.")],
    within_word: WithinWord = False,
) -> None:
    """How likely a model finds each line of a file.

    In nats: the log-likelihood by a causal model, the pseudo-log-likelihood by any other (every token hidden in turn;
    with --within-word also what follows it in its word, which would give it away: Kauf and Ivanova 2023).
    A line of output has the score, a tab, and the text.

    \b
    Example:
      zoo score gpt2-nano sentences.txt
    """
    texts = [line for line in lines_of(file) if line.strip()]
    if not texts:
        raise UserError(f"{str(file)!r} has no line with text")
    from zoo.use.loaded import load

    model = load(checkpoint)
    nats = model.score(texts, within_word=within_word)
    for value, text in zip(nats, texts, strict=True):
        print(f"{value:.4f}\t{text}")
    tokens = sum(len(model.tokenizer.encode(text)) for text in texts)
    say(f"{len(texts)} texts, {tokens} tokens: {nats.sum():.2f} nats, {nats.sum() / max(tokens, 1):.3f} a token")


def evaluate(
    checkpoint: Checkpoint,
    data: Corpus = None,
    suite: Annotated[
        str | None,
        typer.Option(metavar="SRC", help="Minimal pairs instead: BLiMP's folder, .zip or .jsonl, or hf:NAME."),
    ] = None,
    within_word: WithinWord = False,
    stride: Annotated[
        int | None, typer.Option(metavar="N", parser=number(1), help="Read in windows that begin every N tokens.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How it is read: evaluation.memory=640. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """The losses of a model on held-out text, or on yours.

    Those that training tells of its validation split; with --data, those of all of that text. Where the model gives a
    text a likelihood it is told in bits a byte, of a causal model also as perplexity, of a permutation model from left
    to right; of a masked model the pseudo-log-likelihood, of 2,048 tokens. With --stride every token but those of the
    first window has at least the window less N tokens before it.

    With --suite, of how many minimal pairs the model finds the good sentence likelier, by `zoo score`: for every
    phenomenon and paradigm, with the interval that holds in 95 of 100 samples (Wilson).

    \b
    Examples:
      zoo eval gpt2-nano --stride 128
      zoo eval bert-nano --suite BLiMP.zip --within-word
      zoo eval runs/transformer-xl-nano-1 --set evaluation.memory=512 --set evaluation.same_length=true
      zoo eval runs/transformer-xl-wt103-base-1 --data wiki.test.tokens --json
    """
    if suite is not None:
        if data is not None or settings or stride:
            raise UserError("--suite goes with none of --data, --set, --stride: its sentences are read one by one")
        _judge(checkpoint, suite, within_word, as_json)
        return
    asked = overrides(settings)
    if other := sorted(asked.keys() - {"evaluation"}):
        raise UserError(f"zoo eval reads a model that is made: --set takes keys of evaluation, not of {other[0]}")
    from zoo.use.evaluate import evaluate as measure

    reading = {"stride": stride, "within_word": within_word, **asked.get("evaluation", {})}
    found = measure(checkpoint, data, **reading)
    _keep(checkpoint, "text", evaluations.name_of(data) if data else evaluations.VALIDATION, found)
    print_found(found, as_json)


def _judge(checkpoint: str, suite: str, within_word: bool, as_json: bool) -> None:
    from zoo.report.minimal_pairs import as_numbers, table
    from zoo.use.loaded import load
    from zoo.use.minimal_pairs import judge, read_pairs
    from zoo.use.score import kind_of_score

    pairs, model = read_pairs(suite), load(checkpoint)
    judged = judge(model, pairs, within_word=within_word)
    found = as_numbers(judged)
    kept = {"score": kind_of_score(model, within_word), **found}
    _keep(checkpoint, "suite", evaluations.name_of(suite), kept)
    print(json.dumps(found) if as_json else "\n".join(table(judged)))


def _keep(checkpoint: str, kind: str, name: str, found: dict[str, Any]) -> None:
    """What was found of a run's model stays in its folder, where reports find it."""
    from zoo.saved import is_folder, open_saved
    from zoo.train.run import METRICS

    folder = Path(checkpoint)
    if is_folder(checkpoint) and (folder / METRICS).is_file():
        evaluations.keep(folder, kind, name, {"step": open_saved(folder).facts["step"], **found})


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE|RUN...", help="Recipes to train, and folders of runs that are taken as they are."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The recipe whose objective is swapped.")
    ] = None,
    objectives: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="With --base: causal, masked, permutation, ...")
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(metavar="N", parser=large, help="Of every run, padding included: 5M, 1.5B.")
    ] = None,
    flops: Annotated[float | None, typer.Option(metavar="F", parser=large, help="Of every run instead: 1e15.")] = None,
    seeds: Annotated[int, typer.Option(metavar="K", parser=number(1), help="Runs of each recipe.")] = 1,
    data: Corpus = None,
    suite: Annotated[
        str | None, typer.Option(metavar="SRC", help="Minimal pairs as of zoo eval, for every run.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where all of it goes.")] = Path("runs/compare"),
    settings: Settings = None,
) -> None:
    """Objectives side by side, trained and evaluated alike.

    Each recipe is trained in a folder of its own below --out, on --tokens or --flops, its schedule fitted to them;
    without either, as the recipe says. With --base, everything but the objective is held equal. The same command goes
    on with what was interrupted. The report is FOLDER/report.html.

    \b
    Examples:
      zoo compare gpt2-nano bert-nano xlnet-nano --tokens 5M
      zoo compare --base gpt2-nano --objectives causal,masked,permutation --flops 1e14 --seeds 3
      zoo compare runs/gpt2-nano-1 runs/mine --suite BLiMP.zip
    """
    if bool(names) == bool(base) or bool(base) != bool(objectives):
        raise UserError("what is compared is either NAME..., or --base NAME with --objectives A,B")
    if tokens is not None and flops is not None:
        raise UserError("--tokens and --flops are two budgets; give one")
    from zoo.report import comparison

    budget = comparison.Budget(tokens, flops)
    given = overrides(settings), budget, seeds, out
    if base and objectives:
        members = comparison.of_objectives(base, [name.strip() for name in objectives.split(",")], *given)
    else:
        members = comparison.of_names(names or [], *given)
    for folder in comparison.compare(members, out, data, suite):
        print(comparison.summary(folder))
    print(out / comparison.REPORT)
