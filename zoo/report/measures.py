"""What was measured of labels, as a table and for JSON."""

from collections.abc import Sequence
from typing import Any

from zoo.tuning.finetune import Tuned
from zoo.use.measures import Measure
from zoo.use.probe import Probed

Measures = dict[str, Measure]


def probe_table(probed: Probed) -> list[str]:
    """Lines: always guessing the commonest label, then every layer."""
    layers = [(_layer_name(layer.number), layer.measures) for layer in probed.layers]
    return _table([("majority", {"accuracy": probed.baseline}), *layers])


def _layer_name(number: int) -> str:
    return f"layer {number}" if number else "embeddings"


def probe_numbers(probed: Probed) -> dict[str, Any]:
    """The same for JSON."""
    layers = [{"layer": layer.number, "C": layer.strength, **_numbers(layer.measures)} for layer in probed.layers]
    sizes = {"labels": probed.labels, "trained_on": probed.trained_on, "held_out": probed.held_out}
    return {**sizes, "baseline": probed.baseline._asdict(), "layers": layers}


def finetune_table(tuned: Tuned) -> list[str]:
    """Lines: always guessing the commonest label, then the validation part, and the test part where there is one."""
    test = [] if tuned.test is None else [("test", tuned.test.measures)]
    return _table([("majority", {"accuracy": tuned.baseline}), ("validation", tuned.best.valid.measures), *test])


def finetune_numbers(tuned: Tuned) -> dict[str, Any]:
    """The same for JSON, and where it is kept."""
    parts = {"valid": tuned.best.valid} | ({} if tuned.test is None else {"test": tuned.test})
    return {
        "folder": str(tuned.folder),
        "labels": tuned.labels,
        "learning_rate": tuned.best.learning_rate,
        "epoch": tuned.best.number,
        "chosen_by": tuned.measure,
        "baseline": tuned.baseline._asdict(),
        **{name: {"loss": found.loss, **_numbers(found.measures)} for name, found in parts.items()},
    }


def _numbers(measures: Measures) -> dict[str, Any]:
    return {name: each._asdict() for name, each in measures.items()}


def _table(rows: Sequence[tuple[str, Measures]]) -> list[str]:
    names = list(rows[-1][1])
    width = max(len(name) for name, _ in rows)
    head = "".join(f"  {name.replace('_', ' '):>9} {'95% interval':14}" for name in names)
    lines = [f"{name:{width}}{''.join(map(_shown, measures.values()))}" for name, measures in rows]
    return [line.rstrip() for line in (" " * width + head, *lines)]


def _shown(measure: Measure) -> str:
    return f"  {measure.value:9.3f} {f'{measure.low:.3f} to {measure.high:.3f}':14}"
