"""One training batch, decoded: what the network reads, what it must predict, and where."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from zoo.batch import Array, Batch, Places, Stream
from zoo.corpus.prepare import open_texts, tokenized
from zoo.corpus.shards import Tokens
from zoo.corpus.tokenizer import Tokenizer
from zoo.errors import UserError
from zoo.home import home
from zoo.noise import Noise
from zoo.objective import Objective, Vocab
from zoo.schema import Recipe
from zoo.train.feed import rows_of
from zoo.train.start import make_objective

WIDTH = 110  # of a line
MOST_STRETCHES = 8  # beyond these a field of the stream is summed up

SPACE = "\N{MIDDLE DOT}"
NO_TARGET = "(none)"

Readable = Callable[[Sequence[int]], list[str]]


def decoded(recipe: Recipe, step: int, count: int) -> str:
    """The first `count` rows of update `step` (from 1, as in metrics.jsonl), as the run of that recipe reads them."""
    if count > recipe.rows_per_update:
        raise UserError(f"--rows {count} is more than the {recipe.rows_per_update} rows of an update of {recipe.name}")
    corpus = tokenized(recipe, open_texts(recipe.data.corpus, recipe.data), {}, home())
    return decoded_rows(recipe, corpus.train, corpus.tokenizer, corpus.source_tokenizer, step, count)


def decoded_rows(
    recipe: Recipe, tokens: Tokens, tokenizer: Tokenizer, source_tokenizer: Tokenizer | None, step: int, count: int
) -> str:
    """The same from the tokens of its training split; source_tokenizer: None = both sides have one vocabulary."""
    seed = recipe.train.seed
    objective = make_objective(recipe, Vocab(recipe.scored_rows, tokenizer.size, tokenizer.special))
    # What the training loop would make of these rows.
    rows = rows_of(recipe, objective, tokens, tokenizer.special, seed).rows(step - 1, 0, count)
    batch = objective.make_batch(Noise(seed, step - 1, 0, count), rows)
    readable = tokenizer.tokens, (source_tokenizer or tokenizer).tokens
    told = []
    for row in range(count):
        title = f"{recipe.name}, update {step}, row {row} of {recipe.rows_per_update} ({SPACE} is a space)"
        told.append("\n".join([title, *as_text(objective, batch, row, *readable)]))
    return "\n\n".join(told)


def as_text(
    objective: Objective, batch: Batch, row: int, readable: Readable, source_readable: Readable | None = None
) -> Iterator[str]:
    """The lines that tell one row of a batch; `readable` turns ids into words, `source_readable` those of a source."""
    stream, tasks = _of_row(batch.stream, row), {name: _of_row(places, row) for name, places in batch.tasks.items()}
    marked = {
        int(at): target
        for name in objective.token_tasks
        if tasks[name].at is not None
        for at, target in zip(*_scored(tasks[name]), strict=True)
    }
    if batch.source is not None:
        yield "  encoder reads"
        yield from _stream(_of_row(batch.source, row), {}, source_readable or readable)
    yield f"  reads{', and predicts what stands behind the arrows' if marked else ''}"
    if batch.reset is not None:
        yield f"  ({'the first row of' if batch.reset[row] else 'goes on in'} its stream)"
    if batch.backward is not None and batch.backward[row]:
        yield "  (its text runs backwards)"
    if objective.blind:
        yield "  (a query stream predicts: it sees the tokens of lower rank than its place)"
    yield from _stream(stream, marked, readable)
    for name, places in tasks.items():
        yield from _task(name, places, stream, readable if name in objective.token_tasks else None)


def _of_row(fields: Any, row: int) -> Any:
    """A Stream or Places of one row, without the axis of rows."""
    return type(fields)(*(None if field is None else np.asarray(field)[row] for field in fields))


def _scored(places: Places) -> tuple[Array, Array]:
    """Where this row is scored, and the targets there."""
    at = np.arange(len(places.target)) if places.at is None else places.at
    return at[places.weight > 0], places.target[places.weight > 0]


def _stream(stream: Stream, marked: dict[int, int], readable: Readable) -> Iterator[str]:
    real = int((stream.doc > 0).sum())
    words = [_visible(word) for word in readable(stream.token[:real])]
    for place, target in marked.items():
        words[place] = f"{{{words[place]} -> {_visible(readable([target])[0])}}}"
    yield from _flow(words)
    if real < len(stream.doc):
        yield f"    padding at {_span(real, len(stream.doc) - 1)}"
    for field in ("doc", "position", "segment", "rank"):
        yield f"    {field:<8} {_stretches(getattr(stream, field)[:real])}"


def _task(name: str, places: Places, stream: Stream, readable: Readable | None) -> Iterator[str]:
    """What one task predicts; without `readable` its targets are classes."""
    at, targets = _scored(places)
    yield f"  {name}: {len(at)} of {len(places.target)} places are scored"
    if readable is None:
        yield from (f"    place {place}: class {target}" for place, target in zip(at, targets, strict=True))
    elif places.at is None:
        yield "    place by place it predicts"
        words = readable(places.target)
        yield from _flow(
            [_visible(word) if scored else NO_TARGET for word, scored in zip(words, places.weight > 0, strict=True)]
        )
    else:
        table: list[tuple[str, ...]] = [("place", "reads", "predicts", "document", "segment", "rank")]
        for place, read, target in zip(at, readable(stream.token[at]), readable(targets), strict=True):
            numbers = (str(getattr(stream, field)[place]) for field in ("doc", "segment", "rank"))
            table.append((str(place), _visible(read), _visible(target), *numbers))
        wide = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        for line in table:
            yield "    " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, wide, strict=True))


def _visible(word: str) -> str:
    """A token on one line, with a dot for every space."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in word)
    return shown.replace(" ", SPACE) or "''"


def _flow(words: Sequence[str]) -> Iterator[str]:
    """Words in lines, never broken within one."""
    line = "   "
    for word in words:
        if len(line) + 1 + len(word) > WIDTH and line.strip():
            yield line
            line = "   "
        line += f" {word}"
    yield line


def _span(begin: int, end: int) -> str:
    return str(begin) if begin == end else f"{begin}-{end}"


def _stretches(values: Array) -> str:
    """A field in words: where it is constant, where it rises by one from place to place."""
    told, begin = [], 0
    while begin < len(values):
        steps = np.diff(values[begin:])
        rises = len(steps) > 0 and steps[0] == 1
        other = np.flatnonzero(steps != (1 if rises else 0))
        end = begin + int(other[0]) if len(other) else len(values) - 1
        value = f"{values[begin]}..{values[end]}" if rises else str(values[begin])
        told.append(value if (begin, end) == (0, len(values) - 1) else f"{value} at {_span(begin, end)}")
        begin = end + 1
    if len(told) > MOST_STRETCHES:
        number, times = np.unique(values, return_counts=True)
        most = times.argmax()
        other = np.delete(number, most)
        return f"{number[most]} at {times[most]} of {len(values)} places, {other.min()} to {other.max()} elsewhere"
    return ", ".join(told)
