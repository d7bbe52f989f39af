"""The commands that look: at recipes, at batches, at this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from zoo.commands.options import Corpus, Name, Settings, chosen_recipe, number
from zoo.errors import UserError
from zoo.progress import say


def list_recipes() -> None:
    """All recipes: name, objective, size.

    Recipes come with the zoo, from the folders in ZOO_RECIPES, and from installed plug-ins.
    """
    from zoo.report.listing import listing

    lines, refused = listing()
    print("\n".join(lines))
    for message in refused:
        say(f"zoo: left out: {message}")


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
        from zoo.report.matrix import as_text, draw, panels, picture_file

        drawn, file = panels(recipe), png or picture_file(recipe)
        draw(drawn, file)
        told += [*map(as_text, drawn), f"drawn in {file}"]
    print(to_yaml(recipe))
    for line in "\n\n".join(told).splitlines():
        print(f"# {line}".rstrip())


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


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The folders of runs, finished or not.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: report.html in the run's folder; of several runs, here."),
    ] = None,
) -> None:
    """A page about runs: curves, evaluations, objectives, recipes.

    One HTML file that needs no network: losses by tokens, compute or time, what was measured of the runs, who sees
    whom, an example batch, samples, recipes and where they differ, and how to make the runs again.

    \b
    Examples:
      zoo report runs/gpt2-nano-1
      zoo report runs/gpt2-nano-1 runs/bert-nano-1 --out compared.html
    """
    from zoo.report.page import REPORT, write

    file = out or (runs[0] if len(runs) == 1 else Path()) / REPORT
    write(runs, file)
    print(file)


def watch(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The folders of runs, as in runs/gpt2-nano-1.")],
) -> None:
    """Follow runs while they train: curves, speed, time left.

    It reads what the runs write and nothing else, so that it can start and end at any time, also where the folder is
    shared by another machine. On a terminal the view is renewed every second until all runs have finished, or Ctrl-C;
    elsewhere it is printed once. A run's sample is shown when it has one.

    \b
    Examples:
      zoo watch runs/gpt2-nano-1
      zoo watch runs/*
    """
    from zoo.report.watch import follow

    try:
        follow(runs)
    except KeyboardInterrupt as end:
        raise typer.Exit(128 + getattr(end, "signal", signal.SIGINT)) from None


def curves(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|RUN]", help="A recipe's name, or a run's folder (runs/mine, ./mine).")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a picture of them too.")] = None,
) -> None:
    """Reference curves, and whether a run learns the same.

    Without an argument all that come with the zoo. Of a recipe its curves, as they were trained. A run, finished or in
    progress, is compared with the reference that has its settings, whatever its name: in the last line stands how far
    apart they are, and how far another seed may be. A recipe's machine settings and its seed may differ.

    \b
    Examples:
      zoo curves
      zoo curves gpt2-nano
      zoo curves runs/gpt2-nano-1 --png curves.png
    """
    from rich.console import Console

    from zoo.report import reference_curves as shown
    from zoo.report.reference import compare, reference
    from zoo.saved import is_folder

    if name is None:
        if png is not None:
            raise UserError("--png is for one recipe or run, and none is given")
        print("\n".join(shown.listing()))
        return
    found = compare(Path(name)) if is_folder(name) else reference(name)
    shown.told(found, Console(highlight=False))
    if png is not None:
        shown.draw(found, png)


def doctor() -> None:
    """Check this machine: can it train, and what with?

    Versions, memory, disk, devices, the speed and correctness of matrix products in float32 and bfloat16 (measured for
    two seconds), and what the settings that are `auto` mean here, with the reason. Exit code 1 where a line says BAD.
    """
    from zoo.doctor import examine

    if not examine():
        raise typer.Exit(1)
