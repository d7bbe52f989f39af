"""The losses of a trained model on text that was held out, or on any other."""

import math
from pathlib import Path
from typing import Any

from zoo.corpus.prepare import Corpus, open_texts, tokenized
from zoo.errors import UserError
from zoo.home import home
from zoo.progress import progress
from zoo.registry import objective
from zoo.saved import open_saved
from zoo.schema import Recipe
from zoo.train import run
from zoo.train.evaluation import evaluate as evaluate_split
from zoo.train.evaluation import held_out
from zoo.train.evaluation import likelihood as measures
from zoo.use.likelihood import Nats, bits, likelihood, pseudo_likelihood, words
from zoo.use.loaded import Loaded, loaded

SAMPLED = 512  # windows, where nobody asks for all


def evaluate(
    where: str | Path,
    data: str | Path | None = None,
    *,
    stride: int | None = None,
    windows: int | None = None,
    within_word: bool = False,
    **evaluation: Any,
) -> dict[str, Any]:
    """The loss, every task's, and what follows from them, as training tells them of its validation split; and

    - of a model that gives a text a likelihood, `bits_per_byte`: of a causal model by its loss, of a permutation model
      by its likelihood from left to right, in windows. Of a causal model also its perplexity, of tokens and of words.
    - of any other that hides tokens, `pseudo_bits_per_byte`, by a sample (zoo.use.likelihood).

    `NAME_interval` is what holds NAME in 95 of 100 such texts, told where the text is read in windows or sampled.

    where: as of zoo.load; data: a corpus that is evaluated as a whole, None = the validation split of its training;
    stride: every how many tokens a window on the text begins, in which a causal or permutation model reads; None = a
    causal model's rows are those of training, and of permutations SAMPLED windows are read that begin every half a
    window. windows: no more than so many of them, spread over the text. within_word: as of zoo.use.score.
    evaluation: keys of that section of the recipe, such as memory=640, above what the recipe says.

    Raises UserError for a model without its tokenizer, a corpus that cannot be read, or what does not go with it.
    """
    saved = open_saved(where)
    recipe = saved.recipe.with_changes(evaluation=evaluation)
    if data is not None:
        recipe = recipe.with_changes(data={"corpus": str(data), "valid": str(data)})
    if saved.tokenizer is None:
        raise UserError(f"{saved.where} has no tokenizer.json, and a corpus is text")
    model = loaded(saved._replace(recipe=recipe))
    _check(model, stride, within_word)
    texts = open_texts(run.corpus_of(recipe), recipe.data)
    corpus = tokenized(recipe, texts, saved.tokenizers, home())
    kind = model.learner.objective.visibility
    if stride is not None and kind == "causal":
        found = _of_causal(likelihood(model, corpus.valid, stride, windows), corpus, recipe.tokenizer.kind)
        return {"stride": stride, **found}
    found = _as_in_training(model, corpus)
    if "perplexity" in found:
        found |= _per_word(found["loss"], corpus, recipe.tokenizer.kind)
    if model.learner.objective.encodes:
        return found
    if model.learner.objective.blind:
        if stride is None:
            stride, windows = half_a_window(recipe), SAMPLED
        assert stride is not None  # such a model slides
        found |= {"stride": stride} | _in_bits(
            "bits_per_byte", likelihood(model, corpus.valid, stride, windows), corpus
        )
    elif kind == "full":
        nats = pseudo_likelihood(model, corpus.valid, within_word=within_word)
        found |= _in_bits(f"pseudo_bits_per_byte{'_within_word' if within_word else ''}", nats, corpus)
    return found


def half_a_window(recipe: Recipe) -> int | None:
    """The stride with which models are compared; None for those that do not slide."""
    kind = objective(recipe.objective["name"])
    reads_on = kind.visibility == "causal" and not kind.encodes and not recipe.evaluated.model.memory
    return max(1, recipe.row_tokens // 2) if reads_on or kind.blind else None


def _check(model: Loaded, stride: int | None, within_word: bool) -> None:
    recipe, kind = model.recipe, model.learner.objective
    if stride is not None and half_a_window(recipe) is None:
        if recipe.evaluated.model.memory:
            told = f"without a memory; how far {recipe.name} looks back is evaluation.memory"
        else:
            told = f"that give a text a likelihood; {recipe.name} gives it none"
        raise UserError(f"--stride is for models {told}")
    if within_word and kind.visibility != "full":
        raise UserError(f"--within-word is for --suite, and for models that hide tokens; {recipe.name} is none")


def _as_in_training(model: Loaded, corpus: Corpus) -> dict[str, Any]:
    from zoo.train.step import Evaluator

    tokens = corpus.valid
    # Rows that overlap, as XLNet's do, read each token several times: as many of them as the text would fill once.
    most = len(tokens.token) if model.recipe.data.reuse else None
    split = held_out(model.recipe, model.learner, tokens, corpus.tokenizer.special, most)
    done = 0
    with progress("evaluating", split.feed.rows, "rows") as advance:

        def shown(rows: int, of: int) -> None:
            nonlocal done
            advance(rows - done)
            done = rows

        return evaluate_split(Evaluator(model.learner), split, shown)


def _of_causal(nats: Nats, corpus: Corpus, kind: str) -> dict[str, Any]:
    """What is told of a causal model's likelihood."""
    found = {"loss": nats.mean, **measures(nats.mean, corpus.valid, kind), **_per_word(nats.mean, corpus, kind)}
    return found | _in_bits("bits_per_byte", nats, corpus)


def _per_word(loss: float, corpus: Corpus, kind: str) -> dict[str, float]:
    """The perplexity of a word or an end of a line: the text's nats by their number, however it was cut into tokens."""
    count = words(corpus.valid, corpus.tokenizer, kind)
    return {} if count is None else {"perplexity_per_word": math.exp(loss * len(corpus.valid.token) / count)}


def _in_bits(name: str, nats: Nats, corpus: Corpus) -> dict[str, Any]:
    mean, *interval = bits(nats, corpus.valid)
    return {name: mean, f"{name}_interval": interval}
