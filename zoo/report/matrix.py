"""Who sees whom, as text and as a picture: the visibility matrix of a small row."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo import registry
from zoo.batch import Stream
from zoo.errors import UserError
from zoo.report.toy import Toy, toy
from zoo.schema import Recipe
from zoo.visibility import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_TOKENS = 10
SHADES = (("#eef0f3", "hidden"), ("#a9c8e8", "seen, but not by the query stream"), ("#2f6db0", "seen"))


class Panel(NamedTuple):
    """One matrix: every row is a token that looks, every column a token that may be seen."""

    title: str
    see: np.ndarray  # [Q, K] bool
    rows: list[str]  # the tokens that look, as the network reads them
    columns: list[str]
    predicts: dict[int, str]  # row -> the token it must predict
    lost: np.ndarray  # [Q, K] bool: seen, but not by the query stream of the same place


def panels(recipe: Recipe, row_tokens: int = ROW_TOKENS) -> list[Panel]:
    """The matrices of one made-up row: one for every stream the objective reads, and for what looks at it."""
    made = toy(recipe, min(row_tokens, recipe.row_tokens))
    stream, source = made.batch.stream, made.batch.source
    name, scored = recipe.objective["name"], _scored(made)
    if made.objective.blind:
        at = sorted(scored)
        queries = Stream(*(field[:, at] for field in stream))
        predicts = {row: scored[place] for row, place in enumerate(at)}
        content = _panel(f"{name}: content stream", made, stream, stream, {})
        query = _panel(f"{name}: query stream", made, queries, stream, predicts, strict=True)
        # A query knows its place and not its token.
        return [content, query._replace(rows=[f"place {place}" for place in at])]
    if source is None:
        return [_panel(name, made, stream, stream, scored)]
    return [
        _panel(f"{name}: encoder", made, source, source, {}),
        _panel(f"{name}: decoder", made, stream, stream, scored),
        _panel(f"{name}: decoder to encoder", made, stream, source, {}),
    ]


def overview(recipe: Recipe, row_tokens: int = ROW_TOKENS) -> Panel:
    """The stack's matrix alone; where a query stream predicts, what it does not see is a lighter shade of the same."""
    made = toy(recipe, min(row_tokens, recipe.row_tokens))
    stream, scored = made.batch.stream, _scored(made)
    panel = _panel(recipe.objective["name"], made, stream, stream, scored)
    if made.objective.blind:
        at = sorted(scored)
        queries = Stream(*(field[:, at] for field in stream))
        panel.lost[at] = panel.see[at] & ~visible(queries, stream, strict=True)[0]
    return panel


def _panel(title: str, made: Toy, query: Stream, key: Stream, predicts: dict[int, str], strict: bool = False) -> Panel:
    rows, columns = ([made.words[token] for token in stream.token[0]] for stream in (query, key))
    see = np.asarray(visible(query, key, strict=strict))[0]
    return Panel(title, see, rows, columns, predicts, np.zeros_like(see))


def _scored(made: Toy) -> dict[int, str]:
    """Place of the stream -> the token to predict there."""
    found: dict[int, str] = {}
    for task in made.objective.token_tasks:
        places = made.batch.tasks[task]
        at = np.arange(made.batch.stream.token.shape[1]) if places.at is None else places.at[0]
        weight = places.weight[0] > 0
        found |= {int(place): made.words[t] for place, t in zip(at[weight], places.target[0][weight], strict=True)}
    return found


def as_text(panel: Panel) -> str:
    """The matrix in characters, column names written downwards; `-> word` marks what a row must predict."""
    wide, high = max(map(len, panel.rows)), max(map(len, panel.columns))
    lines = [f"{panel.title} (x: the token of the row sees the token of the column)"]
    for level in range(high):
        letters = [name.rjust(high)[level] for name in panel.columns]
        lines.append(" " * (wide + 1) + " ".join(letters).rstrip())
    for n, (name, seen) in enumerate(zip(panel.rows, panel.see, strict=True)):
        target = f"  -> {panel.predicts[n]}" if n in panel.predicts else ""
        lines.append(f"{name:>{wide}} " + " ".join("x" if yes else "." for yes in seen) + target)
    return "\n".join(lines)


def picture_file(recipe: Recipe) -> Path:
    """Where a recipe's picture goes unless told."""
    return Path(f"{recipe.name}-visibility.png")


def draw(drawn: Sequence[Panel], file: Path) -> None:
    """Writes the matrices side by side as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Patch

    figure = Figure(figsize=(0.4 + 4.4 * len(drawn), 4.6), dpi=150)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.2))
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _draw_panel(axes, panel)
    used = sorted(set().union(*(np.unique(_cells(panel)) for panel in drawn)), reverse=True)
    legend = [Patch(facecolor=SHADES[n][0], edgecolor="#9ca3af", label=SHADES[n][1]) for n in used]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    try:
        figure.savefig(file, format="png")
    except OSError as error:
        raise UserError(f"the picture cannot be written to {str(file)!r}: {error.strerror}") from None


def draw_families(file: Path) -> None:
    """docs/visibility.png: causal, masked and permutation side by side."""
    # Four of ten tokens, more than published, so that their order shows; rows of one part, so that it shows at once.
    changes: dict[str, dict[str, Any]] = {"gpt2-nano": {}, "bert-nano": {}, "xlnet-nano": {}}
    changes["xlnet-nano"] |= {"objective": {"rate": 0.4, "alpha": 2}, "model": {"memory": 0}}
    changes["xlnet-nano"] |= {"data": {"rows": "packed", "reuse": None, "bidirectional": False}}
    draw([overview(registry.recipe(name, **changed)) for name, changed in changes.items()], file)


def _cells(panel: Panel) -> np.ndarray:
    """[Q, K] what each cell shows, as an index of SHADES."""
    return np.where(panel.see, 2, 0) - np.where(panel.lost, 1, 0)


def _draw_panel(axes: "Axes", panel: Panel) -> None:
    from matplotlib.colors import ListedColormap

    cells = _cells(panel)
    colours = ListedColormap([colour for colour, _ in SHADES])
    axes.pcolormesh(cells, cmap=colours, vmin=0, vmax=len(SHADES) - 1, edgecolors="white", linewidth=1.5)
    axes.set(aspect="equal")
    axes.set_xlabel(panel.title, fontsize="large", labelpad=8)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(panel.columns)) + 0.5, panel.columns, rotation=90)
    axes.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.set_yticks(np.arange(len(panel.rows)) + 0.5, panel.rows)
    right = axes.secondary_yaxis("right")
    right.set_yticks(np.array(list(panel.predicts)) + 0.5, [f"→ {word}" for word in panel.predicts.values()])
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
