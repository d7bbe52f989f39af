"""Who sees whom and what a batch holds, as text and as a picture."""

from pathlib import Path

import numpy as np
import pytest

from zoo.batch import Batch, Places, Stream
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.objective import Objective, Vocab
from zoo.registry import recipe, recipes
from zoo.report import batch as batch_report
from zoo.report.matrix import Panel, as_text, draw, draw_families, overview, panels
from zoo.report.toy import toy


def grid(panel: Panel) -> list[str]:
    return ["".join("x" if yes else "." for yes in row) for row in panel.see]


def test_the_causal_matrix() -> None:
    (panel,) = panels(recipe("gpt2-small"), 4)
    assert as_text(panel).splitlines() == [
        "causal (x: the token of the row sees the token of the column)",
        "    t o d r",
        "    h l o a",
        "    e d g n",
        "the x . . .  -> old",
        "old x x . .  -> dog",
        "dog x x x .  -> ran",
        "ran x x x x  -> home",
    ]


def test_a_row_is_not_longer_than_the_recipe_s() -> None:
    short = recipe("gpt2-nano", model={"context": 4}, train={"tokens_per_update": 4})
    (panel,) = panels(short)
    assert panel.see.shape == (4, 4)


def test_the_masked_matrix_of_a_pair() -> None:
    (panel,) = panels(recipe("bert-base"), 10)
    assert grid(panel) == ["x" * 10] * 10
    assert [panel.rows[place] for place in (0, 4, 9)] == ["[CLS]", "[SEP]", "[SEP]"]
    assert panel.rows == panel.columns
    assert len(panel.predicts) == 2
    assert not {"[CLS]", "[SEP]", "[PAD]"} & set(panel.predicts.values())


ONE_PART = recipe("xlnet-base", model={"memory": 0}, data={"rows": "packed", "reuse": None, "bidirectional": False})


def test_the_two_matrices_of_permutation() -> None:
    content, query = panels(ONE_PART, 12)
    places = [int(label.removeprefix("place ")) for label in query.rows]
    assert len(places) == 2 == len(query.predicts)
    first, second = sorted(places, key=lambda place: query.see[places.index(place)].sum())
    for place in range(12):
        sees = set(np.flatnonzero(content.see[place]).tolist())
        assert sees == set(range(12)) - {first, second} | ({first} if place in places else set()) | (
            {second} if place == second else set()
        )
        if place in places:
            assert set(np.flatnonzero(query.see[places.index(place)]).tolist()) == sees - {place}
    assert [query.predicts[row] for row in range(2)] == [content.columns[place] for place in places]


def test_the_matrix_of_two_parts() -> None:
    """The first sees nothing of the second, which sees all of the first; no context sees cls and sep."""
    content, query = panels(recipe("xlnet-base", objective={"rate": 0.3}), 12)
    assert content.columns[:6] == ["the", "old", "dog", "ran", "home", "and"]
    assert [content.columns[place] for place in (8, 10, 11)] == ["<sep>", "<sep>", "<cls>"]
    assert not content.see[:6, 6:].any()
    assert content.see[6:, :6].all()
    assert all(content.see[place, place] for place in range(12))
    context = [place for place in (6, 7, 9) if place not in query.predicts]
    assert not content.see[np.ix_(context, [8, 10, 11])].any()
    assert len(query.rows) == len(query.predicts) > 1


def test_the_overview_shades_what_the_query_stream_loses() -> None:
    for name in ("gpt2-small", "bert-base"):
        assert not overview(recipe(name)).lost.any()
    panel, (content, _) = overview(ONE_PART), panels(ONE_PART)
    assert (panel.see == content.see).all()
    assert sorted(zip(*np.nonzero(panel.lost), strict=True)) == [(place, place) for place in sorted(panel.predicts)]


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_can_be_shown(name: str) -> None:
    for panel in panels(recipe(name)):
        height, width = panel.see.shape
        text = as_text(panel).splitlines()
        assert len(text) == 1 + max(map(len, panel.columns)) + height
        assert len(panel.rows) == height
        assert len(panel.columns) == width == 10
        assert all(panel.see.any(axis=1)) or "query" in panel.title


class Translated(Objective):
    """An encoder-decoder, which the network does not build yet: its pictures need no network."""

    scales = {"translated": 1.0}  # noqa: RUF012

    def make_batch(self, noise: Noise, rows: object) -> Batch:
        place = np.arange(3, dtype=np.int32)[None]
        stream, source = (Stream(place, place * 0 + 1, place, place * 0, rank) for rank in (place, place * 0))
        return Batch(stream, source, {"translated": Places(None, place, np.ones((1, 3), np.float32))})


def test_an_encoder_has_matrices_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> Objective:
        return Translated(Translated.Settings(), Vocab(3, 3, {}), 3)

    monkeypatch.setattr("zoo.report.toy.make_objective", made)
    encoder, decoder, cross = panels(recipe("gpt2-small"), 3)
    assert grid(encoder) == ["xxx"] * 3
    assert grid(decoder) == ["x..", "xx.", "xxx"]
    assert grid(cross) == ["xxx"] * 3
    assert [len(panel.predicts) for panel in (encoder, decoder, cross)] == [0, 3, 0]


def test_the_picture(tmp_path: Path) -> None:
    from matplotlib.image import imread

    file = tmp_path / "three.png"
    draw_families(file)
    picture = imread(file)
    height, width = picture.shape[:2]
    assert width > 2 * height > 800
    colours = {tuple(pixel) for pixel in (picture[::3, ::3, :3].reshape(-1, 3) * 255).round().astype(int).tolist()}
    assert {(0x2F, 0x6D, 0xB0), (0xEE, 0xF0, 0xF3), (0xA9, 0xC8, 0xE8)} <= colours
    with pytest.raises(UserError, match=r"cannot be written to '/nowhere/a\.png'"):
        draw(panels(recipe("gpt2-small")), Path("/nowhere/a.png"))


# --- batches


def told(name: str, row_tokens: int) -> tuple[list[str], Batch, list[str]]:
    made = toy(recipe(name), row_tokens)

    def readable(ids: object) -> list[str]:
        return [made.words[token] for token in ids]  # pyright: ignore

    return list(batch_report.as_text(made.objective, made.batch, 0, readable)), made.batch, made.words


def test_a_causal_row_as_text() -> None:
    lines, _, _ = told("gpt2-small", 4)
    assert lines == [
        "  reads",
        "    the old dog ran",
        "    doc      1",
        "    position 0..3",
        "    segment  0",
        "    rank     0..3",
        "  causal: 4 of 4 places are scored",
        "    place by place it predicts",
        "    old dog ran home",
    ]


@pytest.mark.parametrize("name", ["bert-base", "bert-nano", "xlnet-base"])
def test_what_is_predicted_stands_where_it_is_read(name: str) -> None:
    lines, batch, words = told(name, 40)
    task = next(iter(batch.tasks))
    places, text = batch.tasks[task], " ".join(line.strip() for line in lines)
    at = places.at[0][places.weight[0] > 0]
    for place, target in zip(at, places.target[0], strict=True):
        assert f"{{{words[batch.stream.token[0, place]]} -> {words[target]}}}" in text
    start = lines.index(next(line for line in lines if line.startswith(f"  {task}: ")))
    table = [line.split() for line in lines[start + 2 : start + 2 + len(at)]]
    assert [(int(row[0]), row[2], int(row[-1])) for row in table] == [
        (place, words[target], batch.stream.rank[0, place]) for place, target in zip(at, places.target[0], strict=True)
    ]
    assert lines[start] == f"  {task}: {len(at)} of {len(places.target[0])} places are scored"


def test_a_pair_tells_its_class_and_its_halves() -> None:
    lines, batch, _ = told("bert-base", 12)
    assert lines[-2:] == ["  next_sentence: 1 of 1 places are scored", "    place 0: class 0"]
    second = int(np.argmax(batch.stream.segment[0]))
    assert f"    segment  0 at 0-{second - 1}, 1 at {second}-11" in lines


def test_a_row_of_a_stream_says_how_it_goes_on() -> None:
    made = toy(recipe("xlnet-base"), 12)
    told = []
    for reset, backward in ((True, False), (False, True)):
        batch = made.batch._replace(reset=np.array([reset]), backward=np.array([backward]))
        lines = list(batch_report.as_text(made.objective, batch, 0, lambda ids: [made.words[token] for token in ids]))
        told.append(
            lines[1 : lines.index("  (a query stream predicts: it sees the tokens of lower rank than its place)")]
        )
    assert told == [["  (the first row of its stream)"], ["  (goes on in its stream)", "  (its text runs backwards)"]]


def test_padding_and_what_is_not_scored() -> None:
    token = np.array([[5, 6, 7, 0]], np.int32)
    stream = Stream(token, np.array([[1, 1, 2, 0]]), np.array([[0, 1, 0, 0]]), token * 0, np.arange(4)[None])
    places = Places(None, np.array([[6, 7, 0, 0]]), np.array([[1, 0, 0, 0]], np.float32))
    objective = toy(recipe("gpt2-small"), 4).objective
    batch = Batch(stream, None, {"causal": places})
    lines = list(batch_report.as_text(objective, batch, 0, lambda ids: [f"w{token}" for token in ids]))
    assert lines == [
        "  reads",
        "    w5 w6 w7",
        "    padding at 3",
        "    doc      1 at 0-1, 2 at 2",
        "    position 0..1 at 0-1, 0 at 2",
        "    segment  0",
        "    rank     0..2",
        "  causal: 1 of 4 places are scored",
        "    place by place it predicts",
        "    w6 (none) (none) (none)",
    ]


@pytest.mark.parametrize(
    "values, told",
    [
        ([4], "4"),
        ([4, 4, 4], "4"),
        ([4, 5, 6], "4..6"),
        ([0, 0, 1, 1], "0 at 0-1, 1 at 2-3"),
        ([0, 1, 2, 0, 1], "0..2 at 0-2, 0..1 at 3-4"),
        ([-1, 9] * 9, "-1 at 9 of 18 places, 9 to 9 elsewhere"),
    ],
)
def test_stretches(values: list[int], told: str) -> None:
    assert batch_report._stretches(np.array(values)) == told


@pytest.mark.parametrize("word, shown", [("a", "a"), (" a", "·a"), ("\n", "\\n"), ("", "''"), ("é", "é")])
def test_tokens_that_would_not_be_seen_are_quoted(word: str, shown: str) -> None:
    assert batch_report._visible(word) == shown
