"""What was measured of labels, as a table and for JSON."""

from collections.abc import Sequence
from typing import Any

from zoo.tuning.finetune import Tuned
from zoo.use.measures import Measure
from zoo.use.probe import Probed

Measures = dict[str, Measure]
LEAST = 9  # characters of a number


def probe_table(probed: Probed) -> list[str]:
    """Lines: always guessing the commonest label, then every layer."""
    layers = [(_layer_name(layer.number), layer.measures) for layer in probed.layers]
    return _table([("majority", {"accuracy": probed.baseline}), *layers], probed.labels)


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
    rows = [("majority", {"accuracy": tuned.baseline}), ("validation", tuned.best.valid.measures), *test]
    return _table(rows, tuned.labels)


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


def _table(rows: Sequence[tuple[str, Measures]], labels: Sequence[str]) -> list[str]:
    measured = list(rows[-1][1])
    # Of two labels it is that of the second; the one of tags is of entities, whatever their kind.
    names = [f"f1 of {labels[1]}" if name == "f1" and "mcc" in measured else name for name in measured]
    width, head = max(len(name) for name, _ in rows), ""
    for name in names:
        head += f"  {name.replace('_', ' '):>{max(len(name), LEAST)}} {'95% interval':14}"
    lines = [" " * width + head]
    for row, measures in rows:
        shown = (_shown(each, len(name)) for name, each in zip(names, measures.values(), strict=False))
        lines.append(f"{row:{width}}{''.join(shown)}")
    return [line.rstrip() for line in lines]


def _shown(measure: Measure, width: int) -> str:
    return f"  {measure.value:{max(width, LEAST)}.3f} {f'{measure.low:.3f} to {measure.high:.3f}':14}"
