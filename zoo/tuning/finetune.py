"""Fine-tuning: a pretrained model learns labels. Read this top to bottom, then training.py."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.corpus.glue import glue, split_of
from zoo.corpus.labelled import Asked, Example, check_labels, labels_of, part_off, read_examples
from zoo.errors import UserError, some
from zoo.progress import say
from zoo.saved import open_saved
from zoo.train.run import numbered
from zoo.tuning.labeller import Base
from zoo.tuning.training import Epoch, Found, Part, Training
from zoo.use.measures import Measure, marks_entities, share

VALID_SHARE = 0.1  # of what is given, where no validation part is
PATIENCE = 3  # epochs without a better one, after which a learning rate has had its chance


class Tuned(NamedTuple):
    """What came of it."""

    folder: Path
    labels: list[str]
    measure: str  # that chose the best epoch; of equal ones the lower loss
    best: Epoch
    baseline: Measure  # accuracy on the validation part of the label that is commonest in training
    test: Found | None


def finetune(
    checkpoint: str,
    asked: Asked,
    data: str,
    valid: str | None = None,
    test: str | None = None,
    out: str | Path | None = None,
    *,
    epochs: int | None = None,
    rates: Sequence[float] = (),
    seed: int = 0,
) -> Tuned:
    """Fine-tunes a checkpoint with the settings published for its family, and writes the best epoch to a new folder.

    data, valid, test: as of zoo.corpus.labelled.read_examples; valid None = the validation split of GLUE, else a tenth
    of the data, always the same one. out: None = runs/CHECKPOINT-TASK-<n>. rates: peaks of the learning rate, each
    tried from the start; seed: of the head, the order of examples, and dropout.

    Raises UserError where something given cannot be used; RunFailed where a loss is not finite.
    """
    folder = _new_folder(out, f"{checkpoint.rstrip('/').rpartition('/')[2].removeprefix('hf:')}-{asked.task}")
    base = Base.of(open_saved(checkpoint), asked.task)
    if (task := glue(data)) is not None:
        valid = valid or split_of(data, task.valid)
        test = test or (task.valid_too and split_of(data, task.valid_too))
    given = list(read_examples(data, asked))
    given, held = (given, list(read_examples(valid, asked))) if valid else part_off(given, VALID_SHARE)
    labels = labels_of(data, given)
    train, valid_part = _part(base, data, given, labels), _part(base, valid or f"a tenth of {data}", held, labels)
    test_part = _part(base, test, list(read_examples(test, asked)), labels) if test else None

    training = Training(base, labels, train, valid_part, epochs or base.family.epochs, seed)
    say(
        f"{len(given):,} examples to train on, {len(held):,} for validation; {len(labels)} labels: {some(labels)};"
        f" {training.epochs} epochs, {training.recipe.train.updates} updates of {base.family.rows} rows;"
        f" fresh weights: {some(training.labeller.fresh)}"
    )
    measure = task.measure if task else "f1" if asked.task == "tag" and marks_entities(set(labels)) else "accuracy"
    best, weights = _best(training, rates or [base.family.learning_rate], measure)
    training.labeller.learner.set_weights(weights)
    tested = training.measured(test_part) if test_part else None
    commonest = Counter(label for each in given for label in each.labels).most_common(1)[0][0]
    wanted = [label for each in held for label in each.labels]
    facts = {"data": data, "valid": valid_part.name, "seed": seed, "learning_rate": best.learning_rate}
    measures = {name: found._asdict() for name, found in best.valid.measures.items()}
    training.labeller.keep(folder, weights, checkpoint, {**facts, "epoch": best.number, "measures": measures})
    return Tuned(folder, labels, measure, best, share(wanted.count(commonest), len(wanted)), tested)


def _best(training: Training, rates: Sequence[float], measure: str) -> tuple[Epoch, dict]:
    """The best epoch of all, and its weights."""

    def order(epoch: Epoch) -> tuple[float, float]:
        return epoch.valid.measures[measure].value, -epoch.valid.loss

    best, weights = None, {}
    for rate in rates:
        own = None  # the best of this rate
        for epoch in training.run(rate):
            told = ", ".join(
                f"{name.replace('_', ' ')} {found.value:.3f}" for name, found in epoch.valid.measures.items()
            )
            say(
                f"learning rate {rate:g}, epoch {epoch.number} of {training.epochs}: training loss"
                f" {epoch.training_loss:.3f}, validation loss {epoch.valid.loss:.3f}, {told}"
            )
            if own is None or order(epoch) > order(own):
                own = epoch
            if best is None or order(epoch) > order(best):
                best, weights = epoch, training.weights()
            if epoch.number - own.number >= PATIENCE:
                say(f"no better epoch in {PATIENCE}: stopped")
                break
    assert best is not None  # there is at least one epoch
    return best, weights


def _new_folder(out: str | Path | None, stem: str) -> Path:
    """`out`, or the next free runs/STEM-<n>. UserError where something is there already."""
    if out is None:
        return Path("runs") / f"{stem}-{max(numbered(stem), default=0) + 1}"
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"--out {str(folder)!r} is there already; give a new or an empty folder")
    above = next(path for path in folder.absolute().parents if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError(f"--out {str(folder)!r} cannot be written: {str(above)!r} takes no new folder")
    return folder


def _part(base: Base, name: str, examples: list[Example], labels: list[str]) -> Part:
    check_labels(name, examples, labels)
    return Part(name, examples, base.framing.rows(examples, labels))
