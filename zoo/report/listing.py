"""The table of `zoo list`."""

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
    wide = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  ".join(_aligned(row, wide)) for row in rows], refused


def _row(name: str, recipe: Recipe) -> tuple[str, ...]:
    model = recipe.model
    shape = f"{model.layers} x {model.width}"
    return name, recipe.objective["name"], shape, f"{model.context:,}", f"{params(recipe):,}"


def _aligned(row: tuple[str, ...], wide: list[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [
        f"{cell:<{width}}" if n < 2 else f"{cell:>{width}}"
        for n, (cell, width) in enumerate(zip(row, wide, strict=True))
    ]
