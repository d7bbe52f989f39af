"""Translation: what beam search finds, against searches written out and against everything there is to find."""

import itertools
from typing import Any

import numpy as np
import pytest
from shrunk import shrunk

from zoo.corpus.tokenizer import Tokenizer
from zoo.errors import UserError
from zoo.registry import recipe
from zoo.schema import Recipe
from zoo.use.beam import Search, Written
from zoo.use.loaded import Loaded
from zoo.use.translate import write

SPECIAL = {"pad": 0, "eod": 1, "bos": 2}


class Ids(Tokenizer):
    """A vocabulary without texts: one letter an id."""

    def __init__(self, size: int):
        self.size, self.special = size, SPECIAL

    def encode(self, text: str) -> np.ndarray:
        return np.array([ord(letter) - ord("a") + len(SPECIAL) for letter in text], np.int32)

    def decode(self, ids: Any) -> str:
        return "".join(chr(int(number) - len(SPECIAL) + ord("a")) for number in ids)


def loaded(size: int, context: int = 12) -> Loaded:
    """Random weights, far apart, so that no two texts are equally likely."""
    from zoo.train.start import Learner, nominal_vocab, start_backend

    start_backend()
    small: Recipe = shrunk("transformer-base").with_changes(
        model={"context": context, "init": "normal", "init_std": 0.5, "layers": 1, "encoder_layers": 1},
        tokenizer={"size": size},
        data={"row_tokens": context},
        train={"tokens_per_update": 8 * context},
    )
    return Loaded(small, Ids(size), Learner(small, nominal_vocab(small), "float32"))


@pytest.fixture(scope="module")
def model() -> Loaded:
    return loaded(31)


def log_likelihoods(model: Loaded, source: list[int], ids: list[int]) -> np.ndarray:
    """[tokens + 1, V]: of every next token after each beginning of `ids`, read without any cache."""
    logits = model.logits(np.array([[SPECIAL["bos"], *ids]]), source=np.array([source]))[0].astype(np.float64)
    found = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)  # over all that the model knows
    found[:, [SPECIAL["pad"], SPECIAL["bos"]]] = -np.inf  # these are never written
    return found


def score(model: Loaded, source: list[int], ids: list[int], penalty: float) -> float:
    """Of a whole text: the log-likelihood of its tokens and its end, over the length penalty."""
    found = log_likelihoods(model, source, ids)
    total = found[np.arange(len(ids) + 1), [*ids, SPECIAL["eod"]]].sum()
    return float(total / ((5 + len(ids) + 1) / 6) ** penalty)


def greedy(model: Loaded, source: list[int]) -> list[int]:
    """The likeliest next token, again and again."""
    ids: list[int] = []
    while len(ids) < min(len(source) + Search().longer, model.recipe.model.context) - 1:
        best = int(log_likelihoods(model, source, ids)[-1].argmax())
        if best == SPECIAL["eod"]:
            break
        ids.append(best)
    return ids


def searched(model: Loaded, source: list[int], search: Search) -> Written:
    """Beam search over lists, without a cache."""
    most = min(len(source) + search.longer, model.recipe.model.context)
    alive, finished = [(0.0, [])], []
    for length in range(1, most + 1):
        ways = []
        for total, ids in alive:
            for token, one in enumerate(log_likelihoods(model, source, ids)[-1]):
                if length < most or token == SPECIAL["eod"]:
                    ways.append((total + one, [*ids, token]))
        ways = sorted((way for way in ways if np.isfinite(way[0])), key=lambda way: -way[0])[: 2 * search.beam]
        for total, ids in ways[: search.beam]:
            if ids[-1] == SPECIAL["eod"] and len(finished) < search.beam:
                finished.append(Written(ids[:-1], total / ((5 + length) / 6) ** search.length_penalty))
        alive = [way for way in ways if way[1][-1] != SPECIAL["eod"]][: search.beam]
        if len(finished) >= search.beam or not alive:
            break
    return max(finished, key=lambda written: written.score)


def sources(count: int, longest: int, size: int = 31) -> list[list[int]]:
    draw = np.random.default_rng(count)
    lengths = draw.integers(1, longest + 1, count)
    return [[*draw.integers(3, size, length).tolist(), SPECIAL["eod"]] for length in lengths]


def test_a_beam_of_one_is_greedy_search(model: Loaded) -> None:
    asked = sources(4, 10)
    for source, written in zip(asked, write(model, asked, Search(beam=1)), strict=True):
        assert written.ids == greedy(model, source)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_search_with_the_cache_finds_what_search_without_it_does(model: Loaded, penalty: float) -> None:
    asked, search = sources(2, 5), Search(beam=2, length_penalty=penalty)
    for source, written in zip(asked, write(model, asked, search), strict=True):
        wanted = searched(model, source, search)
        assert written.ids == wanted.ids
        assert written.score == pytest.approx(wanted.score, abs=1e-4)


def test_scores_are_those_of_the_whole_text(model: Loaded) -> None:
    asked = sources(6, 10)
    for source, written in zip(asked, write(model, asked, Search(beam=4)), strict=True):
        assert written.score == pytest.approx(score(model, source, written.ids, 0.6), abs=1e-4)


def test_caches_grow_with_the_text(monkeypatch: Any) -> None:
    """Texts longer than a row has slots at first."""
    monkeypatch.setattr("zoo.use.translate.SLOTS", 16)
    model, asked = loaded(31, context=40), sources(5, 10)
    for beam in (1, 2):
        found = write(model, asked, Search(beam=beam))
        assert max(len(written.ids) for written in found) > 16
        for source, written in zip(asked, found, strict=True):
            assert written.score == pytest.approx(score(model, source, written.ids, 0.6), abs=1e-4)


def test_a_beam_as_wide_as_the_tree_finds_the_best_there_is() -> None:
    """Three tokens beside the special ones and texts of at most three: 1 + 3 + 9 + 27 of them, the longest cut off."""
    model = loaded(6, context=4)
    texts = [list(ids) for length in range(4) for ids in itertools.product((3, 4, 5), repeat=length)]
    asked = [[4, 4, 3, 1], [5, 1]]
    for source, written in zip(asked, write(model, asked, Search(beam=150)), strict=True):
        best = max(texts, key=lambda ids: score(model, source, ids, 0.6))
        assert written.ids == best
        assert written.score == pytest.approx(score(model, source, best, 0.6), abs=1e-4)


def test_a_source_is_translated_alone_as_among_others(model: Loaded) -> None:
    asked = sources(7, 10)
    together = write(model, asked, Search(beam=2))
    assert [write(model, [source], Search(beam=2))[0].ids for source in asked] == [written.ids for written in together]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_row_that_is_done_takes_the_next_source(model: Loaded, monkeypatch: Any, rows: int) -> None:
    """More sources than rows, and more tokens in all than a row has slots, so that these are written again."""
    asked, search = sources(25, 10), Search(beam=2)
    together = write(model, asked, search)
    monkeypatch.setattr("zoo.use.translate.HYPOTHESES", rows * search.beam)
    monkeypatch.setattr("zoo.use.translate.SLOTS", 12)
    one_by_one = write(model, asked, search)
    assert [written.ids for written in one_by_one] == [written.ids for written in together]
    assert sum(len(written.ids) + 1 for written in together) > rows * 12


def test_sources_are_padded_to_few_lengths(model: Loaded, monkeypatch: Any) -> None:
    """Here to 2, 8 and, as no source is longer, 12 tokens."""
    asked = [[7, 1], [*range(3, 10), 1], [*range(3, 14), 1], [9, 8, 1], [1]]
    together = write(model, asked, Search(beam=1))
    monkeypatch.setattr("zoo.use.translate.SOURCE", 2)
    assert [written.ids for written in write(model, asked, Search(beam=1))] == [written.ids for written in together]


def test_texts_in_texts_out(model: Loaded) -> None:
    written = model.translate(["abc", "", "   ", "fed"], beam=2)
    assert len(written) == 4
    assert written[1:3] == ["", ""]
    assert written[::3] == model.translate(["abc", "fed"], beam=2)


def test_no_special_token_is_ever_written(model: Loaded) -> None:
    for written in write(model, sources(8, 10), Search(beam=3)):
        assert not set(written.ids) & set(SPECIAL.values())


def test_what_cannot_be_translated(model: Loaded) -> None:
    with pytest.raises(UserError, match="text 2 has 31 tokens; transformer-base reads at most 12"):
        model.translate(["abc", 30 * "a"])
    with pytest.raises(UserError, match="translate: beam is 0"):
        model.translate(["abc"], beam=0)
    with pytest.raises(UserError, match=r"writes a text from its source \(zoo translate\)"):
        model.score(["abc"])
    with pytest.raises(UserError, match="is not trained to continue text"):
        model.generate(["abc"])


def test_a_model_without_an_encoder_translates_nothing() -> None:
    from zoo.train.start import Learner, nominal_vocab

    small = shrunk("gpt2-small")
    alone = Loaded(small, Ids(101), Learner(small, nominal_vocab(small), "float32"))
    with pytest.raises(UserError, match="gpt2-small has no encoder"):
        alone.translate(["abc"])


def test_the_published_search_is_the_default() -> None:
    assert Search() == Search(beam=4, length_penalty=0.6)
    assert recipe("transformer-base").train.average_checkpoints == 5
