"""What an objective is: it turns rows of text into a batch, and a reader's hidden states into totals.

An objective decides who sees whom (ranks), what must be predicted (places) and how it is scored. It never touches
attention; the network never learns which objective it serves.
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zoo.batch import Array, Batch, Rows
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.sections import Data, Model, Section
from zoo.visibility import Kind

if TYPE_CHECKING:
    import keras

    from zoo.network.reader import Reader


class Vocab(NamedTuple):
    """What an objective may know of the tokenizer."""

    size: int  # rows that a loss's softmax covers: those of the embedding table, for the first GPT positions too
    used: int  # ids that the tokenizer gives out, 0 to used - 1
    special: dict[str, int]  # role -> id


class Objective:
    """Base class; an objective is the one subclass in its module, and the module's stem is its name."""

    class Settings(Section):
        """The keys under `objective:` in a recipe, beside `name`."""

    specials: ClassVar[tuple[str, ...]] = ()  # roles that the tokenizer must have
    never_target: ClassVar[tuple[str, ...]] = ()  # roles that are never predicted
    visibility: ClassVar[Kind] = "rank"  # what the ranks of make_batch amount to, known before any data
    extra_tokens: ClassVar[int] = 0  # tokens a row must hold beyond the row length
    encodes: ClassVar[bool] = False  # its batches have a source, which an encoder reads
    parts: ClassVar[bool] = False  # it takes rows of two parts, of which the next row goes on after the first
    blind: ClassVar[bool] = False  # a query stream predicts, which does not see ranks equal to its own

    def __init__(self, settings: Any, vocab: Vocab, row_tokens: int, reuse: int | None = None):
        """reuse: as data.reuse."""
        self.settings = settings
        self.vocab = vocab
        self.row_tokens = row_tokens
        self.reuse = reuse

    @classmethod
    def check(cls, settings: Any, data: Data) -> None:
        """Raises ValueError, in one line, where the settings do not go with the recipe's rows.

        data.row_tokens is the row length, never None.
        """

    @property
    def scales(self) -> dict[str, float]:
        """Every task's factor in the loss."""
        raise NotImplementedError

    def chance(self) -> dict[str, float]:
        """The loss, in nats, each task starts near: a uniform guess."""
        return {task: math.log(self.vocab.size) for task in self.scales}

    @property
    def token_tasks(self) -> list[str]:
        """The tasks whose targets are tokens; any other guesses among fewer classes."""
        by_chance = math.log(self.vocab.size)
        return [task for task, nats in self.chance().items() if nats == by_chance]

    def make_batch(self, noise: Noise, rows: Rows) -> Batch:
        """The batch of these rows; numpy, and a pure function of its arguments."""
        raise NotImplementedError

    def ask(self, rows: Rows, chosen: Array) -> Batch:
        """The batch in which exactly the tokens `chosen` [B, T] bool are predicted, each from all that are not chosen.

        Raises UserError where such a model cannot: it reads from the left.
        """
        raise UserError(f"an objective of visibility {self.visibility!r} predicts what follows; it fills no blanks")

    def in_order(self, rows: Rows, chosen: Array) -> Batch:
        """The batch in which the tokens `chosen` [B, T] bool are predicted, each from all that stand before it.

        So the sum of all is the likelihood of a text. What nothing stands before is not scored. Raises UserError where
        such a model cannot: it sees both sides, or reads a source.
        """
        raise UserError(f"an objective of visibility {self.visibility!r} gives a text no likelihood")

    def shapes(self, model: Model) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights that `build` adds; most objectives add none."""
        return {}

    def build(self, model: Model) -> "keras.layers.Layer | None":
        """Layers of the objective's own, such as a head for sentence pairs."""
        return None

    def hidden(self, reader: "Reader", batch: Batch) -> Array:
        """The states that predict, [B, P, D] (all T places where the task names none)."""
        (places,) = batch.tasks.values()
        return reader.read(batch.stream, batch.source, at=places.at)

    def score(self, reader: "Reader", batch: Batch) -> dict[str, Array]:
        """Every task's total: the weighted sum of its losses in nats, a float32 scalar."""
        ((task, places),) = batch.tasks.items()
        return {task: reader.token_loss(self.hidden(reader, batch), places)}
