"""The commands that look: at recipes, at batches, at this machine."""

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
    from zoo.report.page import write

    file = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    write(runs, file)
    print(file)


def doctor() -> None:
    """Check this machine: can it train, and what with?

    Versions, memory, disk, devices, the speed and correctness of matrix products in float32 and bfloat16 (measured for
    two seconds), and what the settings that are `auto` mean here, with the reason. Exit code 1 where a line says BAD.
    """
    from zoo.doctor import examine

    if not examine():
        raise typer.Exit(1)
