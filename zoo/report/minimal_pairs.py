"""What a model made of minimal pairs, as a table and for JSON."""

from typing import Any

from zoo.use.minimal_pairs import Accuracy, Judged


def table(judged: Judged) -> list[str]:
    """Lines: all pairs, every phenomenon, and below it its paradigms where it has several."""
    rows = [("", judged.overall)]
    for phenomenon in judged.phenomena:
        rows.append(("", phenomenon.whole))
        if [one.name for one in phenomenon.paradigms] != [phenomenon.whole.name]:
            rows += [("  ", paradigm) for paradigm in phenomenon.paradigms]
    width = max(len(indent + one.name) for indent, one in rows)
    head = f"{'':{width}}    pairs   right   95% interval"
    return [head, *(f"{indent + one.name:{width}}  {_numbers(one)}" for indent, one in rows)]


def _numbers(one: Accuracy) -> str:
    low, high = one.interval
    return f"{one.pairs:7,}  {one.share:6.1%}   {low:.1%} to {high:.1%}"


def as_numbers(judged: Judged) -> dict[str, Any]:
    """The same for JSON: the overall accuracy, that of every phenomenon and of every paradigm, by name."""

    def numbers(one: Accuracy) -> dict[str, Any]:
        return {"accuracy": one.share, "interval": one.interval, "pairs": one.pairs}

    whole = {one.whole.name: numbers(one.whole) for one in judged.phenomena}
    paradigms = {each.name: numbers(each) for one in judged.phenomena for each in one.paradigms}
    return {**numbers(judged.overall), "phenomena": whole, "paradigms": paradigms}
