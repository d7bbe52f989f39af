"""The names of weights: attribute paths, such as `blocks.3.attend.q.kernel`.

Keras numbers its own names by what else the process has built; an attribute path is the same everywhere.
"""

from collections.abc import Iterator
from typing import Any

import keras


def named_weights(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Every weight under `layer` by its attribute path, in the order of the attributes; a shared one once."""
    named: dict[str, keras.Variable] = {}
    seen: set[int] = set()
    for name, weight in _walk(layer, ""):
        if id(weight) not in seen:
            seen.add(id(weight))
            named[name] = weight
    return named


def _walk(value: Any, path: str) -> Iterator[tuple[str, keras.Variable]]:
    if isinstance(value, keras.Variable):
        yield path, value
    elif isinstance(value, keras.layers.Layer):
        dot = f"{path}." if path else ""
        for attribute, inner in vars(value).items():
            if not attribute.startswith("_"):
                yield from _walk(inner, f"{dot}{attribute}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{path}.{index}")
