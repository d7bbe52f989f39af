"""A model that finds labels: a pretrained network with a head for them, as it is fine-tuned, kept and used.

Shapes: B rows, P tokens that are asked a row, C labels.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo import accounting, disk
from zoo.corpus.labelled import Example
from zoo.corpus.tokenizer import load as load_tokenizer
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.objective import Vocab
from zoo.progress import progress
from zoo.registered import write
from zoo.saved import Saved, open_saved
from zoo.schema import Recipe
from zoo.tensors import TensorFile, write_tensors
from zoo.train import checkpoint
from zoo.train.start import Learner, make_objective, start_backend
from zoo.tuning.family import Family, family_of
from zoo.tuning.labelling import Labelling, labelling
from zoo.tuning.rows import Framing, Row, laid
from zoo.use.frame import graph_height, graph_width

HEAD, LABELS = "head.safetensors", "labels.json"
HEADS = "objective."  # begins the names of the head's weights


class Base(NamedTuple):
    """A pretrained model, and how its family is fine-tuned."""

    saved: Saved
    vocab: Vocab
    family: Family
    framing: Framing

    @classmethod
    def of(cls, saved: Saved, task: str) -> "Base":
        """UserError for a model that reads no text, or of no family that is fine-tuned."""
        recipe = saved.recipe
        if saved.tokenizer is None:
            raise UserError(f"{saved.where} was saved without a tokenizer.json; it reads token ids, not text")
        tokenizer = load_tokenizer(saved.tokenizer, recipe.tokenizer)
        vocab = Vocab(recipe.scored_rows, tokenizer.size, tokenizer.special)
        objective = make_objective(recipe, vocab)
        if objective.encodes:
            raise UserError(
                f"{saved.where} is an encoder-decoder, for which no fine-tuning to labels is published;"
                " zoo probe reads its encoder"
            )
        family, model = family_of(objective), recipe.model
        framing = Framing(tokenizer, family, task, model.longest, model.segments)
        return cls(saved, vocab, family, framing)


class Labeller:
    """The network and the head. labels: in the order of their scores."""

    def __init__(self, base: Base, labels: Sequence[str], recipe: Recipe, *, drawn: bool = True):
        """recipe: that of the model, with the settings it is trained with; drawn=False: the head is set later."""
        start_backend()
        self.base, self.labels, self.framing = base, list(labels), base.framing
        family = base.family
        self.objective: Labelling = labelling(
            make_objective(base.saved.recipe, base.vocab),
            labels=len(labels),
            words=base.framing.task == "tag",
            pooled=family.pooled and base.framing.task != "tag",
            dropout=family.dropout,
            language=family.language,
        )
        self.learner = Learner(recipe, base.vocab, recipe.train.precision, drawn=drawn, objective=self.objective)
        known = base.saved.weights
        self.fresh = [name for name in self.learner.weights if name not in known and name.startswith(HEADS)]
        self.learner.set_weights({name: known[name] for name in self.learner.weights if name in known})
        self._scores = None

    def scores(self, rows: Sequence[Row]) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each row, and its scores [asked, C] float32; the longest rows come first."""
        if self._scores is None:
            self._scores = self._reader()
        order = sorted(range(len(rows)), key=lambda n: -len(rows[n].ids))
        while order:
            width = graph_width(len(rows[order[0]].ids), self.framing.longest)
            height = graph_height(len(order), width)
            now, order = order[:height], order[height:]
            batch = self.objective.make_batch(Noise(0, 0, 0, height), laid([rows[n] for n in now], height, width))
            for n, scores_PC in zip(now, np.asarray(self._scores(batch)), strict=False):
                _, place = np.unique(rows[n].at, return_inverse=True)  # words without a token share their neighbour's
                yield n, scores_PC[place]

    def _reader(self) -> Any:
        from zoo.kernels.compiled import compiled
        from zoo.network.reader import Reader

        causal = self.objective.visibility == "causal"
        reader = Reader(self.learner.network, self.learner.layers, causal=causal)
        return compiled(partial(self.objective.label_scores, reader))

    def names(self, example: Example, scores_PC: np.ndarray) -> list[str]:
        """The likeliest labels; a word that was cut off counts as outside of all entities, or has the first label."""
        found = [self.labels[best] for best in scores_PC.argmax(axis=1)]
        asked = len(example.texts) if self.framing.task == "tag" else 1
        return found + ["O" if "O" in self.labels else self.labels[0]] * (asked - len(found))

    def label(self, examples: Sequence[Example]) -> list[list[str]]:
        """The labels of each example: one, or one for each word."""
        rows = self.framing.rows([Example(each.texts, ()) for each in examples], self.labels)
        found: dict[int, list[str]] = {}
        with progress("labelling", len(rows), "rows") as advance:
            for n, scores_PC in self.scores(rows):
                found[n] = self.names(examples[n], scores_PC)
                advance(1)
        return [found[n] for n in range(len(rows))]

    def keep(self, folder: Path, weights: Mapping[str, np.ndarray], origin: str, facts: dict[str, Any]) -> None:
        """Writes the folder at once: the tuned network as any checkpoint, the head and the labels beside it.

        origin: the checkpoint that it was; facts: what labels.json says beside the labels.
        """
        saved = self.base.saved
        names = accounting.weights(saved.recipe, saved.absent)
        body = {name: weights[name] if name in weights else saved.weights[name] for name in names}
        head = {name: weights[name] for name in weights if name not in names and name.startswith(HEADS)}
        known = {"task": self.framing.task, "labels": self.labels, **facts}

        def beside(new: Path) -> None:
            write_tensors(head, new / HEAD)
            (new / LABELS).write_text(json.dumps(known, indent=1, ensure_ascii=False), encoding="utf-8")

        write(saved._replace(weights=body, facts={"origin": f"fine-tuned from {origin}"}), folder, beside=beside)


def load_labeller(folder: Path) -> Labeller:
    """What `keep` wrote, computing in float32. UserError where that is not there, or damaged."""
    if not (folder / LABELS).is_file():
        raise UserError(f"{str(folder)!r} holds no fine-tuned model ({LABELS} is missing); zoo finetune makes one")
    if (wrong := disk.damage(folder, (LABELS, HEAD, checkpoint.WEIGHTS))) is not None:
        raise UserError(f"the model in {str(folder)!r} is damaged ({wrong})")
    known = json.loads((folder / LABELS).read_text(encoding="utf-8"))
    base = Base.of(open_saved(folder), known["task"])
    recipe = base.saved.recipe
    exact = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "float32"})})
    labeller = Labeller(base, known["labels"], exact, drawn=False)
    labeller.learner.set_weights(TensorFile(folder / HEAD))
    return labeller
