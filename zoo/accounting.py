"""What a recipe costs, by arithmetic alone: parameters, floating-point operations, memory."""

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from zoo.network.shapes import Shapes, shapes
from zoo.report.toy import toy
from zoo.schema import Recipe
from zoo.train.start import make_objective, nominal_vocab

FLOAT = 4  # bytes of a float32: weights, gradients and Adam's slots are never anything else


class Term(NamedTuple):
    """A part of a sum: what it is of, how it comes about, and its value."""

    what: str
    arithmetic: str
    value: float


class Flops(NamedTuple):
    """Floating-point operations for one token, as a sum."""

    terms: list[Term]

    @property
    def per_token(self) -> float:
        return sum(term.value for term in self.terms)


def weights(recipe: Recipe) -> Shapes:
    """Every trained weight's shape by name; those of the objective's own layers begin with `objective.`."""
    own = make_objective(recipe, nominal_vocab(recipe)).shapes(recipe.model)
    return shapes(recipe.model, recipe.tokenizer.size) | {f"objective.{name}": shape for name, shape in own.items()}


def count(found: Iterable[tuple[int, ...]]) -> int:
    """How many numbers these shapes hold."""
    return sum(map(prod, found))


def params(recipe: Recipe) -> int:
    """All trained parameters, heads included."""
    return count(weights(recipe).values())


def params_by_part(recipe: Recipe) -> dict[str, int]:
    """The same by the first word of the weights' names: embed, blocks, final_norm, head, objective."""
    parts: dict[str, int] = {}
    for name, shape in weights(recipe).items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + prod(shape)
    return parts


def flops(recipe: Recipe) -> Flops:
    """Forward and backward, for one token of a full row; a multiply and an add are two, backward is twice forward.

    Matrix products alone, as everyone counts them (Kaplan et al. 2020, section 2.1): 6 for every weight that a token
    meets, 12 x width for every token that it is compared with; all pairs count, hidden ones too.
    """
    model, tokens = recipe.model, recipe.row_tokens
    width, layers, vocab = model.width, model.layers, recipe.tokenizer.size
    found = weights(recipe)
    made = toy(recipe, tokens)
    at = {task: tokens if places.at is None else places.at.shape[1] for task, places in made.batch.tasks.items()}
    predicting = sum(at[task] for task in made.objective.token_tasks)
    per_block = _kernels(found, "blocks.0.", without="attend.r.")  # r projects distances once for all rows
    # With relative positions, scores by distance are two products more: there are twice as many distances as tokens.
    each, pairs = (24, "24 (by content and by distance)") if model.positions == "relative" else (12, "12")

    def blocks(n: int | float, per_block: int) -> str:
        return f"6 x {n:g} blocks x {per_block:,} weights"

    def attention(n: int | float) -> str:
        return f"{pairs} x {n:g} layers x {tokens:,} tokens x width {width:,}"

    if made.objective.blind:
        lookup = count([found["blocks.0.attend.k.kernel"], found["blocks.0.attend.v.kernel"]])
        share = predicting / tokens
        of = f" x {predicting} / {tokens} places"
        terms = [
            # Of the last block, the content stream only makes what the queries look up.
            Term(
                "content stream",
                f"{blocks(layers - 1, per_block)} + 6 x {lookup:,}",
                6 * ((layers - 1) * per_block + lookup),
            ),
            Term("its attention", attention(layers - 1), each * (layers - 1) * tokens * width),
            Term("query stream", blocks(layers, per_block - lookup) + of, 6 * layers * (per_block - lookup) * share),
            Term("its attention", attention(layers) + of, each * layers * tokens * width * share),
        ]
    else:
        terms = [
            Term("blocks", blocks(layers, per_block), 6 * layers * per_block),
            Term("attention", attention(layers), each * layers * tokens * width),
        ]
    for what, weight, formula, places in (
        ("head transform", _kernels(found, "head."), "", predicting),
        ("vocabulary", vocab * width, f"{vocab:,} x {width:,}", predicting),
        ("objective's own", _kernels(found, "objective."), "", sum(at.values()) - predicting),
    ):
        if weight and places:
            terms.append(
                Term(what, f"6 x {formula or f'{weight:,}'} x {places} / {tokens} places", 6 * weight * places / tokens)
            )
    return Flops(terms)


def _kernels(found: Shapes, prefix: str, without: str | None = None) -> int:
    """The weights of the matrices under a prefix."""
    names = [name for name in found if name.startswith(prefix) and name.endswith(".kernel")]
    return count(found[name] for name in names if without is None or not name.startswith(prefix + without))


def activation_bytes(recipe: Recipe, half: bool) -> Term:
    """What one row keeps for the backward pass; half: the network computes in bfloat16.

    Of a block: the residual stream in float32 before each norm, and in the compute dtype two normed copies, q, k, v,
    what attention mixed, two dropped outputs and the dropout's choices (9 widths), the inner layer before and after its
    activation; of a pair of tokens 10 bytes (softmax in float32, its dropped copy, the choices). Of a predicted place
    the logits and their gradient in float32. Compare Korthikanti et al. 2022, section 4.1.
    """
    model, tokens = recipe.model, recipe.row_tokens
    made = toy(recipe, tokens)
    size = 2 if half else FLOAT
    block = tokens * (8 * model.width + size * (9 * model.width + 2 * model.inner_width) + 10 * model.heads * tokens)
    places = [made.batch.tasks[task].at for task in made.objective.token_tasks]
    predicting = sum(tokens if at is None else at.shape[1] for at in places)
    if made.objective.blind:
        block = round(block * (1 + predicting / tokens))
    logits = 2 * FLOAT * predicting * recipe.tokenizer.size
    arithmetic = f"{model.layers} blocks x {block / 1e6:,.1f} MB + logits {logits / 1e6:,.1f} MB"
    return Term("activations", arithmetic, model.layers * block + logits)


def memory(recipe: Recipe, rows: int, half: bool) -> list[Term]:
    """Bytes of training with that many rows at once."""
    number = params(recipe)
    kept = 1 if rows >= recipe.rows_per_update else 2
    sums = "" if kept == 1 else " x 2 (the sum over micro-batches beside the newest)"
    row = activation_bytes(recipe, half)
    return [
        Term("weights", f"4 x {number:,}", FLOAT * number),
        Term("gradients", f"4 x {number:,}{sums}", FLOAT * number * kept),
        Term("Adam's two slots", f"8 x {number:,}", 2 * FLOAT * number),
        Term(row.what, f"{rows} {'row' if rows == 1 else 'rows'} x ({row.arithmetic})", rows * row.value),
    ]
