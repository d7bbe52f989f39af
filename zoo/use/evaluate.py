"""The losses of a trained model on text that was held out, or on any other."""

from pathlib import Path
from typing import Any

from zoo.corpus.prepare import open_texts, tokenized
from zoo.errors import UserError
from zoo.home import home
from zoo.progress import progress
from zoo.saved import open_saved
from zoo.train import run
from zoo.train.evaluation import evaluate as evaluate_split
from zoo.train.evaluation import held_out
from zoo.use.loaded import loaded


def evaluate(where: str | Path, data: str | Path | None = None, **evaluation: Any) -> dict[str, float]:
    """The loss, every task's, and what follows from them, as training tells them of its validation split.

    where: as of zoo.load; data: a corpus that is evaluated as a whole, None = the validation split of its training;
    evaluation: keys of that section of the recipe, such as memory=640, above what the recipe says.

    Raises UserError for a model without its tokenizer, a corpus that cannot be read, or an impossible setting.
    """
    saved = open_saved(where)
    recipe = saved.recipe.with_changes(evaluation=evaluation)
    if data is not None:
        recipe = recipe.with_changes(data={"corpus": str(data), "valid": str(data)})
    if saved.tokenizer is None:
        raise UserError(f"{saved.where} has no tokenizer.json, and a corpus is text")
    texts = open_texts(run.corpus_of(recipe), recipe.data)
    corpus = tokenized(recipe, texts, saved.tokenizers, home())
    model = loaded(saved)
    from zoo.train.step import Evaluator

    split = held_out(recipe, model.learner, corpus.valid, corpus.tokenizer.special)
    done = 0
    with progress("evaluating", split.feed.rows, "rows") as advance:

        def shown(rows: int, of: int) -> None:
            nonlocal done
            advance(rows - done)
            done = rows

        return evaluate_split(Evaluator(model.learner), split, shown)
