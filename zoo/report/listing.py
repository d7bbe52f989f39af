"""The table of `zoo list`, and how tables are set."""

from collections.abc import Collection

from zoo import registry
from zoo.accounting import params
from zoo.errors import UserError
from zoo.schema import Recipe

HEAD = ("NAME", "OBJECTIVE", "LAYERS x WIDTH", "CONTEXT", "PARAMETERS")


def listing() -> tuple[list[str], list[str]]:
    """The table's lines, and a message for every recipe that cannot be read."""
    rows: list[tuple[str, ...]] = [HEAD]
    refused: list[str] = []
    for name, file in sorted(registry.recipe_files().items()):
        try:
            rows.append(_row(name, registry.recipe(file)))
        except UserError as error:
            refused.append(str(error))
    return table(rows, numbers=range(2, len(HEAD))), refused


def table(rows: list[tuple[str, ...]], numbers: Collection[int]) -> list[str]:
    """Lines with the cells under each other: words to the left, the columns `numbers` to the right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def cell(text: str, column: int) -> str:
        return text.rjust(wide[column]) if column in numbers else text.ljust(wide[column])

    return ["  ".join(cell(text, column) for column, text in enumerate(row)).rstrip() for row in rows]


def _row(name: str, recipe: Recipe) -> tuple[str, ...]:
    model = recipe.model
    layers = f"{model.encoder_layers}+{model.layers}" if model.encoder_layers else f"{model.layers}"
    shape = f"{layers} x {model.width}"
    return name, recipe.objective["name"], shape, f"{model.context:,}", f"{params(recipe):,}"
