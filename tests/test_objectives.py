"""Laws of make_batch, for every objective there is, and what each of the three does beyond them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zoo.batch import Batch, Rows, Stream
from zoo.errors import UserError
from zoo.noise import Noise
from zoo.objective import Objective, Vocab
from zoo.registry import objective, objectives, recipe
from zoo.sections import Data, Model
from zoo.visibility import visible

SPECIAL = {"eod": 0, "pad": 1, "cls": 2, "sep": 3, "mask": 4, "bos": 5}
VOCAB = Vocab(size=101, used=97, special=SPECIAL)
LENGTH = 23
# Settings beside the defaults, by objective; one that is not named here is tested with its defaults.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "masked": [{"whole_word": True}, {"next_sentence": True}, {"rate": 0.9, "blank": 0.1, "random": 0.9}],
    "permutation": [{"rate": 1.0}, {"max_gram": 2, "alpha": 3, "beta": 2}],
}
DRAW_NOTHING = {"causal", "translation"}
CASES = [
    pytest.param(name, given, rows, id=f"{name}-{rows}-{','.join(given) or 'defaults'}")
    for name in objectives()
    for given in [{}, *VARIANTS.get(name, [])]
    for rows in (("parallel",) if objective(name).encodes else ("packed", "document", "pairs"))
    if rows == "pairs" or not given.get("next_sentence")
]


few = hypothesis_settings(max_examples=20)  # every case of CASES has its own


def make(name: str, length: int = LENGTH, **settings: Any) -> Objective:
    kind = objective(name)
    return kind(kind.Settings(**settings), VOCAB, length)


def make_rows(kind: str, seed: int, count: int = 6, length: int = LENGTH, extra: int = 0) -> Rows:
    """Rows as the plan of that kind makes them, of random tokens; packed documents are as short as one token."""
    draw, width = np.random.default_rng(seed), length + extra
    token = draw.integers(6, VOCAB.used, (count, width)).astype(np.int32)
    doc, segment, column = np.ones_like(token), np.zeros_like(token), np.arange(width)
    start, label = np.zeros((count, 1), np.int64), None
    if kind in ("packed", "parallel"):
        ends = draw.random(token.shape) < 0.2
        token[ends] = SPECIAL["eod"]
        doc += np.cumsum(np.pad(ends, [(0, 0), (1, 0)])[:, :-1], axis=1, dtype=np.int32)
        start = np.maximum.accumulate(np.where(np.diff(doc, axis=1, prepend=0) > 0, column, 0), axis=1)
    else:
        real = draw.integers(7, width + 1, (count, 1))
        if kind == "pairs":
            middle = draw.integers(2, real - 2)
            token[:, 0] = SPECIAL["cls"]
            token[(column == middle) | (column == real - 1)] = SPECIAL["sep"]
            segment = ((column > middle) & (column < real)).astype(np.int32)
            label = draw.integers(0, 2, count).astype(np.int32)
        doc = (column < real).astype(np.int32)
        token[doc == 0] = SPECIAL["pad"]
    position = np.where(doc > 0, column - start, 0).astype(np.int32)
    words = (doc > 0) & (token > max(SPECIAL.values())) & (draw.random(token.shape) < 0.6)
    source = make_rows("packed", seed + 1, count, length) if kind == "parallel" else None
    return Rows(token, doc, position, segment, words, words & (draw.random(token.shape) < 0.2), label, source)


def case(name: str, settings: dict[str, Any], kind: str, seed: int = 0, count: int = 6) -> tuple[Objective, Rows]:
    made = make(name, **settings)
    return made, make_rows(kind, seed, count, extra=made.extra_tokens)


def mapped(change: Any, rows: Rows) -> Rows:
    """The rows, and their source if they have one, with every field changed."""
    fields = rows._replace(source=None)
    source = None if rows.source is None else mapped(change, rows.source)
    return Rows(*(None if field is None else change(field) for field in fields))._replace(source=source)


def fields(rows: Rows) -> list[np.ndarray]:
    own = [field for field in rows._replace(source=None) if field is not None]
    return own if rows.source is None else [*own, *fields(rows.source)]


def leaves(batch: Batch) -> list[np.ndarray]:
    streams = [field for stream in (batch.stream, batch.source) if stream is not None for field in stream]
    return streams + [field for places in batch.tasks.values() for field in places if field is not None]


def taken(stream: Stream, at: np.ndarray | None) -> Stream:
    """The stream at the places that predict."""
    return stream if at is None else Stream(*(np.take_along_axis(field, at, axis=1) for field in stream))


def within(count: int, of: int, odds: float) -> bool:
    """A binomial count lies within five standard deviations."""
    return abs(count - of * odds) <= 5 * math.sqrt(of * odds * (1 - odds))


# --- for every objective


@pytest.mark.parametrize("name, settings, kind", CASES)
@few
@given(seed=st.integers(0, 2**63 - 1), update=st.integers(0, 2**31), cut=st.integers(1, 5))
def test_a_row_s_batch_depends_on_seed_update_and_row(
    name: str, settings: dict[str, Any], kind: str, seed: int, update: int, cut: int
) -> None:
    """However the update is split, and nothing given is changed."""
    made, rows = case(name, settings, kind, seed % 1000)
    before = [field.copy() for field in fields(rows)]
    whole = leaves(made.make_batch(Noise(seed, update, 3, 6), rows))
    for first, end in ((0, cut), (cut, 6)):
        part = mapped(lambda field, rows=slice(first, end): field[rows], rows)
        for a, b in zip(leaves(made.make_batch(Noise(seed, update, 3 + first, end - first), part)), whole, strict=True):
            np.testing.assert_array_equal(a, b[first:end])
    for a, b in zip(fields(rows), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name, settings, kind", CASES)
def test_noise_reaches_the_batch(name: str, settings: dict[str, Any], kind: str) -> None:
    """Another update, row or seed gives another batch, or the objective draws nothing at all."""
    made, rows = case(name, settings, kind)
    batches = [leaves(made.make_batch(noise, rows)) for noise in (Noise(0, 0, 0, 6), Noise(0, 1, 0, 6))]
    batches += [leaves(made.make_batch(noise, rows)) for noise in (Noise(1, 0, 0, 6), Noise(0, 0, 6, 6))]
    same = [all(map(np.array_equal, batches[0], other)) for other in batches[1:]]
    assert same == [name in DRAW_NOTHING] * 3


@pytest.mark.parametrize("name, settings, kind", CASES)
def test_shapes_types_and_tasks(name: str, settings: dict[str, Any], kind: str) -> None:
    made, rows = case(name, settings, kind)
    batch = made.make_batch(Noise(0, 0, 0, 6), rows)
    assert batch.tasks.keys() == made.scales.keys() == made.chance().keys()
    assert {field.dtype for field in batch.stream} == {np.dtype(np.int32)}
    assert len({field.shape for field in batch.stream}) == 1
    for places in batch.tasks.values():
        assert places.target.dtype == np.int32
        assert places.weight.dtype == np.float32
        assert places.target.shape == places.weight.shape
        assert places.target.shape == (batch.stream.token.shape if places.at is None else places.at.shape)
    again = made.make_batch(Noise(0, 1, 0, 6), make_rows(kind, 1, extra=made.extra_tokens))
    assert [leaf.shape for leaf in leaves(batch)] == [leaf.shape for leaf in leaves(again)]  # nothing is retraced
    if made.visibility == "full":
        assert not batch.stream.rank.any()
    if made.visibility == "causal":
        assert (batch.stream.rank == np.arange(LENGTH)).all()


@pytest.mark.parametrize("name, settings, kind", CASES)
@few
@given(seed=st.integers(0, 10**9))
def test_targets(name: str, settings: dict[str, Any], kind: str, seed: int) -> None:
    """Never padding or a special token; places distinct; the original is the stream with the targets put back."""
    made, rows = case(name, settings, kind, seed)
    batch = made.make_batch(Noise(seed, 0, 0, 6), rows)
    places = batch.tasks[name]
    scored = places.weight > 0
    never = [SPECIAL[role] for role in made.never_target if role in SPECIAL]
    assert not np.isin(places.target[scored], never).any()
    assert (taken(batch.stream, places.at).doc[scored] > 0).all()
    original = rows.token[:, :LENGTH]
    if made.encodes:  # what is written begins late, and all of it is a target
        np.testing.assert_array_equal(places.target, original)
        return
    if places.at is None:
        np.testing.assert_array_equal(batch.stream.token, original)
        return
    assert all(len(set(row)) == len(row) for row in places.at.tolist())
    restored = batch.stream.token.copy()
    np.put_along_axis(
        restored, places.at, np.where(scored, places.target, np.take_along_axis(restored, places.at, axis=1)), axis=1
    )
    np.testing.assert_array_equal(restored, original)


@pytest.mark.parametrize("name, settings, kind", CASES)
@few
@given(seed=st.integers(0, 10**9))
def test_what_predicts_sees_something(name: str, settings: dict[str, Any], kind: str, seed: int) -> None:
    made, rows = case(name, settings, kind, seed)
    batch = made.make_batch(Noise(seed, 0, 0, 6), rows)
    for places in batch.tasks.values():
        see = visible(taken(batch.stream, places.at), batch.stream, strict=made.blind)
        assert see.any(axis=2)[places.weight > 0].all()


@pytest.mark.parametrize("name, settings, kind", CASES)
def test_a_row_of_padding_scores_nothing(name: str, settings: dict[str, Any], kind: str) -> None:
    made, rows = case(name, settings, kind)
    empty = rows._replace(doc=np.zeros_like(rows.doc), token=np.full_like(rows.token, SPECIAL["pad"]))
    batch = made.make_batch(Noise(0, 0, 0, 6), empty)
    assert not any(places.weight.any() for places in batch.tasks.values())


@pytest.mark.parametrize("name", objectives())
def test_chance(name: str) -> None:
    assert make(name).chance()[name] == math.log(VOCAB.size)


@pytest.mark.parametrize("name, settings, kind", [case for case in CASES if case.values[2] in ("pairs", "parallel")])
def test_own_layers_and_totals(name: str, settings: dict[str, Any], kind: str) -> None:
    """`shapes` is what `build` builds; an untrained network's totals are its chance."""
    from zoo.network.initial import initialize
    from zoo.network.names import named_weights
    from zoo.network.network import Network
    from zoo.network.reader import Reader

    made, rows = case(name, settings, kind)
    model = Model(width=10, heads=2, layers=2, context=LENGTH, segments=2, encoder_layers=2 * made.encodes)
    layers = made.build(model)
    weights = {} if layers is None else named_weights(layers)
    assert {path: tuple(weight.shape) for path, weight in weights.items()} == made.shapes(model)
    if layers is not None:
        initialize(layers, model, 0, "objective.")
    batch = made.make_batch(Noise(0, 0, 0, 6), rows)
    totals = made.score(Reader(Network(model, VOCAB.size), layers), batch)
    assert totals.keys() == batch.tasks.keys()
    for task, total in totals.items():
        assert abs(float(total) / batch.tasks[task].weight.sum() - made.chance()[task]) < 0.1


# --- translation


@given(st.integers(0, 10**9))
def test_translation_reads_every_text_one_token_late(seed: int) -> None:
    rows = make_rows("parallel", seed)
    batch = make("translation").make_batch(Noise(0, 0, 0, 6), rows)
    for row in range(6):
        for column in range(LENGTH):
            begins = column == 0 or rows.doc[row, column] != rows.doc[row, column - 1]
            assert batch.stream.token[row, column] == (SPECIAL["bos"] if begins else rows.token[row, column - 1])


def test_translation_sees_the_whole_source_of_its_document_and_no_other() -> None:
    rows = make_rows("parallel", 0)
    batch = make("translation").make_batch(Noise(0, 0, 0, 6), rows)
    assert batch.source is not None
    assert rows.source is not None
    see = visible(batch.stream, batch.source)
    np.testing.assert_array_equal(see, rows.doc[:, :, None] == rows.source.doc[:, None, :])


# --- causal


@given(st.integers(0, 10**9))
def test_causal_predicts_the_next_token_of_the_document(seed: int) -> None:
    rows = make_rows("packed", seed, extra=1)
    batch = make("causal").make_batch(Noise(0, 0, 0, 6), rows)
    places = batch.tasks["causal"]
    for row in range(6):
        for column in range(LENGTH):
            assert places.target[row, column] == rows.token[row, column + 1]
            assert places.weight[row, column] == (rows.doc[row, column] == rows.doc[row, column + 1])


def test_causal_predicts_everything_where_attention_crosses_documents() -> None:
    rows = make_rows("packed", 0, extra=1)
    rows = rows._replace(doc=np.ones_like(rows.doc))
    assert make("causal").make_batch(Noise(0, 0, 0, 6), rows).tasks["causal"].weight.all()


def test_causal_stops_at_padding() -> None:
    rows = make_rows("document", 0, extra=1)
    weight = make("causal").make_batch(Noise(0, 0, 0, 6), rows).tasks["causal"].weight
    np.testing.assert_array_equal(weight.sum(axis=1), (rows.doc > 0).sum(axis=1) - 1)


# --- masked


@pytest.mark.parametrize("kind", ["packed", "document", "pairs"])
def test_masked_counts_and_fates(kind: str) -> None:
    """Exactly max(1, round(.15 x length)); then 80% mask, 10% any id that is used, 10% themselves."""
    rows = make_rows(kind, 0, count=3000)
    batch = make("masked").make_batch(Noise(0, 0, 0, 3000), rows)
    places = batch.tasks["masked"]
    assert places.at is not None
    length = (rows.doc > 0).sum(axis=1)
    np.testing.assert_array_equal(places.weight.sum(axis=1), np.maximum(1, np.round(0.15 * length)))
    scored = places.weight > 0
    target, now = places.target[scored], np.take_along_axis(batch.stream.token, places.at, axis=1)[scored]
    assert target.min() > max(SPECIAL.values())
    # A random id hits the token itself, or mask, once in 97.
    assert within((now == SPECIAL["mask"]).sum(), len(now), 0.8 + 0.1 / 97)
    assert within((now == target).sum(), len(now), 0.1 + 0.1 / 97)
    drawn = now[(now != SPECIAL["mask"]) & (now != target)]
    assert set(drawn) == set(range(VOCAB.used)) - {SPECIAL["mask"]}  # special tokens too, as released
    share = np.bincount(drawn, minlength=VOCAB.used) / len(drawn)
    assert share.max() < 3 / VOCAB.used


def test_masked_whole_words() -> None:
    """All pieces of a word or none, and never more than exact choice would take."""
    rows = make_rows("packed", 0, count=200)
    places = make("masked", whole_word=True).make_batch(Noise(0, 0, 0, 200), rows).tasks["masked"]
    assert places.at is not None
    chosen = np.zeros(rows.token.shape, bool)
    np.put_along_axis(chosen, places.at, places.weight > 0, axis=1)
    same_word = ~rows.word_start[:, 1:] & (rows.token[:, 1:] != SPECIAL["eod"]) & (rows.token[:, :-1] != SPECIAL["eod"])
    assert same_word.any()
    np.testing.assert_array_equal(chosen[:, 1:][same_word], chosen[:, :-1][same_word])
    assert (chosen.sum(axis=1) <= 3).all()
    assert chosen.sum() > 0.9 * 3 * 200


def test_next_sentence() -> None:
    rows = make_rows("pairs", 0)
    made = make("masked", next_sentence=True)
    pair = made.make_batch(Noise(0, 0, 0, 6), rows).tasks["next_sentence"]
    assert pair.at is not None
    assert rows.label is not None
    assert pair.at.tolist() == [[0]] * 6
    assert pair.target[:, 0].tolist() == rows.label.tolist()
    assert pair.weight.tolist() == [[1]] * 6
    assert made.chance() == {"masked": math.log(101), "next_sentence": math.log(2)}
    plain = make("masked").make_batch(Noise(0, 0, 0, 6), rows)
    np.testing.assert_array_equal(
        plain.stream.token, made.make_batch(Noise(0, 0, 0, 6), rows).stream.token
    )  # the second task changes nothing of the first


def test_next_sentence_needs_pairs() -> None:
    kind: Any = objective("masked")
    with pytest.raises(ValueError, match=r"next_sentence needs data.rows: pairs; data.rows is packed"):
        kind.check(kind.Settings(next_sentence=True), Data(rows="packed"))
    kind.check(kind.Settings(next_sentence=True), Data(rows="pairs"))
    with pytest.raises(UserError, match=r"next_sentence needs data.rows: pairs"):
        recipe("bert-nano", objective={"next_sentence": True})
    with pytest.raises(UserError, match=r"data.rows pairs needs the special tokens cls, sep"):
        recipe("gpt2-small", data={"rows": "pairs"})


def test_shares_that_exceed_one() -> None:
    with pytest.raises(UserError, match=r"blank 0.8 and random 0.3 exceed 1"):
        recipe("bert-nano", objective={"random": 0.3})


# --- permutation

Matrix = list[list[bool]]


def local_perm(functional: list[bool], selected: list[bool], order: list[int]) -> tuple[Matrix, Matrix, list[bool]]:
    """_local_perm of XLNet's data_utils.py in plain loops: whom the content stream sees, whom the query stream sees,
    what is predicted. order: where in the permutation each token comes.
    """
    length = len(order)
    target = [selected[i] and not functional[i] for i in range(length)]
    ordinary = [not selected[i] and not functional[i] for i in range(length)]
    rank = [-1 if ordinary[i] else order[i] for i in range(length)]
    own = [rank[i] if target[i] else rank[i] + 1 for i in range(length)]
    query = [[ordinary[j] or own[i] > rank[j] for j in range(length)] for i in range(length)]
    content = [[query[i][j] or i == j for j in range(length)] for i in range(length)]
    return content, query, target


def joined_parts(parts: list[Matrix], memory: int) -> np.ndarray:
    """All see the memory; the first part sees nothing of the second, and the second all of the first."""
    length, before, seen = sum(map(len, parts)), 0, []
    for part in parts:
        after = length - before - len(part)
        seen += [[True] * (memory + before) + row + [False] * after for row in part]
        before += len(part)
    return np.array(seen)


@pytest.mark.parametrize("parted", [False, True])
@hypothesis_settings(max_examples=100)
@given(seed=st.integers(0, 10**9), rate=st.sampled_from([1 / 6, 0.5, 1.0]))
def test_permutation_sees_as_released(parted: bool, seed: int, rate: float) -> None:
    """Twelve rows of random lengths, blocks, words, directions and places of cls and sep."""
    from zoo.network.past import Past, Reach

    draw, count, memory = np.random.default_rng(seed), 12, 3
    size = int(draw.integers(1, 7))
    reuse = size * int(draw.integers(1, 5)) if parted else None
    length = (reuse or 0) + size * int(draw.integers(1, 5))
    perm_size = [None, size][draw.integers(2)]
    token = draw.integers(6, VOCAB.used, (count, length)).astype(np.int32)
    functional = draw.random(token.shape) < 0.15
    token[functional] = draw.choice([SPECIAL["cls"], SPECIAL["sep"]], functional.sum())
    doc, words = np.ones_like(token), draw.random(token.shape) < 0.6
    rows = Rows(token, doc, doc, doc, words, words, backward=draw.random(count) < 0.5)
    kind: Any = objective("permutation")
    made = kind(kind.Settings(rate=rate, perm_size=perm_size), VOCAB, length, reuse)
    noise = Noise(seed, 0, 0, count)
    batch = made.make_batch(noise, rows)
    stream, places = batch.stream, batch.tasks["permutation"]
    blind = taken(stream, places.at)
    past = Past(Reach(memory), [np.zeros((count, memory, 1))], np.full(count, memory, np.int32))
    content = np.asarray(past.see(stream, visible(stream, stream)))
    query = np.asarray(past.see(blind, visible(blind, stream, strict=True), places.at))

    parts = [(noise, 0, reuse or length, -1)] + ([(noise.under("second"), reuse, length, reuse)] if reuse else [])
    orders = [
        part.uniform("permutation.order", perm_size or end - begin).argsort(axis=1) for part, begin, end, _ in parts
    ]
    for row in range(count):
        found = []
        for order, (_, begin, end, context) in zip(orders, parts, strict=True):
            block = order.shape[1]
            place = [int(order[row, i % block]) + i // block * block for i in range(end - begin)]
            # What is selected of cls and sep makes no difference.
            selected = (stream.rank[row, begin:end] != context).tolist()
            found.append(local_perm(functional[row, begin:end].tolist(), selected, place))
        contents, queries, targets = zip(*found, strict=True)
        scored = places.weight[row] > 0
        expected = joined_parts(queries, memory)
        np.testing.assert_array_equal(content[row], joined_parts(contents, memory))
        np.testing.assert_array_equal(query[row, scored], expected[places.at[row, scored]])
        # What sees a memory at most is not scored; all other targets are.
        sighted = np.concatenate(targets) & expected[:, memory:].any(axis=1)
        assert places.at[row, scored].tolist() == np.flatnonzero(sighted).tolist()


def test_permutation_in_blocks() -> None:
    """Whatever stands in an earlier block of a part comes earlier, in the same order in all blocks."""
    rows = make_rows("document", 0, count=40, length=24)
    rows = rows._replace(doc=np.ones_like(rows.doc), token=np.maximum(rows.token, 6))
    kind: Any = objective("permutation")
    made = kind(kind.Settings(rate=1.0, perm_size=4), VOCAB, 24, 12)
    rank = made.make_batch(Noise(0, 0, 0, 40), rows).stream.rank.reshape(40, 2, 3, 4)
    later = np.array([0, 4, 8])[:, None]
    np.testing.assert_array_equal(rank - rank[:, :, :1], np.broadcast_to(later, rank.shape))
    np.testing.assert_array_equal(np.sort(rank[:, :, 0]), [[[0, 1, 2, 3], [13, 14, 15, 16]]] * 40)
    assert len({tuple(order) for order in rank[:, 0, 0].tolist()}) > 10


def xlnet_rows(seed: int, count: int, length: int, reuse: int) -> Rows:
    """[reuse tokens][A][SEP][B][SEP][CLS]."""
    draw = np.random.default_rng(seed)
    token = draw.integers(6, VOCAB.used, (count, length)).astype(np.int32)
    middle = draw.integers(reuse + 1, length - 3, count)
    token[np.arange(count), middle] = token[:, -2] = SPECIAL["sep"]
    token[:, -1] = SPECIAL["cls"]
    column = np.broadcast_to(np.arange(length, dtype=np.int32), token.shape)
    words = (token >= 6) & (draw.random(token.shape) < 0.6)
    segment = (column > middle[:, None]).astype(np.int32) + (column == length - 1)
    backward = np.arange(count) % 2 > 0
    return Rows(token, np.ones_like(token), column, segment, words, words, None, None, ~backward, backward)


def test_targets_of_two_parts() -> None:
    """43 of the first 256 tokens; of the second part 42, less what fell on SEP and CLS."""
    rows = xlnet_rows(0, 200, 512, 256)
    kind: Any = objective("permutation")
    batch = kind(kind.Settings(), VOCAB, 512, 256).make_batch(Noise(0, 0, 0, 200), rows)
    places = batch.tasks["permutation"]
    assert places.at.shape == (200, 85)
    scored = places.weight > 0
    assert ((places.at < 256) & scored).sum(axis=1).tolist() == [43] * 200
    second = ((places.at >= 256) & scored).sum(axis=1)
    assert second.max() == 42
    assert second.min() >= 39
    assert within((42 - second).sum(), 200 * 3, 42 / 256)
    assert not np.isin(places.target[scored], [SPECIAL["sep"], SPECIAL["cls"]]).any()
    np.testing.assert_array_equal(batch.reset, rows.reset)
    np.testing.assert_array_equal(batch.backward, rows.backward)


@given(seed=st.integers(0, 10**6))
def test_targets_of_backward_rows_are_those_of_the_text(seed: int) -> None:
    """A row that is turned round has the targets it would have had, turned round, in each of its parts."""
    rows = xlnet_rows(seed, 6, 48, 24)
    parts = slice(24), slice(24, 48)
    kind: Any = objective("permutation")
    made = kind(kind.Settings(rate=0.5), VOCAB, 48, 24)

    def turned(field: np.ndarray) -> np.ndarray:
        return np.concatenate([field[:, part][:, ::-1] for part in parts], axis=1)

    def chosen(rows: Rows) -> np.ndarray:
        rank = made.make_batch(Noise(seed, 0, 0, 6), rows).stream.rank
        return (rank != np.repeat([-1, 24], 24)) & ~np.isin(rows.token, [SPECIAL["sep"], SPECIAL["cls"]])

    text = rows._replace(backward=np.zeros(6, bool))
    back = text._replace(token=turned(rows.token), word_start=turned(rows.word_start), backward=np.ones(6, bool))
    np.testing.assert_array_equal(chosen(back), turned(chosen(text)))


def test_backward_rows_keep_their_padding() -> None:
    """A stream's last row may be short: what is chosen is text, and the same as of the text read forwards."""
    rows = make_rows("document", 3, count=6)
    length = (rows.doc > 0).sum(axis=1)
    source = np.where(rows.doc > 0, length[:, None] - 1 - np.arange(LENGTH), np.arange(LENGTH))
    back = rows._replace(
        token=np.take_along_axis(rows.token, source, axis=1),
        word_start=np.take_along_axis(rows.word_start, source, axis=1),
        backward=np.ones(6, bool),
    )
    made = make("permutation", rate=0.5)
    one, other = (made.make_batch(Noise(0, 0, 0, 6), given).stream.rank >= 0 for given in (rows, back))
    np.testing.assert_array_equal(other, np.take_along_axis(one, source, axis=1))
    assert (other.sum(axis=1) > 2).all()
    assert not other[rows.doc == 0].any()


def test_permutation_counts_and_order() -> None:
    """85 of 512, whatever the spans; in a random order."""
    rows = make_rows("document", 0, count=40, length=512)
    rows = rows._replace(doc=np.ones_like(rows.doc), token=np.maximum(rows.token, 5))
    batch = make("permutation", length=512).make_batch(Noise(0, 0, 0, 40), rows)
    places = batch.tasks["permutation"]
    assert places.at is not None
    assert places.at.shape == (40, 85)
    assert places.weight.all()
    rank = np.take_along_axis(batch.stream.rank, places.at, axis=1)
    assert (rank >= 0).all()
    assert (batch.stream.rank >= 0).sum() == 40 * 85
    assert within((np.diff(rank, axis=1) > 0)[:, ::2].sum(), 40 * 42, 0.5)


def test_permutation_of_a_document_chosen_whole() -> None:
    """Its first target sees nothing: it is not scored, and the others see it."""
    token = np.array([[7, 8, 9, 10, 11, 12]], np.int32)
    doc = np.array([[1, 2, 2, 3, 3, 3]], np.int32)
    rows = Rows(token, doc, np.zeros_like(token), np.zeros_like(token), doc > 0, doc > 0)
    batch = make("permutation", rate=1.0).make_batch(Noise(0, 0, 0, 1), rows)
    places, rank = batch.tasks["permutation"], batch.stream.rank[0]
    assert places.at is not None
    lost = set(range(6)) - set(places.at[0][places.weight[0] > 0].tolist())
    assert lost == {0, 1 + int(rank[1:3].argmin()), 3 + int(rank[3:].argmin())}
