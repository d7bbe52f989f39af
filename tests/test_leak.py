"""Nothing that predicts knows what it predicts: the laws of visibility, through a whole network, for every objective.

One token of the original text is changed at a time. Where that changes a target, the state that predicts it must stay;
and a state moves exactly when it may see the changed token. Shapes: T changes (one for every token), B rows, P places.
"""

import doctest
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from zoo.batch import Batch, Places, Rows, Stream
from zoo.noise import Noise
from zoo.objective import Objective, Vocab
from zoo.registry import objective, objectives
from zoo.sections import Model
from zoo.visibility import visible

VOCAB = Vocab(size=31, used=31, special={"eod": 0, "pad": 1, "cls": 2, "sep": 3, "mask": 4, "bos": 5})
LENGTH, ROWS = 13, 4
# Weights far larger than in training, so that whatever can move a state moves it visibly.
SHAPE: dict[str, Any] = {"width": 10, "heads": 2, "layers": 2, "inner": 14, "context": LENGTH, "init_std": 0.4}
MODELS = {
    "gpt2": Model(**SHAPE),
    "bert": Model(**SHAPE, norm="post", embedding_norm=True, segments=2),
    "xlnet": Model(**SHAPE, norm="post", positions="relative", attention_bias=False, segments=2),
}
SETTINGS = {"masked": [{}, {"whole_word": True}], "permutation": [{}, {"rate": 0.5}]}
CASES = [
    pytest.param(name, settings, model, id=f"{name}-{','.join(settings) or 'defaults'}-{model}")
    for name in objectives()
    for settings in SETTINGS.get(name, [{}])
    for model in MODELS
]


class Probe(NamedTuple):
    """What every change did, [T, B, P] bool, on scored places."""

    target: np.ndarray  # the target is another
    shown: np.ndarray  # the place's own input is its target: kept on purpose
    see: np.ndarray  # the place may see a token of the stream that is another
    moved: np.ndarray  # the state that predicts is another


def text() -> Rows:
    """Rows of two documents; the last row ends in padding."""
    draw = np.random.default_rng(0)
    token = draw.integers(6, VOCAB.used, (ROWS, LENGTH + 1)).astype(np.int32)
    doc = 1 + (np.arange(LENGTH + 1) > np.array([4, 6, 20, 8])[:, None]).astype(np.int32)
    doc[-1, -3:] = 0
    token[doc == 0] = VOCAB.special["pad"]
    start = np.maximum.accumulate(np.where(np.diff(doc, axis=1, prepend=0) > 0, np.arange(LENGTH + 1), 0), axis=1)
    position = (np.arange(LENGTH + 1) - start).astype(np.int32)
    words = (doc > 0) & (draw.random(doc.shape) < 0.7)
    return Rows(token, doc, position, np.zeros_like(doc), words, words)


def cut(rows: Rows, made: Objective) -> Rows:
    short = Rows(*(None if field is None else field[:, : LENGTH + made.extra_tokens] for field in rows))
    return short._replace(source=short) if made.encodes else short


def states(made: Objective, model: Model, batch: Batch) -> np.ndarray:
    """What predicts, [B, P, D]."""
    from zoo.network.initial import initialize
    from zoo.network.network import Network
    from zoo.network.reader import Reader

    model = model.model_copy(update={"encoder_layers": 2 * made.encodes})
    layers = made.build(model)
    if layers is not None:
        initialize(layers, model, 0, "objective.")
    return np.asarray(made.hidden(Reader(Network(model, VOCAB.size), layers), batch))


def stacked(batches: list[Batch]) -> Batch:
    def join(parts: Any) -> Any:
        return None if parts[0] is None else np.concatenate(parts)

    def joined(streams: list[Any]) -> Any:
        return None if streams[0] is None else Stream(*map(join, zip(*streams, strict=True)))

    tasks = {
        task: Places(*map(join, zip(*(batch.tasks[task] for batch in batches), strict=True)))
        for task in batches[0].tasks
    }
    return Batch(joined([batch.stream for batch in batches]), joined([batch.source for batch in batches]), tasks)


def probe(made: Objective, model: Model, seed: int = 0) -> Probe:
    rows = cut(text(), made)
    first = max(VOCAB.special.values()) + 1
    batches = [made.make_batch(Noise(seed, 0, 0, ROWS), rows)]
    for column in range(rows.token.shape[1]):
        token = rows.token.copy()
        plain = token[:, column] >= first
        token[plain, column] = (token[plain, column] - first + 7) % (VOCAB.used - first) + first
        batches.append(made.make_batch(Noise(seed, 0, 0, ROWS), rows._replace(token=token)))
    hidden = states(made, model, stacked(batches)).reshape(len(batches), ROWS, -1, model.width)
    base, changed = batches[0], batches[1:]
    places = next(iter(base.tasks.values()))
    query = base.stream
    if places.at is not None:
        query = Stream(*(np.take_along_axis(field, places.at, axis=1) for field in base.stream))
    see = visible(query, base.stream, strict=made.blind)
    scored = places.weight > 0
    target = np.stack([next(iter(batch.tasks.values())).target != places.target for batch in changed])
    other = np.stack([batch.stream.token != base.stream.token for batch in changed])
    shown = (query.token == places.target) & (places.at is not None) & (not made.blind)
    moved = np.abs(hidden[1:] - hidden[0]).max(axis=3) > 1e-5
    return Probe(target & scored, shown & scored, (see & other[:, :, None]).any(axis=3) & scored, moved & scored)


@pytest.mark.parametrize("name, settings, model", CASES)
def test_no_leak(name: str, settings: dict[str, Any], model: str) -> None:
    kind = objective(name)
    found = probe(kind(kind.Settings(**settings), VOCAB, LENGTH), MODELS[model])
    assert found.target.sum() > 4
    assert not (found.target & found.moved & ~found.shown).any()
    np.testing.assert_array_equal(found.moved, found.see)


@pytest.mark.parametrize("model", MODELS)
def test_a_state_moves_exactly_with_the_source_it_may_see(model: str) -> None:
    kind = objective("translation")
    made = kind(kind.Settings(), VOCAB, LENGTH)
    base = made.make_batch(Noise(0, 0, 0, ROWS), cut(text(), made))
    assert base.source is not None
    token = base.source.token
    batches = [base]
    for column in range(LENGTH):
        other = token.copy()
        other[:, column] = (token[:, column] - 5) % (VOCAB.used - 6) + 6
        batches.append(base._replace(source=base.source._replace(token=other)))
    hidden = states(made, MODELS[model], stacked(batches)).reshape(len(batches), ROWS, LENGTH, -1)
    moved_CBT = np.abs(hidden[1:] - hidden[0]).max(axis=3) > 1e-5
    np.testing.assert_array_equal(moved_CBT.transpose(1, 2, 0), visible(base.stream, base.source))


def test_tokens_kept_on_purpose_are_known() -> None:
    """The positive control: where a chosen token stays, what predicts it sees it."""
    masked: Any = objective("masked")
    found = probe(masked(masked.Settings(blank=0.4, random=0.0, rate=0.5), VOCAB, LENGTH), MODELS["bert"])
    kept = found.target & found.shown
    assert kept.any()
    assert found.moved[kept].all()
    assert not found.moved[found.target & ~found.shown].any()


# --- controls that must fail


def example() -> dict[str, Any]:
    """The objective that docs/add-an-objective.md shows."""
    page = (Path(__file__).parents[1] / "docs" / "add-an-objective.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown
    module: dict[str, Any] = {"__name__": "example"}
    exec(shown[1], module)
    return module


def leaks(found: Probe) -> int:
    return int((found.target & found.moved & ~found.shown).sum())


def test_the_documented_objective() -> None:
    module = example()
    found = doctest.DocTestParser().get_doctest(module["__doc__"], module, "example", None, None)
    assert doctest.DocTestRunner().run(found) == (0, len(found.examples))
    assert found.examples


def test_a_prefix_one_too_long_leaks() -> None:
    prefix = example()["Prefix"]

    class OffByOne(prefix):
        def make_batch(self, noise: Noise, rows: Rows) -> Batch:
            batch = super().make_batch(noise, rows)
            rank = batch.stream.rank
            return batch._replace(stream=batch.stream._replace(rank=np.maximum(rank, rank[:, :1] + 1)))

    right, wrong = (probe(kind(kind.Settings(), VOCAB, LENGTH), MODELS["gpt2"]) for kind in (prefix, OffByOne))
    np.testing.assert_array_equal(right.moved, right.see)
    assert leaks(right) == 0
    assert leaks(wrong) > 0


def test_a_lax_permutation_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query stream that sees its own rank knows its own token."""
    import zoo.network.network

    permutation: Any = objective("permutation")
    made = permutation(permutation.Settings(), VOCAB, LENGTH)
    monkeypatch.setattr(zoo.network.network, "visible", lambda query, key, strict=False: visible(query, key))
    assert leaks(probe(made, MODELS["xlnet"])) > 0


def test_a_masked_token_that_always_stays_leaks() -> None:
    masked: Any = objective("masked")
    found = probe(masked(masked.Settings(blank=0.0, random=0.0), VOCAB, LENGTH), MODELS["bert"])
    assert found.moved[found.target].all()
