"""What the options of several commands share: how a recipe is named and changed, how numbers are read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import registry, word_budget
from zoo.errors import UserError
from zoo.schema import Recipe, merged


def number(low: float, kind: type[int] | type[float] = int, below: float = 2**31) -> Callable[[str], Any]:
    """A parser of option values that names the value it refuses."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value < below:
            what = "whole number" if kind is int else "number"
            limit = f" and below {below:,}" if value is not None and value >= below else ""
            raise typer.BadParameter(f"{text!r} is not a {what} of {low} or more{limit}")
        return value

    return parse


def large(text: str) -> float:
    """A parser of large numbers as people write them: 5M, 1.5B, 20000000, 1e15."""
    try:
        value = float(text) if "e" in text.lower() else float(word_budget.read(text))
    except ValueError:
        value = 0.0
    if value < 1:
        raise typer.BadParameter(f"{text!r} is no number of 1 or more, such as 5M, 1.5B or 1e15")
    return value


Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A recipe's name (zoo list) or its YAML file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe: train.learning_rate=1e-3. Repeatable."
    ),
]
Engine = Annotated[
    str | None, typer.Option(metavar="ENGINE", help="tensorflow, or jax for GPUs and meshes of devices.")
]
Corpus = Annotated[
    str | None,
    typer.Option(
        metavar="SRC", help="The text: a file, folder, glob, address or hf:NAME[:CONFIG]. Default: the recipe's."
    ),
]
Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CKPT",
        help="A name (zoo checkpoints), a run's or checkpoint's folder (runs/mine, ./mine), hf:ORG/NAME.",
    ),
]


def overrides(settings: list[str] | None) -> dict[str, Any]:
    """What --set options ask for, by section."""
    asked: dict[str, Any] = {}
    for setting in settings or []:
        asked = merged(asked, registry.parse_override(setting))
    return asked


def chosen_recipe(name: str, settings: list[str] | None, **sections: Any) -> Recipe:
    """The recipe under its --set options, and those under the sections that other options changed."""
    return registry.recipe(name, **merged(overrides(settings), sections))


def print_found(found: dict[str, Any], as_json: bool) -> None:
    """What was measured: a JSON object, or a line for each number."""
    if as_json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            several = value if isinstance(value, list) else [value]
            print(key, *(f"{one:.4g}" if isinstance(one, float) else one for one in several))


def lines_of(file: Path | None) -> list[str]:
    """The lines of a text file, or of standard input. UserError where it cannot be read."""
    name = "standard input" if file is None else repr(str(file))
    try:
        content = sys.stdin.buffer.read() if file is None else file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no UTF-8 text: {error}") from None
    # Unlike str.splitlines, which would also cut at characters that stand inside a line.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
