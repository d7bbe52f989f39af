"""Row plans. A token's id tells where in the split it stands, so every row can be traced back to its text."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.batch import Rows
from zoo.corpus.pairs import SHORT_RATE, Pairs, fitting
from zoo.corpus.rows import RowPlan, plan
from zoo.corpus.starts import SENTENCE_START, WORD_START
from zoo.errors import UserError
from zoo.sections import Data

SPECIAL = {"eod": 0, "pad": 1, "cls": 2, "sep": 3, "mask": 4}
FIRST = 10  # the id of the split's first token
KINDS = ("packed", "document", "pairs")


class FakeTokens(NamedTuple):
    token: np.ndarray
    flags: np.ndarray
    documents: np.ndarray
    sentences: np.ndarray


def split(documents: Sequence[Sequence[int]]) -> FakeTokens:
    """A split of documents given as the lengths of their sentences; each document ends in eod."""
    sizes = [sum(sentences) + 1 for sentences in documents]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    starts = [
        start + before
        for start, sentences in zip(bounds, documents, strict=False)
        for before in np.cumsum([0, *sentences[:-1]])
    ]
    token = FIRST + np.arange(bounds[-1], dtype=np.uint32)
    flags = np.where(np.arange(len(token)) % 3, 0, WORD_START).astype(np.uint8)
    flags[starts] |= WORD_START | SENTENCE_START
    token[bounds[1:] - 1], flags[bounds[1:] - 1] = SPECIAL["eod"], 0
    return FakeTokens(token, flags, bounds, np.array(starts))


def random_split(seed: int = 0, documents: int = 13, longest: int = 9) -> FakeTokens:
    draw = np.random.default_rng(seed)
    return split([draw.integers(1, longest, draw.integers(1, 30)).tolist() for _ in range(documents)])


def make(tokens: Any, kind: Any, *, across: bool = False, **options: Any) -> RowPlan:
    given = {"row_tokens": 16, "extra": 0, "rows_per_update": 7, "special": SPECIAL, "seed": 5} | options
    return plan(tokens, Data(rows=kind, across_documents=across), **given)


def epoch(made: RowPlan, number: int = 0) -> Rows:
    """All rows of an epoch."""
    update, first = divmod(number * made.rows_in_epoch, made.rows_per_update)
    return made.rows(update, first, made.rows_in_epoch)


def joined(parts: Sequence[Rows]) -> Rows:
    return Rows(*(None if field[0] is None else np.concatenate(field) for field in zip(*parts, strict=True)))


def assert_same(one: Rows, other: Rows) -> None:
    for a, b in zip(one, other, strict=True):
        if a is None:
            assert b is None
        else:
            assert b is not None
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def text(rows: Rows) -> np.ndarray:
    """The indices in the split of all tokens that are text."""
    return rows.token[rows.token >= FIRST].astype(np.int64) - FIRST


@pytest.mark.parametrize("kind", KINDS)
@given(update=st.integers(0, 60), cuts=st.lists(st.integers(1, 6), max_size=4), seed=st.integers(0, 3))
def test_a_row_is_a_function_of_seed_update_and_row(kind: str, update: int, cuts: list[int], seed: int) -> None:
    """However an update is split, and whatever was read before (the plan is asked in another order)."""
    tokens = random_split()
    bounds = [0, *np.minimum(np.cumsum(cuts), 7), 7]
    first = make(tokens, kind, seed=seed).rows(update, 0, 7)
    fresh = make(tokens, kind, seed=seed)
    parts = [fresh.rows(update, a, b - a) for a, b in reversed(list(pairwise(bounds))) if a < b]
    assert_same(first, joined(parts[::-1]))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_on_from_update_to_update(kind: str) -> None:
    made = make(random_split(), kind)
    assert_same(made.rows(3, 0, 14), joined([made.rows(3, 0, 7), made.rows(4, 0, 7)]))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_seeds_differ(kind: str) -> None:
    tokens = random_split()
    first = epoch(make(tokens, kind)).token
    assert not np.array_equal(first, epoch(make(tokens, kind), 1).token)
    assert not np.array_equal(first, epoch(make(tokens, kind, seed=6)).token)


@pytest.mark.parametrize("kind", KINDS)
def test_types_padding_and_flags(kind: str) -> None:
    tokens = random_split()
    rows = epoch(make(tokens, kind, whole=True))
    fields = (rows.token, rows.doc, rows.position, rows.segment, rows.word_start, rows.sentence_start)
    assert [field.dtype for field in fields] == [np.int32] * 4 + [bool] * 2
    padding = rows.doc == 0
    assert padding.any()
    assert (rows.token[padding] == SPECIAL["pad"]).all()
    for field in fields[2:]:
        assert not field[padding].any()
    here = rows.token >= FIRST
    np.testing.assert_array_equal(rows.word_start[here], tokens.flags[text(rows)] & WORD_START > 0)
    np.testing.assert_array_equal(rows.sentence_start[here], tokens.flags[text(rows)] & SENTENCE_START > 0)
    assert not rows.word_start[~here].any()


# --- packed


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_packed_rows_tile_the_split(extra: int, number: int) -> None:
    """No token twice in an epoch, and less than a row left out."""
    tokens = random_split()
    made = make(tokens, "packed", extra=extra)
    rows = epoch(made, number)
    own = text(rows._replace(token=rows.token[:, :16]))
    assert len(set(own)) == len(own)
    ends = (rows.token[:, :16] == SPECIAL["eod"]).sum()
    assert len(tokens.token) - 16 < len(own) + ends <= len(tokens.token)
    assert (rows.doc > 0).all()


def test_packed_rows_end_elsewhere_in_every_epoch() -> None:
    made = make(random_split(), "packed")
    assert len({int(epoch(made, number).token[0, 0]) % 16 for number in range(12)}) > 3


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("size", [2, 16, 17, 18, 32, 33, 90])
def test_a_whole_packed_plan_predicts_every_token_once(extra: int, size: int) -> None:
    tokens = split([[size // 2 - 1], [size - size // 2 - 1]])
    rows = epoch(make(tokens, "packed", extra=extra, whole=True))
    assert (rows.doc[:, extra] > 0).all()  # no row is in vain
    predicted = rows.token[:, extra:][rows.doc[:, extra:] > 0]
    np.testing.assert_array_equal(np.sort(predicted), np.sort(tokens.token[extra:]))


def test_packed_rows_share_their_extra_tokens() -> None:
    tokens = random_split()
    rows = epoch(make(tokens, "packed", extra=3, whole=True)).token
    first = {int(row[0]): row for row in rows}
    shared = [first[int(row[16])][:3] for row in rows if int(row[16]) in first]
    assert len(shared) > 5
    np.testing.assert_array_equal(shared, [row[16:] for row in rows if int(row[16]) in first])


def test_packed_documents_and_positions() -> None:
    tokens = random_split()
    row_of = np.searchsorted(tokens.documents, np.arange(len(tokens.token)), side="right")
    some = 0
    for token, doc, position in zip(*epoch(make(tokens, "packed"))[:3], strict=True):
        start = int(token[token >= FIRST][0]) - FIRST - int(np.argmax(token >= FIRST))
        at = (start + np.arange(16)) % len(tokens.token)
        last, number, begin = row_of[at[0]], 1, 0
        for column, place in enumerate(at):
            if row_of[place] != last:
                last, number, begin = row_of[place], number + 1, column
            assert (doc[column], position[column]) == (number, column - begin)
            some += number > 1
    assert some


def test_across_documents_a_row_is_one_text() -> None:
    rows = epoch(make(random_split(), "packed", across=True))
    assert (rows.doc == 1).all()
    assert (rows.position == np.arange(16)).all()


def test_a_split_shorter_than_a_row() -> None:
    tokens = split([[4, 4], [2]])
    with pytest.raises(UserError, match=r"12 tokens.*row_tokens 16.*fits: 11"):
        make(tokens, "packed", extra=1)
    assert epoch(make(tokens, "packed", extra=1, whole=True)).doc.tolist() == [[1] * 9 + [2] * 3 + [0] * 5]
    assert make(tokens, "packed", row_tokens=11, extra=1).rows_in_epoch == 1


# --- document


@pytest.mark.parametrize("extra", [0, 1])
def test_rows_of_documents(extra: int) -> None:
    tokens = random_split()
    rows = epoch(make(tokens, "document", extra=extra), 2)
    predicted = rows.token[:, extra:][rows.doc[:, extra:] > 0]
    assert len(predicted) == len(tokens.token) - extra * 13
    owner = np.searchsorted(tokens.documents, rows.token - FIRST, side="right")
    for document, is_text in zip(owner, rows.token >= FIRST, strict=True):
        assert len(set(document[is_text])) <= 1
    assert (np.diff(rows.doc, axis=1) <= 0).all()  # 1 and then 0


# --- pairs


def sides(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and B as indices in the split; checks [CLS] A [SEP] B [SEP] and padding after it."""
    first, second = np.flatnonzero(row == SPECIAL["sep"])
    assert row[0] == SPECIAL["cls"]
    assert (row[second + 1 :] == SPECIAL["pad"]).all()
    return row[1:first].astype(np.int64) - FIRST, row[first + 1 : second].astype(np.int64) - FIRST


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("longest", [2, 9, 60])  # words of one token; sentences; sentences longer than a row
def test_pairs(longest: int, number: int) -> None:
    tokens = random_split(3, 40, longest)
    rows = epoch(make(tokens, "pairs"), number)
    assert rows.label is not None
    eod = tokens.documents[1:] - 1
    for row, label, doc, segment, position in zip(
        rows.token, rows.label, rows.doc, rows.segment, rows.position, strict=True
    ):
        a, b = sides(row)
        assert len(a)
        assert len(b)
        assert (np.diff(a) == 1).all()
        assert (np.diff(b) == 1).all()
        assert not np.isin(np.concatenate([a, b]), eod).any()
        document = np.searchsorted(tokens.documents, [a[0], a[-1], b[0], b[-1]], side="right")
        assert document[0] == document[1]
        assert document[2] == document[3]
        assert (document[0] != document[2]) == label
        if not label:
            assert b[0] > a[-1]
        real = len(a) + len(b) + 3
        assert doc.tolist() == [1] * real + [0] * (16 - real)
        assert segment.tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (16 - real)
        assert position.tolist() == [*range(real)] + [0] * (16 - real)


def test_half_of_the_pairs_are_random() -> None:
    """Where no chunk is a single sentence; here a chunk has 61 / 3 sentences or more."""
    tokens = split([[3] * 400 for _ in range(60)])
    made = make(tokens, "pairs", row_tokens=64)
    labels = epoch(made).label
    assert labels is not None
    # Chunks of two tokens (a short target) are one sentence; they are few documents' and always random.
    assert abs(labels.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(labels)) + 0.01


def test_displaced_sentences_come_back() -> None:
    """With sentences of one token nothing is truncated: A and a true B together tile every document exactly once."""
    tokens = split([[1] * size for size in (50, 1, 7, 200, 33)])
    own = []
    rows = epoch(make(tokens, "pairs"))
    assert rows.label is not None
    for row, label in zip(rows.token, rows.label, strict=True):
        a, b = sides(row)
        own += [*a, *b] if not label else [*a]
    content = np.delete(np.arange(len(tokens.token)), tokens.documents[1:] - 1)
    np.testing.assert_array_equal(np.sort(own), content)


def test_a_tenth_of_the_documents_are_cut_short() -> None:
    """One target a document and pass; where sentences are single tokens, all its chunks but the last reach it."""
    tokens = split([[1] * 150 for _ in range(600)])
    rows = epoch(make(tokens, "pairs"))
    length = (rows.doc > 0).sum(axis=1) - 3
    owner = np.searchsorted(tokens.documents, rows.token[:, 1] - FIRST, side="right")
    targets = [length[owner == document].max() for document in range(1, 601)]
    short = np.mean([target < 13 for target in targets])
    odds = SHORT_RATE * 11 / 12  # of 2 to 13 tokens one is the full target
    assert abs(short - odds) < 4 * np.sqrt(odds * (1 - odds) / 600)
    assert min(targets) == 2


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 40))
def test_truncation_is_the_release_s(a: int, b: int, most: int) -> None:
    x, y = a, b
    while x + y > most:
        if x > y:
            x -= 1
        else:
            y -= 1
    assert tuple(int(side) for side in fitting(np.array(a), np.array(b), most)) == (x, y)


def test_truncation_takes_from_both_ends() -> None:
    tokens = split([[40], [40]] * 200)
    rows = epoch(make(tokens, "pairs"))
    for side, kept in ((0, 7), (1, 6)):
        front = np.array([sides(row)[side][0] for row in rows.token]) % 41  # tokens that went there; each by a coin
        gone = 40 - kept
        assert abs(front.mean() - gone / 2) < 4 * np.sqrt(gone / 4 / len(front))


def test_documents_without_text_make_no_pairs() -> None:
    full = split([[2, 3], [4, 1]])
    assert full.documents.tolist() == [0, 6, 12]
    empty = full._replace(
        token=np.append(full.token, [SPECIAL["eod"]] * 2),
        flags=np.append(full.flags, [0, 0]),
        documents=np.array([0, 6, 12, 13, 14]),
    )
    assert_same(epoch(make(full, "pairs")), epoch(make(empty, "pairs")))


def test_pairs_that_cannot_be() -> None:
    one = split([[3, 3, 3]])
    with pytest.raises(UserError, match=r"at least 2 documents and the corpus has 1; data.document=blank_line"):
        make(one, "pairs")
    held_out = epoch(make(one, "pairs", whole=True))  # from the document itself, as the release where ten tries fail
    assert (held_out.doc > 0).any()
    with pytest.raises(UserError, match=r"row_tokens 4 .*does: 5"):
        make(random_split(), "pairs", row_tokens=4)
    assert isinstance(make(random_split(), "pairs", row_tokens=5), Pairs)
    with pytest.raises(UserError, match=r"special tokens cls and sep; tokenizer.specials has eod"):
        make(random_split(), "pairs", special={"eod": 0})
