"""A trained model writes, fills in and scores; what is fast says what the plain way says."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shrunk import shrunk

from zoo.batch import Rows
from zoo.corpus.starts import WORD_START
from zoo.corpus.vocabulary import train
from zoo.errors import UserError
from zoo.objective import Vocab
from zoo.sections import SPECIALS
from zoo.train.start import Learner
from zoo.use.fill import fill
from zoo.use.generate import Sampling, choose, generate_ids, window
from zoo.use.loaded import Loaded
from zoo.use.score import score
from zoo.use.show import Guess, filled_in

SIZE = 300  # rows of the vocabulary: more than bytes and special tokens, as a small corpus leaves them
CAUSAL = "gpt2-small"
FILLING = ("bert-base", "xlnet-base")


def model(name, **changed):
    """A shrunk recipe with random weights that read bytes."""
    roles = {"cls", "sep", "mask", "pad", "eod"} & {*SPECIALS["wordpiece"], "eod"}
    specials = {role: f"<{role}>" for role in sorted(roles)}
    recipe = shrunk(name, changed).with_changes(
        tokenizer={"kind": "bytes", "size": SIZE, "specials": specials, "lowercase": False}
    )
    tokenizer = train(recipe.tokenizer, [])
    learner = Learner(recipe, Vocab(SIZE, tokenizer.size, tokenizer.special), "float32")
    draws = np.random.default_rng(0)
    learner.set_weights({name: draws.normal(0, 0.3, w.shape) for name, w in learner.weights.items()})
    return Loaded(recipe, tokenizer, learner)


@pytest.fixture(scope="module")
def causal():
    return model(CAUSAL)


@pytest.fixture(scope="module", params=FILLING)
def filling(request):
    return model(request.param)


def log_softmax(scores):
    scores = np.asarray(scores, np.float64)
    return (
        scores
        - scores.max(-1, keepdims=True)
        - np.log(np.exp(scores - scores.max(-1, keepdims=True)).sum(-1, keepdims=True))
    )


# Two prompts of unequal length, one of them empty; 40 tokens: more than the context of 24 holds, twice.
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": 5}, {"top_k": 7, "top_p": 0.8}])
def test_the_cache_changes_nothing(causal, settings):
    prompts = ["to be", "", "what"]
    cached = causal.generate(prompts, 40, **settings)
    assert cached == causal.generate(prompts, 40, cached=False, **settings)
    assert all(text.startswith(prompt) for text, prompt in zip(cached, prompts, strict=True))


def test_the_cache_serves_relative_positions():
    relative = model(CAUSAL, positions="relative")
    assert relative.generate(["so it", "x"], 12) == relative.generate(["so it", "x"], 12, cached=False)


@pytest.mark.parametrize("reach", [{}, {"clamp": 5, "same_length": True}])
def test_a_model_with_a_memory_reads_a_row_and_what_it_remembers(reach):
    recurrent = model("transformer-xl-nano", init_std=0.3, **reach)
    assert recurrent.recipe.model.longest == 24 + 8
    prompts = ["so it goes on and on " + "x" * 8, ""]
    written = recurrent.generate(prompts, 30, temperature=0)
    assert written == recurrent.generate(prompts, 30, temperature=0, cached=False)
    token = np.arange(32)[None]
    assert recurrent.logits(token).shape == (1, 32, SIZE)
    with pytest.raises(UserError, match=r"more than model.context and model.memory together, 32"):
        recurrent.logits(np.arange(33)[None])


def test_a_vocabulary_in_bins_is_written_and_scored():
    binned = model(CAUSAL, positions="relative", tied_biases=True, cutoffs=[40, 60, 90], div_val=2)
    assert binned.generate(["so it", "x"], 12) == binned.generate(["so it", "x"], 12, cached=False)
    ids = np.array([[binned.tokenizer.special["eod"], *binned.tokenizer.encode("so it goes")]])
    log_chance = binned.logits(ids[:, :-1])[0]
    expected = log_chance[np.arange(log_chance.shape[0]), ids[0, 1:]].sum()
    assert binned.score(["so it goes"])[0] == pytest.approx(expected, rel=1e-5)


def test_no_row_of_positions_is_written():
    """Though the softmax of the first GPT's loss has them, and here they score highest."""
    first = model("gpt")
    table = first.learner.weights["embed.position.table"]
    table.assign(100 * np.asarray(table))
    token = np.arange(20)[None]
    scores = np.asarray(first.network.scores(first.hidden(token)).score)
    assert scores.shape[-1] == SIZE + 24
    assert (scores.argmax(axis=-1) >= SIZE).all()
    assert np.array_equal(first.logits(token), scores[..., :SIZE])
    for cached in (True, False):
        (ids,) = generate_ids(first, [[5, 6]], 40, Sampling(temperature=5.0), end=None, cached=cached)
        assert len(ids) == 42
        assert max(ids) < first.tokenizer.size


def test_a_prompt_is_continued_alone_as_among_others(causal):
    assert causal.generate(["to be", "x"], 9)[:1] == causal.generate(["to be"], 9)


def test_seeds_differ(causal):
    assert causal.generate(["to be"], 16, seed=1) != causal.generate(["to be"], 16, seed=2)


@given(st.integers(1, 24), st.integers(0, 400))
def test_a_window_holds_the_end_of_a_text_and_half_a_context_at_least(context, length):
    start = window(length, context)
    assert 0 <= start <= length
    assert length - start <= context
    assert start == 0 or length - start > context - max(context // 2, 1)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.integers(1, 12), st.floats(0.01, 1), st.integers(0, 9))
def test_only_the_likeliest_are_drawn(scores, top_k, top_p, seed):
    scores = np.array(scores)
    chosen = choose(scores, Sampling(temperature=1.0, top_k=top_k, top_p=top_p), np.random.default_rng(seed))
    above = scores > scores[chosen]
    assert above.sum() < top_k
    assert (np.exp(log_softmax(scores))[above]).sum() < top_p + 1e-9 or top_k < len(scores)


def test_draws_follow_the_softmax():
    scores, draws = np.array([0.0, 1.0, 2.0, -1e9]), np.random.default_rng(0)
    counts = np.bincount([choose(scores, Sampling(temperature=2.0), draws) for _ in range(20000)], minlength=4)
    assert np.abs(counts / 20000 - np.exp(log_softmax(scores / 2.0))).max() < 0.012


def test_the_score_of_a_causal_model_is_the_sum_of_its_log_probabilities(causal):
    texts = ["to be", "", "or not to be", "x"]
    by_hand = []
    for text in texts:
        ids = [causal.tokenizer.special["eod"], *causal.tokenizer.encode(text)]
        logits = causal.logits(np.array([ids]))[0]
        by_hand.append(log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]].sum())
    assert causal.score(texts) == pytest.approx(by_hand, abs=1e-4)


def test_the_score_of_the_others_hides_one_token_at_a_time(filling):
    texts = ["to be", "", "or not"]
    by_hand = [0.0] * len(texts)
    for n, text in enumerate(texts):
        raw = text.encode()
        for place in range(len(raw)):
            # A blank hides its token: what stood there cannot matter.
            blanked = (raw[:place] + b"[MASK]" + raw[place + 1 :]).decode()
            (guesses,) = fill(filling, [blanked], best=SIZE)[0].blanks
            by_hand[n] += np.log(next(guess.chance for guess in guesses if guess.token == text[place]))
    assert score(filling, texts) == pytest.approx(by_hand, abs=1e-3)


def test_the_rest_of_a_word_is_hidden_where_asked(filling):
    texts = ["to bed", "", "or, not x"]
    by_hand = [0.0] * len(texts)
    for n, text in enumerate(texts):
        for word in re.finditer(r"\w+\s*|[^\w\s]\s*", text):
            for place in range(*word.span()):
                blanked = text[:place] + "[MASK]" * (word.end() - place) + text[word.end() :]
                first = fill(filling, [blanked], best=SIZE)[0].blanks[0]
                by_hand[n] += np.log(next(guess.chance for guess in first if guess.token == text[place]))
    assert score(filling, texts, within_word=True) == pytest.approx(by_hand, abs=1e-3)
    assert not np.allclose(score(filling, texts), by_hand, rtol=0, atol=3e-3)


def test_many_rows_are_scored_as_few_are(filling, monkeypatch):
    texts = ["to be", "or not to be", "x"]
    few = score(filling, texts)
    monkeypatch.setattr("zoo.use.score.FEW", 0)  # from here on XLA computes
    assert score(filling, texts) == pytest.approx(few, abs=1e-3)
    assert ("score", True) in filling._compiled


def test_the_likeliest_guess_stands_in_the_text(filling):
    (filled,) = filling.fill(["a [MASK]b<mask>"])
    first, second = (guesses[0].token for guesses in filled.blanks)
    assert filled.text == f"a {first}b{second}"
    for guesses in filled.blanks:
        assert len(guesses) == 5
        assert sorted(guesses, key=lambda guess: -guess.chance) == guesses


def test_what_cannot_be_is_refused(causal, filling):
    with pytest.raises(UserError, match="fills no blanks"):
        causal.fill(["a [MASK]"])
    with pytest.raises(UserError, match="has no blank"):
        filling.fill(["a b"])
    with pytest.raises(UserError, match="not trained to continue"):
        filling.generate(["a"])
    with pytest.raises(UserError, match="reads at most 24"):
        causal.generate(["a" * 24])
    with pytest.raises(UserError, match=r"text 2 has 30 tokens"):
        causal.score(["a", "a" * 30])
    with pytest.raises(UserError, match="reads from the left: no token of its score sees the rest"):
        causal.score(["a"], within_word=True)
    with pytest.raises(UserError, match=r"top_p is 0.0"):
        causal.generate(["a"], top_p=0.0)
    with pytest.raises(UserError, match="unknown key 'topk'; did you mean 'top_k'"):
        causal.generate(["a"], topk=3)


def test_without_a_tokenizer_only_text_is_refused(causal):
    bare = Loaded(causal.recipe, None, causal.learner)
    assert bare.logits(np.array([[1, 2]])).shape == (1, 2, SIZE)
    with pytest.raises(UserError, match=r"without a tokenizer\.json"):
        bare.generate(["a"])


def test_a_bare_encoder_has_hidden_states_alone(filling):
    bare = Loaded(filling.recipe, None, filling.learner, frozenset({"head.bias"}))
    assert bare.hidden(np.array([[1, 2]])).shape == (1, 2, 20)
    with pytest.raises(UserError, match=r"bare encoder: it was saved without head\.bias"):
        bare.logits(np.array([[1, 2]]))


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bytes_bpe"])
def test_words_in_a_shown_row_stand_apart(kind):
    text = "the house of the people has a law"
    # With its default special tokens; more than the letters, fewer than the words: some are in pieces.
    specials = {**SPECIALS["wordpiece"], **SPECIALS[kind]}
    recipe = shrunk("bert-base").with_changes(tokenizer={"kind": kind, "size": 290, "specials": specials})
    tokenizer = train(recipe.tokenizer, [text] * 9)
    encoded = tokenizer.encode_pieces([text])
    blank = np.zeros((1, len(encoded.ids)), np.int32)
    starts = (encoded.flags & WORD_START > 0)[None]
    row = Rows(encoded.ids[None], blank + 1, blank, blank, starts, blank > 0)
    shown = Loaded(recipe, tokenizer, Learner(recipe, Vocab(290, tokenizer.size, tokenizer.special), "float32"))
    assert filled_in(shown, row, []).splitlines()[0].split() == text.split()
    place = int(np.flatnonzero(starts[0])[-1])
    guess = Guess(place, int(encoded.ids[place]), int(encoded.ids[place]))
    (line, told) = filled_in(shown, row, [guess]).splitlines()
    assert line.count("[") == 1
    assert "1 of 1 right" in told
