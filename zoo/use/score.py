"""How likely a model finds texts.

Shapes: B rows, P predicted places a row, V vocabulary.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.batch import Batch, Rows
from zoo.corpus.starts import WORD_START
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.objective import Objective
from zoo.places import places as chosen_places
from zoo.progress import progress
from zoo.use.frame import STEP, TOKENS, Frame, rounded_up

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

LOGITS = 1 << 26  # scores at once: 256 MB
FEW, WIDE = 10_000, 512  # rows, width: XLA takes a quarter off narrow models' time, after some 10 s of compiling


def score(model: "Loaded", texts: list[str], *, within_word: bool = False) -> np.ndarray:
    """[texts] float64, nats: how likely each text is.

    Of a causal model the log-likelihood: the sum over tokens, each given those before it and the end of a document
    before all (where the tokenizer has no such token, the first one is not counted). Of the others the
    pseudo-log-likelihood: the sum over tokens, each hidden alone and given all others (Salazar et al. 2020, section 2).

    within_word: beside a token those after it in its word are hidden too, since the rest of a long word gives its
    beginning away (Kauf and Ivanova 2023, PLL-word-l2r). Words are those of zoo/corpus/starts.py; a token of white
    space alone is of the word before it.

    Raises UserError for a text longer than the context, and where `within_word` makes no sense.
    """
    if not within_word:
        return score_ids(model, [model.tokenizer.encode(text) for text in texts])
    if model.learner.objective.visibility == "causal":
        raise UserError(f"{model.recipe.name} reads from the left: no token of its score sees the rest of its word")
    found = model.tokenizer.encode_pieces(texts)
    cuts = np.cumsum(found.counts)[:-1]
    ends = [_word_ends(flags) for flags in np.split(found.flags, cuts)]
    return score_ids(model, np.split(found.ids, cuts), ends)


def kind_of_score(model: "Loaded", within_word: bool = False) -> str:
    """What `score` gives: scores of different kinds are not comparable."""
    if model.learner.objective.visibility == "causal":
        return "log-likelihood"
    return "pseudo-log-likelihood" + (" within words" if within_word else "")


def _word_ends(flags: np.ndarray) -> np.ndarray:
    """[tokens] of every token the place after its word."""
    last = np.append(flags[1:] & WORD_START, True).astype(bool)[: len(flags)]
    after = np.where(last, np.arange(1, len(flags) + 1), len(flags))
    return np.minimum.accumulate(after[::-1])[::-1]


def score_ids(model: "Loaded", ids: list[np.ndarray], ends: list[np.ndarray] | None = None) -> np.ndarray:
    """The same for the tokens of texts; ends: up to where tokens are hidden together with each of them."""
    model.check_head()
    frame, objective = Frame(model), model.learner.objective
    frame.check(ids)
    causal = objective.visibility == "causal"
    # What is read: a row for each text, or one for each token of each text. The longest come last.
    rows_of = [min(len(tokens), 1) if causal else len(tokens) for tokens in ids]
    asked = [(n, place) for n, count in enumerate(rows_of) for place in range(count)]
    asked.sort(key=lambda one: len(ids[one[0]]))
    found = np.zeros(len(ids))
    read = reader_of(model, len(asked))
    with progress("scoring", len(asked), "rows") as advance:
        while asked:
            length = rounded_up(len(ids[asked[-1][0]]) + len(frame.before) + len(frame.after), STEP)
            height = at_once(model, length, length if causal else 1)
            now, asked = asked[-height:], asked[:-height]
            rows = frame.rows([ids[n] for n, _ in now], height)
            if causal:
                batch = objective.make_batch(Noise(0, 0, 0, height), rows)
            else:
                begin, end = np.zeros((2, height, 1), np.int64)
                begin[: len(now), 0] = [place for _, place in now]
                end[: len(now), 0] = [place + 1 if ends is None else ends[n][place] for n, place in now]
                before = len(frame.before) * (end > 0)
                batch = asking(objective, rows, begin + before, end + before)
            nats_B = np.asarray(read(batch), np.float64).sum(axis=1)
            np.add.at(found, [n for n, _ in now], nats_B[: len(now)])
            advance(len(now))
    return found


def asking(objective: Objective, rows: Rows, begin: np.ndarray, end: np.ndarray) -> Batch:
    """The token at `begin` [B, 1] of each row is asked for, and those up to before `end` [B, 1] are hidden with it.

    Nothing is asked of a row whose end is its begin.
    """
    column = np.arange(rows.token.shape[1])
    hidden = (column >= begin) & (column < end)
    (task,) = objective.token_tasks
    return objective.ask(rows, hidden)._replace(tasks={task: chosen_places(hidden & (column == begin), rows.token, 1)})


def at_once(model: "Loaded", length: int, predicted: int) -> int:
    """How many rows of `length` tokens are read at once, in each of which so many are predicted."""
    return max(1, min(TOKENS // length, LOGITS // (predicted * model.recipe.tokenizer.size)))


def reader_of(model: "Loaded", rows: int) -> Any:
    """batch -> [B, P] float32: the log-probability of every scored target, 0 elsewhere; for so many rows in all."""
    fused = rows > FEW and model.recipe.model.width < WIDE
    return model.kept(("score", fused), lambda: _reader(model, fused))


def _reader(model: "Loaded", fused: bool) -> Any:
    """The reader; fused: by XLA."""
    from keras import ops

    from zoo.kernels.compiled import compiled
    from zoo.network.reader import Reader

    objective, reader = model.learner.objective, Reader(model.network, model.learner.layers)

    def read(batch: Batch) -> Any:
        (places,) = (batch.tasks[task] for task in objective.token_tasks)
        logits_BPV = reader.logits(objective.hidden(reader, batch))
        chosen_BP: Any = ops.squeeze(ops.take_along_axis(logits_BPV, places.target[..., None], axis=-1), -1)
        return places.weight * (chosen_BP - ops.logsumexp(logits_BPV, axis=-1))

    return compiled(read, fused=fused)
