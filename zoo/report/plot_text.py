"""Curves as text: in dots of Braille, eight to a character, or in ASCII, where those could not be told apart.

>>> print(plot([Curve("loss", [0, 10], [1.0, 0.0])], 24, 3, "updates", braille=False).plain)
  0.833 |*****
    0.5 |     *****
  0.167 |          *****
        +---------------
         0    10 updates
         * loss
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.progress import amount

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLORS, MARKS, POINT = ("cyan", "yellow", "magenta", "green", "red", "blue"), "*+x#%=", "o"
AXIS = 9  # characters left of the curves
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # the bits of a Braille character


class Curve(NamedTuple):
    """x and y of equal length, x rising; points: to be shown one by one, not joined."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    points: bool = False
    color: int = 0  # curves of one run have one, and one mark


def has_braille(console: "Console", lines: int) -> bool:
    """Whether so many lines can be told apart on a console in dots."""
    return console.encoding.lower().startswith("utf") and (lines <= 1 or console.color_system is not None)


def binned(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` points: the means of equally many that follow one another."""
    parts = np.array_split(np.arange(len(x)), min(count, len(x)))
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def plot(curves: Sequence[Curve], width: int, height: int, unit: str, *, braille: bool) -> "Text":
    """Curves on shared axes, `height` rows of them in lines of `width` characters, and what is what below.

    x begins at 0 and has this unit; what is not finite is left out.
    """
    from rich.text import Text

    shown = [_finite(curve) for curve in curves]
    shown = [curve for curve in shown if len(curve.x)]
    if not shown:
        return Text("nothing to plot yet")
    columns = max(width - AXIS, 8)
    right = max(float(np.max(curve.x)) for curve in shown) or 1.0
    low, high = (float(end([end(curve.y) for curve in shown])) for end in (np.min, np.max))
    if high == low:
        low, high = low - 0.5, high + 0.5
    cells, owners = np.zeros((height, columns), np.int32), np.zeros((height, columns), np.int32)
    for number, curve in enumerate(shown):
        across = np.clip(np.asarray(curve.x) / right * (2 * columns - 1), 0, 2 * columns - 1)
        down = (high - np.asarray(curve.y)) / (high - low) * (4 * height - 1)
        rows, places = _points(across, down) if curve.points else _line(across, down)
        if curve.points or not braille:
            cells[rows // 4, places // 2] = ord(_mark(curve))
        else:
            cells[rows // 4, places // 2] = np.where(cells < 0x2800, 0x2800, cells)[rows // 4, places // 2]
            np.bitwise_or.at(cells, (rows // 4, places // 2), DOTS[rows % 4, places % 2])
        owners[rows // 4, places // 2] = number
    side, corner, floor = "│└─" if braille else "|+-"
    text = Text()
    for row in range(height):
        label = f"{high - (high - low) * (row + 0.5) / height:.3g}" if row % 4 == 0 or height < 4 else ""
        text.append(f"{label:>{AXIS - 2}} {side}")
        for owner, group in groupby(zip(cells[row], owners[row], strict=True), lambda cell: cell[1]):
            style = COLORS[shown[owner].color % len(COLORS)]
            text.append("".join(chr(cell or ord(" ")) for cell, _ in group), style=style)
        text.append("\n")
    text.append(f"{corner:>{AXIS}}{floor * columns}\n")
    end = f"{amount(right)}{unit}" if right >= 1e4 else f"{right:,.0f} {unit}"
    text.append(f"{'':{AXIS}}0{end:>{columns - 1}}\n{'':{AXIS}}")
    for curve in {curve.name: curve for curve in shown}.values():
        mark = _mark(curve) if curve.points or not braille else "\u2812"
        text.append(f"{mark} {curve.name}   ", style=COLORS[curve.color % len(COLORS)])
    text.rstrip()
    return text


def _finite(curve: Curve) -> Curve:
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    return curve._replace(x=x[np.isfinite(y)], y=y[np.isfinite(y)])


def _mark(curve: Curve) -> str:
    return POINT if curve.points else MARKS[curve.color % len(MARKS)]


def _points(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.round(down).astype(int), np.round(across).astype(int)


def _line(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the dots of a line: in every column from where the one before it ended."""
    places = np.arange(int(np.ceil(across[0])), int(np.floor(across[-1])) + 1)
    if not len(places):
        return _points(across, down)
    at = np.round(np.interp(places, across, down)).astype(int)
    rows, columns = [], []
    for place, begin, end in zip(places, [at[0], *at[:-1]], at, strict=True):
        begin = begin + np.sign(end - begin)  # where the last column ended has its dot already
        span = np.arange(min(begin, end), max(begin, end) + 1)
        rows.append(span)
        columns.append(np.full(len(span), place))
    return np.concatenate(rows), np.concatenate(columns)
