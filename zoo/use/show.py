"""A look at what a model has learned, in text."""

from typing import NamedTuple

import numpy as np

from zoo.batch import Batch, Rows
from zoo.corpus.tokenizer import Tokenizer
from zoo.network.reader import Reader
from zoo.noise import Noise
from zoo.use.generate import generate
from zoo.use.loaded import Loaded

PROMPT_TOKENS, SHOWN_TOKENS = 24, 96  # at most a quarter of the context, and of the row
SHOWN_PAIRS = 3


class Guess(NamedTuple):
    """What a model predicts at one place of a row."""

    at: int
    token: int
    target: int


def sample(model: Loaded, rows: Rows) -> str:
    """Some lines on the one row of `rows`: a continuation by a causal model, else its guesses at the hidden places.

    Of an encoder-decoder: what it makes of the row's first sources, beside what was wanted.
    """
    if rows.source is not None:
        return translated(model, rows, rows.source)
    if model.learner.objective.visibility == "causal":
        tokens = min(PROMPT_TOKENS, model.recipe.model.context // 4)
        prompt = model.tokenizer.decode(rows.token[0, :tokens])
        return f"{prompt} ...{generate(model, [prompt])[0].removeprefix(prompt)}"
    batch = model.learner.objective.make_batch(Noise(0, 0, 0, 1), rows)
    return filled_in(model, rows, guesses(model, batch))


def translated(model: Loaded, rows: Rows, source: Rows) -> str:
    """The first few pairs of a row, and the model's own translations."""

    def texts(tokenizer: Tokenizer, side: Rows) -> list[str]:
        pairs = range(1, min(SHOWN_PAIRS, int(side.doc.max())) + 1)
        return [tokenizer.decode(side.token[0, side.doc[0] == pair][:-1]) for pair in pairs]

    asked, wanted = texts(model.source_tokenizer, source), texts(model.tokenizer, rows)
    shown = zip(asked, model.translate(asked), wanted, strict=True)
    return "\n".join(f"{text}\n  written: {written}\n  wanted:  {want}" for text, written, want in shown)


def guesses(model: Loaded, batch: Batch) -> list[Guess]:
    """The likeliest token at every scored place of a batch's first row, in the order of the text."""
    objective = model.learner.objective
    places = next(iter(batch.tasks.values()))
    hidden = objective.hidden(Reader(model.network, model.learner.layers, None), batch)
    best = np.argmax(np.asarray(model.network.logits(hidden))[0, :, : model.tokenizer.size], axis=-1)
    at = np.arange(batch.stream.token.shape[1]) if places.at is None else places.at[0]
    found = zip(at, best, places.target[0], places.weight[0], strict=True)
    return sorted(Guess(int(a), int(b), int(t)) for a, b, t, weight in found if weight > 0)


def filled_in(model: Loaded, row: Rows, found: list[Guess]) -> str:
    """The row's text with every guess in brackets, the truth after a slash where the guess is wrong."""
    by_place = {guess.at: guess for guess in found}
    # These decode a token alone without the white space before it.
    bare = model.recipe.tokenizer.kind in ("wordpiece", "unigram")

    def word(token: int) -> str:
        return model.tokenizer.decode([token]).removeprefix("##" if bare else "")

    text = []
    for place, token in enumerate(row.token[0, :SHOWN_TOKENS]):
        guess = by_place.get(place)
        shown = word(token)
        if guess is not None:
            shown = f"[{word(guess.token)}" + ("]" if guess.token == guess.target else f"/{word(guess.target)}]")
        text.append(" " + shown if bare and row.word_start[0, place] else shown)
    right = sum(guess.token == guess.target for guess in found)
    return f"{''.join(text)}\n[guess] right, [guess/truth] wrong: {right} of {len(found)} right in this row"
