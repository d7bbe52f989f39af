"""A trained model, numpy in and numpy out."""

from pathlib import Path

import numpy as np

from zoo.batch import Stream
from zoo.corpus.tokenizer import Tokenizer
from zoo.corpus.tokenizer import load as load_tokenizer
from zoo.errors import UserError
from zoo.objective import Vocab
from zoo.saved import open_saved
from zoo.schema import Recipe
from zoo.train.start import Learner, start_backend


class Loaded:
    """A network with its recipe and tokenizer.

    recipe, tokenizer, learner, and network (the Keras layers, `network.read(stream)`).
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, learner: Learner):
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.learner = learner
        self.network = learner.network

    def logits(
        self,
        token: np.ndarray,
        doc: np.ndarray | None = None,
        segment: np.ndarray | None = None,
        rank: np.ndarray | None = None,
        at: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores of every vocabulary row, [B, T, V] float32, or [B, P, V] at the places `at` [B, P].

        token [B, T] int; doc [B, T] int, 0 = padding, None = one document a row; segment [B, T] int, None = 0; rank
        [B, T] int (zoo/visibility.py), None = the recipe's own for inference: by position for a causal model, else all
        see all through the content stream.
        """
        stream = self.stream(token, doc, segment, rank)
        hidden = self.network.read(stream)
        if at is not None:
            hidden = np.take_along_axis(np.asarray(hidden, np.float32), np.asarray(at)[:, :, None], axis=1)
        return np.asarray(self.network.logits(hidden))

    def stream(
        self,
        token: np.ndarray,
        doc: np.ndarray | None = None,
        segment: np.ndarray | None = None,
        rank: np.ndarray | None = None,
    ) -> Stream:
        """What the network reads for these arrays; positions count from every document's start in the row."""
        token = np.asarray(token)
        if token.ndim != 2 or not token.size or token.dtype.kind not in "iu":
            raise UserError(f"token is {token.dtype} {list(token.shape)}; it must be integers [rows, tokens]")
        for name, given in (("doc", doc), ("segment", segment), ("rank", rank)):
            if given is not None and np.shape(given) != token.shape:
                raise UserError(f"{name} has the shape {list(np.shape(given))}; token has {list(token.shape)}")
        if token.shape[1] > self.recipe.model.context:
            raise UserError(f"{token.shape[1]} tokens a row are more than model.context {self.recipe.model.context}")
        if token.min() < 0 or token.max() >= self.recipe.tokenizer.size:
            raise UserError(
                f"token has ids from {token.min()} to {token.max()}; allowed: 0 to {self.recipe.tokenizer.size - 1}"
            )
        token = token.astype(np.int32)
        doc = np.ones_like(token) if doc is None else np.asarray(doc, np.int32)
        segment = np.zeros_like(token) if segment is None else np.asarray(segment, np.int32)
        index = np.broadcast_to(np.arange(token.shape[1], dtype=np.int32), token.shape)
        starts = np.diff(doc, axis=1, prepend=doc[:, :1]) != 0
        position = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
        if rank is None:
            rank = index if self.learner.objective.visibility == "causal" else np.zeros_like(token)
        return Stream(token, doc, position, segment, np.asarray(rank, np.int32))


def load(where: str | Path) -> Loaded:
    """A trained model, computing in float32.

    `where`: a registered name, hf:ORG/NAME, or a run's, checkpoint's or Hugging Face folder as a Path or as text with a
    separator or a leading dot. Raises UserError where nothing whole is there.
    """
    saved = open_saved(where)
    recipe = saved.recipe
    if saved.tokenizer is None:
        raise UserError(f"{saved.where} has no tokenizer.json")
    spec = recipe.tokenizer.model_copy(update={"file": str(saved.tokenizer)})
    tokenizer = load_tokenizer(saved.tokenizer, spec)
    start_backend()
    vocab = Vocab(recipe.tokenizer.size, tokenizer.size, tokenizer.special)
    learner = Learner(recipe, vocab, "float32", drawn=False)
    learner.set_weights(saved.weights)
    return Loaded(recipe, tokenizer, learner)
