"""Text written left to right by a causal model.

Shapes: B prompts, N new tokens, S slots of the cache, V vocabulary.
"""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from zoo.batch import Stream
from zoo.errors import UserError
from zoo.progress import progress
from zoo.schema import checked
from zoo.sections import Count, Section
from zoo.use.frame import rounded_up
from zoo.visibility import visible

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

STEP = 32  # prompts are padded to a multiple of it, and caches to twice that: graphs are made for each length


class Sampling(Section):
    """How the next token is chosen from its scores."""

    temperature: Annotated[float, Field(ge=0)] = 0.8  # scores are divided by it; 0 takes the likeliest token
    top_k: Count | None = None  # only among the k likeliest
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None  # only among the likeliest that together have this chance
    seed: Annotated[int, Field(ge=0)] = 0


def generate(
    model: "Loaded", prompts: list[str], tokens: int = 64, *, cached: bool = True, **settings: Any
) -> list[str]:
    """Every prompt continued by up to `tokens` tokens, or to the end of its document; settings: those of Sampling.

    The same seed gives the same text, whatever other prompts there are. A text that outgrows the context is read on
    from its second half; the context of a model with a memory is a row and what it remembers. cached=False reads all of
    it again for every token: slow, and what the cache is tested by.

    Raises UserError for a model that is not causal, a prompt longer than its context, or an impossible setting.
    """
    end = model.tokenizer.special.get("eod")
    # Text begins as a document does in training: after the end of another one.
    opening = [] if end is None else [end]
    texts = [opening + model.tokenizer.encode(prompt).tolist() for prompt in prompts]
    written = generate_ids(model, texts, tokens, checked(Sampling, settings, "generate"), end=end, cached=cached)
    return [model.tokenizer.decode(ids[len(opening) :]) for ids in written]


def generate_ids(
    model: "Loaded", prompts: list[list[int]], tokens: int, sampling: Sampling, *, end: int | None, cached: bool = True
) -> list[list[int]]:
    """The same for token ids: every prompt with what follows it, up to the id `end`, which is left out."""
    name, context = model.recipe.name, model.recipe.model.longest
    if model.learner.objective.visibility != "causal" or model.learner.objective.encodes:
        raise UserError(f"{name} is not trained to continue text; only causal recipes are")
    model.check_head()
    for ids in prompts:
        if not ids:
            raise UserError("an empty prompt needs a tokenizer with an end-of-document token")
        if len(ids) > context:
            raise UserError(f"the prompt has {len(ids)} tokens; {name} reads at most {context}")
    texts = [list(ids) for ids in prompts]
    draws = [np.random.default_rng([sampling.seed, n]) for n in range(len(texts))]
    scores = _cached_scores(model, texts, tokens) if cached else _scores(model, texts)
    open_ends = set(range(len(texts)))
    with progress("generating", tokens, "tokens") as advance:
        for _ in range(tokens):
            # Rows of the vocabulary that the tokenizer never gives out are no text.
            found = next(scores)[:, : model.learner.objective.vocab.used]
            for n, ids in enumerate(texts):
                ids.append(choose(found[n], sampling, draws[n]))
            open_ends -= {n for n in open_ends if texts[n][-1] == end}
            if not open_ends:
                break
            advance(1)
    written = zip(texts, map(len, prompts), strict=True)
    return [ids[: ids.index(end, first)] if end is not None and end in ids[first:] else ids for ids, first in written]


def choose(score_V: np.ndarray, sampling: Sampling, draws: np.random.Generator) -> int:
    """One token by its scores."""
    if sampling.temperature == 0:
        return int(np.argmax(score_V))
    score_V = score_V.astype(np.float64) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(score_V):
        least = np.partition(score_V, -sampling.top_k)[-sampling.top_k]
        score_V = np.where(score_V >= least, score_V, -np.inf)
    if sampling.top_p is not None:
        order = np.argsort(-score_V, kind="stable")
        chance = np.exp(score_V[order] - score_V[order[0]])
        chance /= chance.sum()
        # The token that crosses the threshold belongs to them (Holtzman et al. 2020, section 3.1).
        score_V[order[np.cumsum(chance) - chance >= sampling.top_p]] = -np.inf
    return int(np.argmax(score_V + draws.gumbel(size=len(score_V))))  # the Gumbel-max trick: a draw from the softmax


def window(length: int, context: int) -> int:
    """Where reading begins in a text of that length: it moves on by half a context when the context is full."""
    half = max(context // 2, 1)
    return max(0, rounded_up(length - context, half))


def padded(texts: list[list[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts of several lengths, aligned at their ends: token and doc [B, width], doc 0 = padding."""
    token = np.zeros((len(texts), width), np.int32)
    for row, ids in zip(token, texts, strict=True):
        row[width - len(ids) :] = ids
    lengths = np.array([len(ids) for ids in texts])
    return token, (np.arange(width) >= width - lengths[:, None]).astype(np.int32)


def _scores(model: "Loaded", texts: list[list[int]]) -> Any:
    """Scores [B, V] of what follows the texts as they are, again and again; each time all of it is read."""
    context = model.recipe.model.longest
    while True:
        seen = [ids[window(len(ids), context) :] for ids in texts]
        token, doc = padded(seen, max(map(len, seen)))
        last = np.full((len(texts), 1), token.shape[1] - 1)
        yield model.logits(token, doc, at=last)[:, 0]


def _cached_scores(model: "Loaded", texts: list[list[int]], tokens: int) -> Any:
    """The same, where only what was appended since is read. A slot whose doc is 0 is padding, or empty."""
    context = model.recipe.model.longest
    longest = max(map(len, texts))
    most = rounded_up(longest, STEP) + tokens if longest + tokens <= context else context + STEP
    slots = rounded_up(most, 2 * STEP)
    begin, go_on = model.kept(("generate", len(texts), slots), lambda: _readers(model, len(texts), slots))
    slot = np.broadcast_to(np.arange(slots, dtype=np.int32), (len(texts), slots))
    doc, filled, starts = np.zeros_like(slot), 0, []

    def new(token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of the next slots, as one array, and what they may see; the order of the slots is the rank."""
        position = np.maximum(np.cumsum(doc, axis=1) - 1, 0).astype(np.int32)
        everything = Stream(slot, doc, position, np.zeros_like(doc), slot)
        stream = Stream(*(field[:, filled : filled + token.shape[1]] for field in everything))._replace(token=token)
        return np.stack(stream), visible(stream, everything)

    while True:
        now = [window(len(ids), context) for ids in texts]
        if now != starts:  # at first, and where a text outgrew its context
            starts = now
            seen = [ids[start:] for ids, start in zip(texts, starts, strict=True)]
            width = rounded_up(max(map(len, seen)), STEP)
            token, real = padded(seen, width)
            doc, filled = np.pad(real, [(0, 0), (0, slots - width)]), 0
            yield np.asarray(begin(*new(token)))
            filled = width
        else:
            doc[:, filled] = 1
            yield np.asarray(go_on(*new(np.array([ids[-1:] for ids in texts], np.int32)), np.int32(filled)))
            filled += 1


def _readers(model: "Loaded", rows: int, slots: int) -> tuple[Any, Any]:
    """Two functions that give the scores [B, V] after the last token: of the first tokens, and of one more."""
    from zoo.kernels.compiled import compiled
    from zoo.network.cache import Cache

    network = model.network
    cache = Cache(model.recipe.model, rows, slots, network.compute_dtype)

    def read(fields_5BN: Any, see_BNS: Any, first: Any = None) -> Any:
        stream = Stream(*(fields_5BN[i] for i in range(len(Stream._fields))))
        return network.logits(network.extend(stream, see_BNS, cache, first)[:, -1:])[:, 0]

    return compiled(read), compiled(read, fused=True)
