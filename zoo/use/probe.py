"""Probing: what a frozen model's layers know, by how well a linear classifier reads it off them.

Shapes: N examples, D width.
"""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.corpus.labelled import Asked, Example, check_labels, labels_of, part_off, read_examples, reservoir
from zoo.errors import UserError, some
from zoo.progress import progress, say
from zoo.use.features import features
from zoo.use.measures import Measure, of_labels, share

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

MOST = 20_000  # examples, so that time and memory stay bounded
HELD_OUT = 0.2  # of the examples
FOLDS = 5
STRENGTHS = tuple(10.0**power for power in range(-4, 2))  # C: the smaller, the stronger the regularization


class Layer(NamedTuple):
    """What was read off one layer: 0 are the embeddings."""

    number: int
    strength: float  # the C that was chosen
    measures: dict[str, Measure]


class Probed(NamedTuple):
    """What was read off all layers."""

    labels: list[str]
    trained_on: int
    held_out: int
    baseline: Measure  # accuracy of always guessing the commonest label of the training part
    layers: list[Layer]


def probe(model: "Loaded", data: str, asked: Asked, test: str | None = None) -> Probed:
    """A logistic regression on the features of every layer (zoo/use/features.py).

    data, test: as of zoo.corpus.labelled.read_examples; test None = a fifth of the data is held out, of each label as
    much and always the same. Features are standardized by the training part, where cross-validation chooses the
    regularization. Raises UserError where there is nothing to tell apart.
    """
    train = _read(data, asked)
    train, held = part_off(train, HELD_OUT) if test is None else (train, _read(test, asked))
    labels = labels_of(data, train)
    check_labels(test or data, held, labels)
    number = {label: n for n, label in enumerate(labels)}
    gold_N, wanted_N = (np.array([number[example.labels[0]] for example in part]) for part in (train, held))
    if rare := [label for label, count in zip(labels, np.bincount(gold_N), strict=True) if count < 2]:
        raise UserError(f"{data}: probing needs two examples of every label to train on; there is one of {some(rare)}")
    found = features(model, [example.texts[0] for example in (*train, *held)])
    baseline = share(int((wanted_N == np.bincount(gold_N).argmax()).sum()), len(held))
    layers = []
    with progress("probing", len(found), "layers") as advance:
        for layer, of_all_ND in enumerate(found):
            strength, guess_N = _read_off(of_all_ND[: len(train)], gold_N, of_all_ND[len(train) :])
            layers.append(Layer(layer, strength, of_labels(wanted_N, guess_N, len(labels))))
            advance(1)
    return Probed(labels, len(train), len(held), baseline, layers)


def _read(place: str, asked: Asked) -> list[Example]:
    examples, count = reservoir(read_examples(place, asked), MOST)
    if count > MOST:
        say(f"{place}: {MOST:,} of its {count:,} examples, chosen at random, are used")
    return examples


def _read_off(train_ND: np.ndarray, gold_N: np.ndarray, held_ND: np.ndarray) -> tuple[float, np.ndarray]:
    """The C that was chosen, and the labels that are read off what was held out."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise UserError("probing needs scikit-learn: pip install 'objective-zoo[probe]'") from None
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": STRENGTHS},
        cv=StratifiedKFold(min(FOLDS, int(np.bincount(gold_N).min())), shuffle=True, random_state=0),
    )
    with warnings.catch_warnings(), threadpool_limits(1):  # several threads take longer on so little at once
        warnings.simplefilter("ignore", ConvergenceWarning)  # the search prefers what generalizes
        search.fit(train_ND, gold_N)
    return float(search.best_params_["logisticregression__C"]), search.predict(held_ND)
