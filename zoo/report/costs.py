"""What a recipe costs, as text."""

from collections.abc import Callable, Sequence

from zoo import accounting
from zoo.accounting import Term, size
from zoo.schema import Recipe

PARTS = {"embed": "embeddings", "final_norm": "last norm", "objective": "objective's own"}


def costs(recipe: Recipe) -> str:
    """Parameters, operations and memory, each with its arithmetic."""
    return "\n".join([*_params(recipe), "", *_flops(recipe), "", *_memory(recipe)])


def _params(recipe: Recipe) -> list[str]:
    parts = accounting.params_by_part(recipe)
    number = sum(parts.values())
    lines = [f"parameters: {number:,}{_comparison(recipe, number)}"]
    terms = [Term(PARTS.get(part, part), "", n) for part, n in parts.items()]
    each = f"{recipe.model.layers} x {parts['blocks'] // recipe.model.layers:,}"
    terms = [term._replace(arithmetic=each) if term.what == "blocks" else term for term in terms]
    return lines + _table(terms, lambda value: f"{value:,.0f}")


def _comparison(recipe: Recipe, number: int) -> str:
    expect = recipe.expect
    if expect is None:
        return ""
    if number == expect.params:
        return f", as expected ({expect.source})"
    return f", not the {expect.params:,} of: {expect.source}"


def _flops(recipe: Recipe) -> list[str]:
    found = accounting.flops(recipe)
    update = found.per_token * recipe.train.tokens_per_update
    return [
        f"operations for a token, forward and backward: {size(found.per_token, 'FLOP')}",
        *_table(found.terms, lambda value: size(value, "FLOP")),
        f"  an update of {recipe.train.tokens_per_update:,} tokens: {size(update, 'FLOP')};"
        f" all {recipe.train.updates:,} updates: {update * recipe.train.updates:.2g} FLOP",
    ]


def _memory(recipe: Recipe) -> list[str]:
    half, rows = recipe.train.precision != "float32", recipe.train.micro_rows or 1
    terms = accounting.memory(recipe, rows, half)
    held = sum(term.value for term in terms[:-1])
    by = "" if recipe.train.micro_rows else "; as many rows at once as suit the machine (train.micro_rows)"
    return [
        f"memory in training: about {size(held, 'B')} and for {rows} {'row' if rows == 1 else 'rows'} at once"
        f" {size(terms[-1].value, 'B')}"
        f" ({'bfloat16' if half else 'float32'}{by})",
        *_table(terms, lambda value: size(value, "B")),
    ]


def _table(terms: Sequence[Term], shown: Callable[[float], str]) -> list[str]:
    rows = [(term.what, shown(term.value), term.arithmetic) for term in terms]
    wide = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"  {what:<{wide[0]}}  {value:>{wide[1]}}  {arithmetic}".rstrip() for what, value, arithmetic in rows]
