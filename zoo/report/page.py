"""One page about runs: a single HTML file that opens from a disk and asks the network for nothing."""

import base64
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from zoo import __version__, accounting
from zoo.disk import write_whole
from zoo.errors import UserError, some
from zoo.progress import say
from zoo.report import measured, tables
from zoo.report import record as records_of
from zoo.report.curves import POINTS, Chart, charts
from zoo.report.example import example
from zoo.report.matrix import panels
from zoo.report.record import Group, Record
from zoo.report.settings import commands, differences, facts
from zoo.report.still import still
from zoo.train.run import to_yaml

HERE = Path(__file__).parent
REPORT = "report.html"  # what a report is called, where nobody says
COLOURS = 8  # of groups, in page.css; the next ones are dashed


def write(runs: Sequence[Path], file: Path, title: str = "", notes: Sequence[str] = ()) -> None:
    """Writes the report of some runs; what their numbers must not be compared for is said in it and on stderr.

    title: "" = the runs' names; notes: warnings that stand at its top, beside its own. UserError where a folder holds
    no run, or the file cannot be written.
    """
    records = records_of.read(runs)
    warnings = records_of.warnings(records)
    for warning in warnings:
        say(f"warning: {warning}")
    html = _render(records, title or some([one.label for one in records], 4), [*notes, *warnings])
    try:
        # An argument that was no UTF-8 when a run was started cannot be written as it was.
        write_whole(file, html.encode(errors="replace").decode())
    except OSError as error:
        raise UserError(f"the report cannot be written to {str(file)!r}: {error.strerror}") from None


def _render(records: Sequence[Record], title: str, warnings: Sequence[str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    groups = records_of.grouped(records)
    losses, training = charts(records)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    data = json.dumps(_data(groups, records, [*losses, *training]), separators=(",", ":"))
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        warnings=warnings,
        groups=groups,
        records=records,
        colour={group.label: _colour(number) for number, group in enumerate(groups)},
        line=[_colour(number) for number in _group_of(groups, records)],
        overview=tables.overview(groups),
        losses=[(chart, still(chart), tables.losses(groups, chart.title)) for chart in losses],
        training=training,
        points=POINTS,
        texts=measured.texts(groups),
        suites=measured.suites(groups),
        objectives=_objectives(groups),
        differences=differences(groups),
        recipe=to_yaml,
        facts=facts,
        commands=commands,
        data=Markup(data.replace("<", "\\u003c")),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls a script or a style that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _colour(number: int) -> str:
    """The CSS classes of a group's lines."""
    return f"c{number % COLOURS} d{min(number // COLOURS, 2)}"


def _group_of(groups: Sequence[Group], records: Sequence[Record]) -> list[int]:
    return [next(n for n, group in enumerate(groups) if one in group.records) for one in records]


def _data(groups: Sequence[Group], records: Sequence[Record], drawn: Sequence[Chart]) -> dict[str, Any]:
    """What page.js draws."""
    runs = [
        {
            "label": one.label,
            "group": group,
            "colour": _colour(group),
            "flops": accounting.flops(one.recipe).per_token,
            "update": one.recipe.train.tokens_per_update,
        }
        for one, group in zip(records, _group_of(groups, records), strict=True)
    ]
    return {"runs": runs, "charts": [asdict(chart) for chart in drawn]}


def _objectives(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Every objective with its settings and rows: what it is, who sees whom, what its first batch was."""
    found: dict[str, list[Record]] = {}
    for group in groups:
        recipe = group.records[0].recipe
        rows = recipe.data.model_dump(exclude={"corpus", "valid", "test"})
        key = json.dumps([recipe.objective, rows, recipe.row_tokens])
        found.setdefault(key, []).extend(group.records)
    return [
        {
            "name": same[0].recipe.objective["name"],
            "about": (sys.modules[type(same[0].objective).__module__].__doc__ or "").partition("\n\n")[0],
            "runs": ", ".join(one.label for one in same),
            "panels": panels(same[0].recipe),
            **_example(same[0]),
        }
        for same in found.values()
    ]


def _example(record: Record) -> Mapping[str, str]:
    try:
        return {"batch": example(record), "why": ""}
    except UserError as error:
        return {"batch": "", "why": str(error)}
