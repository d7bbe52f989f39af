"""Rows of streams. A token's id tells where in the split it stands, so every row can be traced back to its text."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rows import FIRST, SPECIAL, FakeTokens, assert_same, joined, random_split

from zoo.batch import Rows
from zoo.corpus.rows import plan
from zoo.corpus.starts import SENTENCE_START
from zoo.corpus.streams import Segments, Streams
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.objective import Vocab
from zoo.objectives.causal import Causal
from zoo.objectives.permutation import Permutation
from zoo.sections import Data
from zoo.train.feed import Feed

ONE, BOTH, XLNET = {}, {"bidirectional": True}, {"bidirectional": True, "reuse": 8}
DATA = [ONE, BOTH, XLNET]


def bare(size: int, sentences: list[int] | None = None) -> FakeTokens:
    """A split without special tokens; sentences: where they start."""
    starts = np.array([0] if sentences is None else sentences)
    flags = np.zeros(size, np.uint8)
    flags[starts] = SENTENCE_START
    return FakeTokens(FIRST + np.arange(size, dtype=np.uint32), flags, np.array([0, size]), np.append(starts, size))


def make(tokens: Any, data: dict[str, Any], **options: Any) -> Any:
    given = {"row_tokens": 16, "extra": 0, "rows_per_update": 8, "special": SPECIAL, "seed": 5, "streams": 4} | options
    return plan(tokens, Data(rows="stream", **data), **given)


def by_stream(made: Any, rows: Rows) -> list[Rows]:
    """The rows of whole groups, one stream after another."""
    fields = [[None if field is None else field[s :: made.streams] for field in rows] for s in range(made.streams)]
    return [Rows(*own) for own in fields]


def epoch(made: Any, number: int = 0) -> list[Rows]:
    update, first = divmod(number * made.rows_in_epoch, made.rows_per_update)
    return by_stream(made, made.rows(update, first, made.rows_in_epoch))


def places(rows: Rows) -> np.ndarray:
    return rows.token.astype(np.int64) - FIRST


@pytest.mark.parametrize("data", DATA)
@given(update=st.integers(0, 60), cuts=st.lists(st.integers(1, 6), max_size=4), seed=st.integers(0, 3))
def test_a_row_is_a_function_of_seed_update_and_row(data: Any, update: int, cuts: list[int], seed: int) -> None:
    tokens = random_split(documents=40)
    bounds = [0, *np.minimum(np.cumsum(cuts, dtype=int), 8).tolist(), 8]
    first = make(tokens, data, seed=seed).rows(update, 0, 8)
    fresh = make(tokens, data, seed=seed)
    parts = [fresh.rows(update, a, b - a) for a, b in reversed(list(pairwise(bounds))) if a < b]
    assert_same(first, joined(parts[::-1]))


@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("data", [ONE, BOTH])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_rows_of_a_stream_are_one_text(data: Any, extra: int, number: int) -> None:
    """Consecutive rows overlap by `extra`; together all streams are the split, less than a row each left out."""
    size, turns = 1003, 2 if data else 1
    made = make(bare(size), data, extra=extra)
    own: list[int] = []
    for stream, rows in enumerate(epoch(made, number)):
        text = places(rows)
        np.testing.assert_array_equal(text[:-1, 16:], text[1:, :extra])
        read = np.concatenate([text[:, :16].ravel(), text[-1, 16:]])
        way = -1 if stream % turns else 1
        np.testing.assert_array_equal(np.diff(read) % size, np.full(len(read) - 1, way % size))
        own += read[: len(text) * 16].tolist() if way > 0 else []
        assert (rows.doc == 1).all()
        assert (rows.position == np.arange(16 + extra)).all()
        assert not rows.segment.any()
        assert rows.reset is not None
        assert rows.reset.tolist() == [True] + [False] * (len(text) - 1)
        if turns == 1:
            assert rows.backward is None
        else:
            assert rows.backward is not None
            assert (rows.backward == (way < 0)).all()
    assert len(set(own)) == len(own)
    assert len(own) > size - extra - 17 * 4 // turns


@pytest.mark.parametrize("extra", [0, 1])
def test_backwards_is_the_same_text_turned_round(extra: int) -> None:
    tokens = bare(16 * 12 + extra)  # rows fill their stretches
    forward, backward, *_ = epoch(make(tokens, BOTH, extra=extra))
    for field in ("token", "word_start", "sentence_start"):
        one, other = getattr(forward, field), getattr(backward, field)
        whole = np.append(one[:, :16].ravel(), one[-1, 16:])
        np.testing.assert_array_equal(np.append(other[:, :16].ravel(), other[-1, 16:]), whole[::-1])


@pytest.mark.parametrize("data", DATA)
def test_streams_go_on_from_update_to_update_and_epochs_differ(data: Any) -> None:
    made = make(bare(1003, list(range(0, 1003, 7))), data)
    whole = joined([made.rows(update, 0, 8) for update in range(-(-3 * made.rows_in_epoch // 8))])
    whole = Rows(*(None if field is None else field[: 3 * made.rows_in_epoch] for field in whole))
    for way, rows in zip(made.turn, by_stream(made, whole), strict=True):
        assert rows.reset is not None
        advance = np.diff(places(rows)[:, 0]) % 1003
        assert set(advance[~rows.reset[1:]].tolist()) == {int(way * made.step % 1003)}
    assert whole.reset is not None
    resets = np.flatnonzero(whole.reset)
    np.testing.assert_array_equal(resets, np.add.outer(np.arange(3) * made.rows_in_epoch, np.arange(4)).ravel())
    assert len({int(whole.token[n, 0]) for n in resets[::4]}) == 3


@given(
    size=st.integers(2, 400),
    streams=st.integers(1, 9),
    row_tokens=st.integers(1, 40),
    extra=st.integers(0, 1),
    memory=st.integers(0, 50),
)
def test_evaluation_predicts_every_token_once(
    size: int, streams: int, row_tokens: int, extra: int, memory: int
) -> None:
    tokens = bare(size)
    shape = {"row_tokens": row_tokens, "extra": extra, "streams": streams, "memory": memory}
    made = make(tokens, ONE, **shape, whole=True)
    assert 1 <= made.streams <= streams
    rows = made.rows(0, 0, made.rows_in_epoch)
    predicted = rows.token[:, extra:][(rows.doc[:, extra:] > 0) & (rows.doc[:, :row_tokens] > 0)]
    np.testing.assert_array_equal(np.sort(predicted), tokens.token[extra:])
    real = (rows.doc > 0).sum(axis=1).reshape(-1, made.streams)
    assert (np.diff(real, axis=0) <= 0).all()  # what is short is a stream's last, and nothing comes after it
    assert set(real.ravel()) - {0} <= set(range(1 + extra, row_tokens + extra + 1))
    assert made.streams == streams or real[0].min() == row_tokens + extra or made.streams == 1


def test_evaluation_reads_both_ways() -> None:
    tokens = bare(333)
    made = make(tokens, BOTH, extra=1, whole=True)
    for way in (0, 1):
        read = joined(epoch(made)[way::2])
        own = read.token[:, 1 - way : 17 - way][read.doc[:, 1:] > 0]  # the place that predicts, or what it predicts
        np.testing.assert_array_equal(np.sort(own), tokens.token[1:])


# --- XLNet's rows


def split_a_and_b(sentence: np.ndarray, begin: int, total: int, draws: np.ndarray) -> tuple[int, int, int, int]:
    """_split_a_and_b of XLNet's data_utils.py with its random choices given: where A and B begin and end."""
    size, end, cut_points = len(sentence), begin + 1, []
    while end < size:
        if sentence[end] != sentence[end - 1]:
            if end - begin >= total:
                break
            cut_points.append(end)
        end += 1
    coin, choice, anywhere = draws
    if not cut_points or coin < 0.5:
        a_end = cut_points[int(choice * len(cut_points))] if cut_points else end
        b_size = max(1, total - (a_end - begin))
        b_begin = int(anywhere * (size - b_size))
        b_end = b_begin + b_size
        while b_begin > 0 and sentence[b_begin - 1] == sentence[b_begin]:
            b_begin -= 1
        while b_end < size - 1 and sentence[b_end - 1] == sentence[b_end]:
            b_end += 1
    else:
        a_end = b_begin = cut_points[int(choice * len(cut_points))]
        b_end = end
    while a_end - begin + b_end - b_begin > total:
        if a_end - begin > b_end - b_begin:
            a_end -= 1
        else:
            b_end -= 1
    return begin, a_end, b_begin, b_end


@pytest.mark.parametrize("longest", [2, 9, 60])
@pytest.mark.parametrize("whole", [False, True])
@given(seed=st.integers(0, 10**6))
def test_a_and_b_are_the_release_s(longest: int, whole: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    size = int(draw.integers(130, 400))
    starts = np.cumsum(draw.integers(1, longest + 1, size))
    tokens = bare(size, [0, *starts[starts < size].tolist()])
    row_tokens = int(draw.integers(13, 30))
    reuse = int(draw.integers(1, row_tokens - 4))
    given: Any = {"bidirectional": True, "reuse": reuse}
    made = make(tokens, given, row_tokens=row_tokens, seed=seed, whole=whole)
    sentence = np.cumsum(tokens.flags > 0)
    # What a stream reads, from place 0 to its end, as in the release: data[::-1] of the stretch.
    origin = made.table(0)[:4, 0]
    streams = [(origin[s] + made.turn[s] * np.arange(made.length[s])) % size for s in range(4)]
    update = int(draw.integers(0, -(-made.rows_in_epoch // 8)))
    rows = made.rows(update, 0, 8)
    draws = Noise(seed, update, 0, 8).uniform("rows.segments", 3)
    for row in range(8):
        at = update * 8 + row
        if at >= made.rows_in_epoch:
            break
        text, i = streams[at % 4], at // 4 * reuse
        a, a_end, b, b_end = split_a_and_b(sentence[text], i + reuse, row_tokens - reuse - 3, draws[row])
        sep, cls = [SPECIAL["sep"]], [SPECIAL["cls"]]
        one, two, three = (tokens.token[text[part]] for part in (slice(i, i + reuse), slice(a, a_end), slice(b, b_end)))
        assert rows.token[row].tolist() == [*one, *two, *sep, *three, *sep, *cls]
        assert rows.segment[row].tolist() == [0] * (reuse + a_end - a + 1) + [1] * (b_end - b + 1) + [2]
        assert (rows.token[row] >= FIRST)[rows.sentence_start[row]].all()
    assert rows.label is None
    assert (rows.doc == 1).all()
    assert (rows.position == np.arange(row_tokens)).all()


def test_xlnet_s_rows_go_on_after_the_reused_tokens() -> None:
    made = make(bare(1003, list(range(0, 1003, 7))), XLNET)
    read = 0
    for rows, other in pairwise(epoch(made)):
        assert rows.backward is not None
        assert other.backward is not None
        assert (rows.backward != other.backward).all()
        text = places(rows)[:, :8].ravel()
        np.testing.assert_array_equal(np.diff(text) % 1003, np.full(len(text) - 1, 1002 if rows.backward[0] else 1))
        read += len(text)
    # Every stretch but what is short of a row more: three streams of its two stretches.
    assert read == 3 * 8 * made.rows_in_stream
    assert made.rows_in_stream == (501 - 16) // 8 + 1


# --- too little text


@pytest.mark.parametrize(
    "size, data, options, told",
    [
        (15, ONE, {}, "has 15 tokens, too few for one row of data.row_tokens 16; nearest that fits: 15"),
        (63, ONE, {}, "has 63 tokens, too few for train.streams 4: each needs 16 tokens for a row of 16 and a"),
        (63, ONE, {}, "nearest that fits: 2"),
        (64, ONE, {"extra": 1}, "nearest that fits: 2"),
        (64, ONE, {"memory": 17}, "needs 32 tokens for a row of 16 and a model.memory of 17; nearest that fits: 2"),
        (31, ONE, {"memory": 17}, "nearest that fits: none"),
        (31, BOTH, {}, "nearest that fits: 2"),
        (47, XLNET, {"memory": 17}, "needs 32 tokens for a row of 16 and a model.memory of 17; nearest that fits: 2"),
        (31, XLNET, {"memory": 17}, "nearest that fits: none"),
        (15, XLNET, {"whole": True}, "too few for one row of data.row_tokens 16; nearest that fits: 15"),
    ],
)  # fmt: skip
def test_too_little_text_is_refused(size: int, data: Any, options: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        make(bare(size), data, **options)
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    near = message.rpartition(" ")[2]
    if "train.streams" in message and near != "none":
        assert make(bare(size), data, **{**options, "streams": int(near)}).streams == int(near)


@pytest.mark.parametrize(
    "size, data, streams", [(64, ONE, 4), (63, ONE, 3), (5, ONE, 1), (47, BOTH, 4), (31, XLNET, 2)]
)
def test_evaluation_takes_fewer_streams_and_says_how_many(size: int, data: Any, streams: int) -> None:
    made = make(bare(size), data, whole=True)
    assert made.streams == streams
    assert made.about().startswith(f"{streams} streams of ")


def test_specials_are_needed_for_two_segments() -> None:
    with pytest.raises(UserError, match=r"data.reuse needs the special tokens cls and sep; tokenizer.specials has eod"):
        make(bare(500), XLNET, special={"eod": 0})


def test_a_kind_for_every_way_to_read() -> None:
    assert type(make(bare(500), BOTH)) is Streams
    assert type(make(bare(500), XLNET)) is Segments


# --- the feed


@pytest.mark.parametrize("micro_rows, parts", [(1, 8), (2, 4), (3, 4), (4, 2), (5, 2), (8, 2)])
@pytest.mark.parametrize("data", DATA)
def test_micro_batches_hold_rows_of_different_streams(data: Any, micro_rows: int, parts: int) -> None:
    kind: Any = Permutation if "reuse" in data else Causal
    objective = kind(kind.Settings(), Vocab(2000, 2000, SPECIAL), 16, data.get("reuse"))
    made = make(random_split(documents=40), data, extra=objective.extra_tokens)
    feed = Feed(objective, made, 8, micro_rows, 5)
    update = feed.update(3)
    assert len(update.batches) == len(update.firsts) == parts
    whole = made.rows(3, 0, 8)
    covered: list[int] = []
    for batch, first in zip(update.batches, update.firsts, strict=True):
        count = min(micro_rows, 4 - first % 4)
        covered += range(first, first + count)
        assert len(batch.stream.token) == feed.micro_rows == min(micro_rows, 4)
        np.testing.assert_array_equal(batch.stream.token[:count], whole.token[first : first + count, :16])
        for field in ("reset", "backward"):
            own, of = getattr(batch, field), getattr(whole, field)
            if of is None:
                assert own is None
                continue
            np.testing.assert_array_equal(own[:count], of[first : first + count])
            assert own.shape == (feed.micro_rows,)
            assert not own[count:].any()
        assert not batch.stream.doc[count:].any()
        assert not any(places.weight[count:].any() for places in batch.tasks.values())
    assert covered == list(range(8))
