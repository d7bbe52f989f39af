"""A trained model, numpy in and numpy out."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.batch import Stream
from zoo.corpus.tokenizer import Tokenizer
from zoo.corpus.tokenizer import load as load_tokenizer
from zoo.corpus.trees import Parse
from zoo.errors import UserError
from zoo.objective import Vocab
from zoo.saved import Saved, open_saved
from zoo.schema import Recipe
from zoo.train.start import Learner, start_backend
from zoo.use.fill import Filled, fill
from zoo.use.generate import generate
from zoo.use.parse import parse
from zoo.use.score import score
from zoo.use.translate import translate


class Loaded:
    """A network with its recipe and tokenizer.

    recipe, learner, network (the Keras layers, `network.read(stream)`), and tokenizer, which raises UserError where the
    checkpoint came without one.
    """

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Tokenizer | None,
        learner: Learner,
        absent: frozenset[str] = frozenset(),
        source_tokenizer: Tokenizer | None = None,
    ):
        self.recipe = recipe
        self.learner = learner
        self.network = learner.network
        self._tokenizer, self._source_tokenizer, self._absent = tokenizer, source_tokenizer, absent
        self._compiled: dict[Any, Any] = {}  # kept by those who read with this model, from one call to the next

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back."""
        if self._tokenizer is None:
            raise UserError(f"{self.recipe.name} was saved without a tokenizer.json; it reads token ids, not text")
        return self._tokenizer

    @property
    def source_tokenizer(self) -> Tokenizer:
        """The same for what an encoder reads, which may have a vocabulary of its own."""
        return self._source_tokenizer or self.tokenizer

    def logits(
        self,
        token: np.ndarray,
        doc: np.ndarray | None = None,
        segment: np.ndarray | None = None,
        rank: np.ndarray | None = None,
        at: np.ndarray | None = None,
        source: np.ndarray | None = None,
        source_doc: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores of every vocabulary row, [B, T, V] float32, or [B, P, V] at the places `at` [B, P].

        token [B, T] int; doc [B, T] int, 0 = padding, None = one document a row; segment [B, T] int, None = 0; rank
        [B, T] int (zoo/visibility.py), None = the recipe's own for inference: by position for a causal model, else all
        see all through the content stream; source, source_doc [B, S] int: what an encoder reads, whose documents are
        seen by those of the same number. Raises UserError where the checkpoint has no vocabulary head.
        """
        self.check_head()
        return np.asarray(self.network.logits(self.hidden(token, doc, segment, rank, at, source, source_doc)))

    def hidden(
        self,
        token: np.ndarray,
        doc: np.ndarray | None = None,
        segment: np.ndarray | None = None,
        rank: np.ndarray | None = None,
        at: np.ndarray | None = None,
        source: np.ndarray | None = None,
        source_doc: np.ndarray | None = None,
    ) -> np.ndarray:
        """What the last layer gives, [B, T, D] float32, or [B, P, D] at the places `at`; arguments as of `logits`."""
        read = None if source is None else self.source_stream(source, source_doc)
        hidden = np.asarray(self.network.read(self.stream(token, doc, segment, rank), read))
        return hidden if at is None else np.take_along_axis(hidden, np.asarray(at)[:, :, None], axis=1)

    def generate(self, prompts: list[str], tokens: int = 64, **settings: Any) -> list[str]:
        """Every prompt continued by up to `tokens` tokens; settings as of zoo.use.generate.Sampling, and `cached`."""
        return generate(self, prompts, tokens, **settings)

    def translate(self, texts: list[str], **settings: Any) -> list[str]:
        """Every text's translation by an encoder-decoder; settings as of zoo.use.beam.Search."""
        return translate(self, texts, **settings)

    def parse(self, sentences: list[str], **settings: Any) -> list[Parse]:
        """Every sentence's tree, by a model that was trained on trees; see zoo.use.parse."""
        return parse(self, sentences, **settings)

    def fill(self, texts: list[str], best: int = 5) -> list[Filled]:
        """Every text with its blanks filled in, and the `best` guesses for each blank; see zoo.use.fill."""
        return fill(self, texts, best)

    def score(self, texts: list[str], *, within_word: bool = False) -> np.ndarray:
        """[texts] float64, nats: the log-likelihood, or the pseudo-log-likelihood; see zoo.use.score."""
        return score(self, texts, within_word=within_word)

    def check_head(self) -> None:
        """Raises UserError for a bare encoder, which cannot say which token stands where."""
        if missing := sorted(name for name in self._absent if name.startswith("head.")):
            raise UserError(f"{self.recipe.name} is a bare encoder: it was saved without {', '.join(missing)}")

    def kept(self, key: Any, make: Any) -> Any:
        """What `make()` gave when it was first asked for under this key; the newest few are kept."""
        if key not in self._compiled:
            while len(self._compiled) >= 8:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = make()
        return self._compiled[key]

    def stream(
        self,
        token: np.ndarray,
        doc: np.ndarray | None = None,
        segment: np.ndarray | None = None,
        rank: np.ndarray | None = None,
        size: int | None = None,
    ) -> Stream:
        """What the network reads for these arrays; positions count from every document's start in the row.

        size: ids are below it; None = below the vocabulary's.
        """
        token, size = np.asarray(token), size or self.recipe.tokenizer.size
        if token.ndim != 2 or not token.size or token.dtype.kind not in "iu":
            raise UserError(f"token is {token.dtype} {list(token.shape)}; it must be integers [rows, tokens]")
        for name, given in (("doc", doc), ("segment", segment), ("rank", rank)):
            if given is not None and np.shape(given) != token.shape:
                raise UserError(f"{name} has the shape {list(np.shape(given))}; token has {list(token.shape)}")
        if token.shape[1] > (longest := self.recipe.model.longest):
            memory = " and model.memory together," if self.recipe.model.memory else ""
            raise UserError(f"{token.shape[1]} tokens a row are more than model.context{memory} {longest}")
        if token.min() < 0 or token.max() >= size:
            raise UserError(f"token has ids from {token.min()} to {token.max()}; allowed: 0 to {size - 1}")
        token = token.astype(np.int32)
        doc = np.ones_like(token) if doc is None else np.asarray(doc, np.int32)
        segment = np.zeros_like(token) if segment is None else np.asarray(segment, np.int32)
        index = np.broadcast_to(np.arange(token.shape[1], dtype=np.int32), token.shape)
        starts = np.diff(doc, axis=1, prepend=doc[:, :1]) != 0
        position = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
        if rank is None:
            rank = index if self.learner.objective.visibility == "causal" else np.zeros_like(token)
        return Stream(token, doc, position, segment, np.asarray(rank, np.int32))

    def source_stream(self, token: np.ndarray, doc: np.ndarray | None = None) -> Stream:
        """What the encoder reads for these arrays: every token sees all of its document."""
        return self.stream(token, doc, rank=np.zeros(np.shape(token), np.int32), size=self.recipe.source_size)


def load(where: str | Path) -> Loaded:
    """A trained model, computing in float32.

    `where`: a registered name (`zoo checkpoints`), hf:ORG/NAME, or the folder of a run, a checkpoint or a Hugging Face
    model, as a Path or as text with a separator or a leading dot. Raises UserError where nothing whole is there.
    """
    return loaded(open_saved(where))


def loaded(saved: Saved) -> Loaded:
    """The same for one that is open."""
    recipe = saved.recipe
    found = {section: load_tokenizer(file, getattr(recipe, section)) for section, file in saved.tokenizers.items()}
    tokenizer = found.get("tokenizer")
    used, special = (recipe.tokenizer.size, {}) if tokenizer is None else (tokenizer.size, tokenizer.special)
    vocab = Vocab(recipe.scored_rows, used, special)
    start_backend()
    learner = Learner(recipe, vocab, "float32", drawn=False)
    learner.set_weights(saved.weights)
    return Loaded(recipe, tokenizer, learner, saved.absent, found.get("source_tokenizer"))
