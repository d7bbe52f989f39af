"""A chart that needs no script: what page.js draws, once, by tokens."""

import math
from typing import NamedTuple

from zoo.progress import amount
from zoo.report.curves import Chart, Curve

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 36
TICKS = 5  # about so many on an axis


class Still(NamedTuple):
    """Where everything is, in the units of an SVG of WIDTH x HEIGHT."""

    lines: list[tuple[Curve, str]]  # and its points, as `polyline` takes them
    across: list[tuple[float, str]]  # ticks: y and label
    along: list[tuple[float, str]]  # x and label
    baselines: list[tuple[float, str]]  # y and name


def still(chart: Chart) -> Still:
    """The chart by tokens, all of it; smoothed where it is smoothed, and separate points."""
    shown = [curve for curve in chart.curves if curve.kind != "raw"]
    values = [value for curve in shown for value in curve.values] + [value for _, value in chart.baselines]
    last = max(max(curve.tokens) for curve in shown)
    low, high = min(values), max(values)
    high = high if high > low else low + 1

    def x(tokens: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * tokens / last, 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    lines = [
        (curve, " ".join(f"{x(t)},{y(v)}" for t, v in zip(curve.tokens, curve.values, strict=True))) for curve in shown
    ]
    across = [(y(tick), f"{tick:.4g}") for tick in ticks(low, high)]
    along = [(x(tick), amount(tick).strip()) for tick in ticks(0, last)]
    return Still(lines, across, along, [(y(value), name) for name, value in chart.baselines])


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
