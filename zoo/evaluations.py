"""What was measured of a run's model: evaluation.json in its folder, which reports read."""

import json
from pathlib import Path
from typing import Any

from zoo.disk import write_whole
from zoo.errors import UserError

EVALUATION = "evaluation.json"
VALIDATION = "validation split"  # the name of that text
Found = dict[str, Any]  # what one measurement found, by name


def name_of(place: str) -> str:
    """What a text or a suite is called: its file's or folder's own name."""
    return place if place.startswith("hf:") else Path(place).name or place


def read(folder: Path) -> dict[str, dict[str, Found]]:
    """All that is kept: by kind (`text` or `suite`), then by the name of what was measured on. {} where nothing is.

    Every measurement has `step`, the updates the model had seen. Of a text it has the losses and the measures that are
    defined for its objective; of a suite of minimal pairs `accuracy`, `interval`, `pairs`, `phenomena`, `paradigms`,
    and `score`: the kind of score that was compared.
    """
    file = folder / EVALUATION
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{str(file)!r} cannot be read ({error}); remove it, and measure again") from None


def known(folder: Path, kind: str, name: str, step: int) -> Found | None:
    """The measurement of that name, if the model has not been trained since."""
    found = read(folder).get(kind, {}).get(name)
    return found if found is not None and found["step"] == step else None


def keep(folder: Path, kind: str, name: str, found: Found) -> None:
    """Adds a measurement, or replaces that of the same name."""
    kept = read(folder)
    kept.setdefault(kind, {})[name] = found
    write_whole(folder / EVALUATION, json.dumps(kept, indent=1) + "\n")
