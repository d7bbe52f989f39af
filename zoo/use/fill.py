"""Blanks filled in by a model that sees both sides of them."""

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.errors import UserError
from zoo.use.frame import Frame

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

BLANKS = ("[MASK]", "<mask>")  # how a blank may be written, whatever the model's own token is


class Guess(NamedTuple):
    """A token for a blank."""

    token: str
    chance: float


class Filled(NamedTuple):
    """A text with its likeliest tokens in place, and for each blank in order what else could stand there."""

    text: str
    blanks: list[list[Guess]]


def fill(model: "Loaded", texts: list[str], best: int = 5) -> list[Filled]:
    """Fills every [MASK] of every text; each is guessed from all that is not blank, none from another blank.

    Raises UserError for a causal model, a text without a blank, or one longer than the context.
    """
    model.check_head()
    own = model.recipe.tokenizer.specials.get("mask", BLANKS[0])
    written = "|".join(map(re.escape, {*BLANKS, own}))
    frame = Frame(model)
    return [_filled(model, frame, re.split(written, text), text, best) for text in texts]


def _filled(model: "Loaded", frame: Frame, parts: list[str], text: str, best: int) -> Filled:
    if len(parts) == 1:
        raise UserError(f"{text!r} has no blank; write [MASK] for every token to be guessed")
    # White space before a word is part of the word's token or of none, so it belongs to the blank.
    joined = model.recipe.tokenizer.kind not in ("bytes", "characters")
    ids: list[int] = []
    at: list[int] = []
    for number, part in enumerate(parts):
        if number:
            at.append(len(frame.before) + len(ids))
            ids.append(0)  # whatever: the objective hides it
        ids += model.tokenizer.encode(part.rstrip() if joined and number + 1 < len(parts) else part).tolist()
    tokens = np.array(ids)
    frame.check([tokens])
    rows = frame.rows([tokens], 1)
    chosen = np.zeros(rows.token.shape, bool)
    chosen[0, at] = True
    from zoo.network.reader import Reader

    objective = model.learner.objective
    batch = objective.ask(rows, chosen)
    hidden = objective.hidden(Reader(model.network, model.learner.layers), batch)
    logits_PV = np.asarray(model.network.logits(hidden), np.float64)[0]
    chance_PV = np.exp(logits_PV - logits_PV.max(axis=1, keepdims=True))
    chance_PV /= chance_PV.sum(axis=1, keepdims=True)
    guesses = []
    for chance_V in chance_PV:
        order = np.argsort(-chance_V[: model.tokenizer.size], kind="stable")[:best]
        guesses.append([Guess(model.tokenizer.decode([token]), float(chance_V[token])) for token in order])
    whole = parts[-1]
    for part, blank in zip(reversed(parts[:-1]), reversed(guesses), strict=True):
        word = blank[0].token
        whole = (part.rstrip() if joined and word[:1].isspace() else part) + word + whole
    return Filled(whole, guesses)
