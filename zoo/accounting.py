"""What a recipe costs, by arithmetic alone: parameters, floating-point operations, memory."""

from collections.abc import Collection, Iterable
from math import log, prod
from typing import NamedTuple

from zoo.network.shapes import Bin, Shapes, bins, shapes
from zoo.objective import Objective
from zoo.report.toy import toy
from zoo.schema import Recipe
from zoo.train.start import make_objective, nominal_vocab

FLOAT = 4  # bytes of a float32: weights, gradients and Adam's slots are never anything else
LOGITS = 1 << 27  # bytes of them that exist at once while training (zoo/kernels/cross_entropy.py)
LIBRARY_BYTES = 1_000_000_000  # of the process, beside all arrays
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


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


def sent_bytes(recipe: Recipe) -> int:
    """Of a number of the gradient, when replicas add theirs up."""
    return 4 if recipe.train.reduce == "float32" else 2


def size(value: float, unit: str) -> str:
    """A number with a metric prefix: 12.2 MFLOP, 0.5 GB."""
    power = 0
    while value >= 1000 and power + 1 < len(PREFIXES):
        value, power = value / 1000, power + 1
    return f"{value:,.{1 if power else 0}f} {PREFIXES[power]}{unit}"


def weights(recipe: Recipe, absent: Collection[str] = ()) -> Shapes:
    """Every trained weight's shape by name; those of the objective's own layers begin with `objective.`.

    absent: weights that a model of this recipe was saved without.
    """
    own = make_objective(recipe, nominal_vocab(recipe)).shapes(recipe.model)
    found = shapes(recipe.model, recipe.tokenizer.size, recipe.source_size)
    found |= {f"objective.{name}": shape for name, shape in own.items()}
    return {name: shape for name, shape in found.items() if name not in absent}


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
    tokens, width, vocab = recipe.row_tokens, recipe.model.width, recipe.scored_rows
    layers, found = recipe.model.layers, weights(recipe)
    objective, places = _places(recipe)
    predicting = _of_tokens(objective, places)
    of = f" x {predicting} / {tokens} places"
    per_block = _kernels(found, "blocks.0.") - _kernels(found, "blocks.0.attend.r.")  # r serves all rows at once
    encoder = recipe.model.encoder_layers
    lookup = _kernels(found, "blocks.0.attend.k.") + _kernels(found, "blocks.0.attend.v.")
    if objective.blind:
        terms = [
            *_stack(recipe, "content stream", layers - 1, per_block),
            Term("its last block", f"6 x {lookup:,} weights (keys and values alone)", 6 * lookup),
            *_stack(recipe, "query stream", layers, per_block - lookup, of, predicting / tokens),
        ]
    elif encoder:  # rows of source and target are equally long, so that each counts once for a token
        pairs = Term(
            "cross-attention",
            f"12 x {layers} layers x {tokens:,} tokens x width {width:,}",
            12 * layers * tokens * width,
        )
        stacks = _stack(recipe, "encoder", encoder, _kernels(found, "encoder_blocks.0."))
        terms = [*stacks, *_stack(recipe, "decoder", layers, per_block), pairs]
    else:
        terms = _stack(recipe, "blocks", layers, per_block)
    if memory := recipe.model.memory:  # whose states get no gradient: twice forward instead of three times
        arithmetic = f"4 x {layers} blocks x {lookup:,} weights x {memory:,} / {tokens:,} tokens"
        terms.append(Term("keys of the memory", arithmetic, 4 * layers * lookup * memory / tokens))
    if transform := _kernels(found, "head."):
        terms.append(Term("head transform", f"6 x {transform:,}{of}", 6 * transform * predicting / tokens))
    if projections := _kernels(found, "embed."):  # a token goes through the projections of all bins
        terms.append(Term("embeddings", f"6 x {projections:,} weights", 6 * projections))
    shortlist, *tails = bins(recipe.model, vocab)
    first = shortlist.size + len(tails)
    terms.append(Term("vocabulary", f"6 x {first:,} x {width:,}{of}", 6 * first * width * predicting / tokens))
    for b, tail in enumerate(tails, 1):
        share, rows = _share(tail, vocab), tail.size + (width if recipe.model.div_val > 1 else 0)  # a projection's too
        arithmetic = f"6 x {share} (by Zipf's law) x {rows:,} x {tail.width:,}{of}"
        terms.append(Term(f"tail {b}", arithmetic, 6 * share * rows * tail.width * predicting / tokens))
    if own := _kernels(found, "objective."):
        classed = sum(places.values()) - predicting
        terms.append(Term("objective's own", f"6 x {own:,} x {classed} / {tokens} places", 6 * own * classed / tokens))
    return Flops(terms)


def _stack(recipe: Recipe, what: str, layers: int, per_block: int, of: str = "", share: float = 1.0) -> list[Term]:
    """Some layers, run for a share of a row's places."""
    tokens, width = recipe.row_tokens, recipe.model.width
    keys = tokens + recipe.model.memory
    pairs, compared = f"12 x {keys:,} tokens", 12 * keys
    if recipe.model.positions == "relative":  # one product more: a token has distances to those behind it as well
        pairs, compared = f"({pairs} + 6 x {tokens + keys:,} distances)", compared + 6 * (tokens + keys)
    return [
        Term(what, f"6 x {layers} blocks x {per_block:,} weights{of}", 6 * layers * per_block * share),
        Term(
            "attention" if share == 1 else "its attention",
            f"{pairs} x {layers} layers x width {width:,}{of}",
            compared * layers * width * share,
        ),
    ]


def _share(tail: Bin, vocab: int) -> float:
    """How much of a text is made of the words of a bin, three digits of it.

    By Zipf's law the word of rank r is one in r ln V, and the ranks of a bin together ln(last / first) / ln V.
    """
    return round(log((tail.first + tail.size) / tail.first) / log(vocab), 3)


def _kernels(found: Shapes, prefix: str) -> int:
    """The weights of the matrices under a prefix."""
    return count(shape for name, shape in found.items() if name.startswith(prefix) and name.endswith(".kernel"))


def _places(recipe: Recipe) -> tuple[Objective, dict[str, int]]:
    """The objective, and how many places of a row each of its tasks predicts at."""
    tokens = recipe.row_tokens
    made = toy(recipe, tokens)
    counts = {task: tokens if to.at is None else to.at.shape[1] for task, to in made.batch.tasks.items()}
    return made.objective, counts


def _of_tokens(objective: Objective, places: dict[str, int]) -> int:
    return sum(places[task] for task in objective.token_tasks)


def predicted(recipe: Recipe) -> int:
    """Places of a row at which a token is predicted."""
    return _of_tokens(*_places(recipe))


def passing(recipe: Recipe) -> int:
    """Places of a row whose states go through the blocks: its tokens, and blind queries beside them."""
    objective, places = _places(recipe)
    return recipe.row_tokens + (_of_tokens(objective, places) if objective.blind else 0)


def share_of(number: int, devices: int) -> int:
    """What each of so many devices has of a number: all of it where they do not divide it (zoo/train/layout.py)."""
    return number if number % devices else number // devices


def activations(recipe: Recipe, rows: int, half: bool, shared_by: int = 1) -> Term:
    """What so many rows keep for the backward pass; half: the network computes in bfloat16.

    shared_by: devices that share heads (of a block q, k, v, what attention mixed and dropped), inner width, vocabulary.

    Of a block: the residual stream in float32 before each norm, and in the compute dtype two normed copies, q, k, v,
    what attention mixed, two dropped outputs and the dropout's choices (9 widths), the inner layer before and after its
    activation; of a pair of tokens a byte (what attention dropped; scores are made again). Of a token that is
    remembered its state in float32, k and v. Where blocks are run again, of each what it is given, in float32, with its
    products if they are kept, and one block whole. Of a predicted place the logits and their gradient, those of a
    tail's words by their share of a text; without tails at most LOGITS bytes of them. Compare Korthikanti et al. 2022,
    section 4.1.
    """
    model, tokens = recipe.model, recipe.row_tokens
    number = 2 if half else FLOAT
    heads, inner = share_of(model.heads, shared_by), share_of(model.inner_width, shared_by)
    whole, mixed = 5 * model.width, 4 * heads * model.head_width
    widths = 8 * model.width + number * (whole + mixed + 2 * inner)
    choices = heads if model.attention_dropout else 0
    block = tokens * (widths + choices * (tokens + model.memory))
    objective, places = _places(recipe)
    predicting = _of_tokens(objective, places)
    given = tokens + (tokens + model.memory if model.memory else 0)  # with a memory the row stands in what is read too
    if objective.blind:
        block, given = round(block * (1 + predicting / tokens)), given + predicting
    block += model.memory * (FLOAT * model.width + number * mixed // 2)
    layers = model.layers + model.encoder_layers
    cross = tokens * (4 * model.width + number * (2 * model.width + mixed) + choices * tokens)
    cross = cross if objective.encodes else 0
    if recipe.train.remat:
        kept, what = FLOAT * model.width * given, "inputs"
        if recipe.train.remat == "matmuls":  # q, k, v, what attention put out, and both of the inner layer
            kept, what = kept + number * (5 * model.width + model.inner_width) * given, "inputs and products"
        row, arithmetic = layers * kept + block + cross, f"{layers} x {size(kept, 'B')} of {what}"
        arithmetic += f" + {size(block + cross, 'B')} of one block"
    else:
        row, arithmetic = layers * block + model.layers * cross, f"{layers} x {size(block, 'B')} a block"
        arithmetic += f" + {model.layers} x {size(cross, 'B')} of cross-attention" if cross else ""
    shortlist, *tails = bins(model, vocab := recipe.scored_rows)
    scored = shortlist.size + len(tails) + sum(round(_share(tail, vocab) * tail.size) for tail in tails)
    logits = rows * predicting * share_of(scored, shared_by)
    logits = 2 * (number * logits if tails else min(number * logits, LOGITS))
    arithmetic = f"{rows} {'row' if rows == 1 else 'rows'} x ({arithmetic}) + {size(logits, 'B')} of logits"
    return Term("activations", arithmetic, rows * row + logits)


def remembered(recipe: Recipe, half: bool) -> Term:
    """What the streams of a run remember; half: the network computes in bfloat16."""
    model, number = recipe.model, 2 if half else FLOAT
    return Term(
        "memory of streams",
        f"{number} x {model.layers} layers x {recipe.streams:,} streams x {model.memory:,} tokens"
        f" x width {model.width:,}",
        number * model.layers * recipe.streams * model.memory * model.width,
    )


def checkpoint_bytes(recipe: Recipe) -> int:
    """What a checkpoint takes on a disk: a weight and Adam's two slots in float32, and what streams remember."""
    half = recipe.train.precision == "bfloat16"
    return 3 * FLOAT * params(recipe) + int(remembered(recipe, half).value) + 2**20


def memory(recipe: Recipe, rows: int, half: bool) -> list[Term]:
    """Bytes of training with that many rows at once; measured peaks lay within a third of the sum."""
    number = params(recipe)
    kept = 1 if rows >= recipe.rows_per_update else 2
    sums = "" if kept == 1 else " x 2 (the sum over micro-batches beside the newest)"
    kept_states = [remembered(recipe, half)] if recipe.model.memory else []
    return [
        Term("libraries", "measured: code, buffers, compiled functions", LIBRARY_BYTES),
        Term("weights", f"4 x {number:,}", FLOAT * number),
        Term("gradients", f"4 x {number:,}{sums}", FLOAT * number * kept),
        Term("Adam's two slots", f"8 x {number:,}", 2 * FLOAT * number),
        *kept_states,
        activations(recipe, rows, half),
    ]
