"""Maps of attention as a picture: one layer, all its heads side by side or one of them in large."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UserError, nearest
from zoo.report.attention import Map
from zoo.report.batch import SPACE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS = 128  # on an axis
LONGEST_LABEL = 20  # characters
COLOURS = "Blues"
DPI = 120
CELL = 0.12  # inches at least, so that 6 points of type fit
NARROWEST = 0.6  # inches of either axis of a map, so that its name fits
GRID_SIDE, LONE_SIDE = 2.4, 6.0  # inches of the longer axis of a map among others, and of one alone; longer texts more


def draw(
    maps: Mapping[str, Map],
    file: Path,
    *,
    title: str = "",
    kind: str | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> None:
    """Writes the maps of one layer as a PNG.

    kind: None = the last of `maps`; layer and head count from 1, None = the last layer, all heads. Raises UserError for
    what is not there, for more than MOST_TOKENS tokens on an axis, and where the file cannot be written.
    """
    kind = list(maps)[-1] if kind is None else kind
    if kind not in maps:
        raise UserError(f"there is no attention of the kind {kind!r} here{nearest(kind, maps)}")
    share_LHQK, queries, keys = maps[kind]
    layers, heads = len(share_LHQK), len(share_LHQK[0])
    layer = layers if layer is None else layer
    first, last = (1, heads) if head is None else (head, head)
    for what, asked, there in (("layer", layer, layers), ("head", first, heads)):
        if not 1 <= asked <= there:
            raise UserError(f"there is no {what} {asked} of {kind} attention; allowed: 1 to {there}")
    if (longest := max(len(queries), len(keys))) > MOST_TOKENS:
        raise UserError(f"{longest} tokens are too many for a picture; at most {MOST_TOKENS} can be told apart")
    which = f"{heads} heads" if first < last else f"head {first} of {heads}"
    shown = {f"head {number}": share_LHQK[layer - 1, number - 1] for number in range(first, last + 1)}
    title = f"{title}\n{kind} attention, layer {layer} of {layers}, {which}".strip()
    figure = _figure(shown, _labels(queries), _labels(keys), title)
    try:
        figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.15)
    except OSError as error:
        raise UserError(f"the picture cannot be written to {str(file)!r}: {error.strerror}") from None


def _figure(shown: Mapping[str, np.ndarray], queries: list[str], keys: list[str], title: str) -> "Figure":
    """Maps [Q, K] of the same tokens in a grid, with one scale of colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    side = LONE_SIDE if len(shown) == 1 else GRID_SIDE
    cell = max(CELL, side / max(len(queries), len(keys)))
    points = min(10.0, 0.75 * 72 * cell)  # 72 an inch
    wide, high = (max(cell * len(tokens), NARROWEST) for tokens in (keys, queries))
    square = (high / len(queries)) / (wide / len(keys))  # 1 unless the map would be too narrow
    columns = _columns(len(shown), wide / high)
    rows = -(-len(shown) // columns)
    inside_wide, inside_high = columns * (wide + 0.2), rows * (high + 0.4)
    heading = max(10.0, 0.5 * inside_wide)  # points; to be read where the whole picture is looked at
    # A character is about 0.6 of its size wide.
    beside, above = (0.6 * points / 72 * max(map(len, words)) for words in (queries, keys))
    around = 0.16 * heading
    figure = Figure(figsize=(inside_wide + beside + around, inside_high + above + around), dpi=DPI)
    figure.set_layout_engine(ConstrainedLayoutEngine(compress=True))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[len(shown) :]:
        axes.remove()
    grid = grid[: len(shown)]
    for place, (axes, (name, share_QK)) in enumerate(zip(grid, shown.items(), strict=True)):
        axes.imshow(share_QK, cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest", aspect=square)
        axes.spines[:].set_color("#c3c8d0")
        axes.set_xlabel(name, fontsize=heading)
        axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=points)
        # Above the first row and beside the first column, which are always full, the labels serve all maps.
        axes.set_xticks(range(len(keys)), keys if place < columns else [""] * len(keys), rotation=90, parse_math=False)
        axes.set_yticks(range(len(queries)), [""] * len(queries) if place % columns else queries, parse_math=False)
    figure.suptitle(title, parse_math=False, fontsize=1.2 * heading)
    scale = ScalarMappable(cmap=COLOURS)
    scale.set_clim(0, 1)
    bar = figure.colorbar(scale, ax=grid, location="right" if inside_high >= inside_wide else "bottom", aspect=50)
    bar.set_label("share of the row's attention", fontsize=heading)
    bar.ax.tick_params(labelsize=heading)
    return figure


def _columns(count: int, shape: float) -> int:
    """How many columns suit `count` maps, each `shape` times as wide as high: a grid near 1.2 : 1, few empty places."""

    def fault(columns: int) -> float:
        rows = -(-count // columns)
        return abs(math.log(shape * columns / rows / 1.2)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=fault)


def _labels(tokens: list[str]) -> list[str]:
    """Tokens in characters that the font has, with a dot for every space."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()

    def label(token: str) -> str:
        signs = (c if c.isprintable() and ord(c) in known else c.encode("unicode_escape").decode() for c in token)
        shown = "".join(signs).replace(" ", SPACE)
        return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"

    return [label(token) for token in tokens]
