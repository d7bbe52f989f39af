"""Checkpoints at budgets of words: how words are counted, which are kept, what they are called."""

import json
import shutil

import numpy as np
import pytest
from shrunk import FAMILIES, shrunk
from test_loop import SPECIALS, text  # noqa: F401 -- a fixture

import zoo
from zoo import word_budget
from zoo.cli import run as command
from zoo.corpus.starts import SPACED_START
from zoo.errors import UserError
from zoo.train import checkpoint
from zoo.train.bench import RandomTokens
from zoo.train.feed import Feed, Share, rows_of
from zoo.train.start import make_objective, nominal_vocab


@pytest.mark.parametrize(
    "given, words, label",
    [
        (1_000_000, 1_000_000, "1M"),
        ("1M", 1_000_000, "1M"),
        ("1.5m", 1_500_000, "1.5M"),
        ("100K", 100_000, "100K"),
        ("1B", 1_000_000_000, "1000M"),
        ("1.234567M", 1_234_567, "1.234567M"),
        ("750", 750, "750"),
    ],
)
def test_a_budget_is_read_and_named(given, words, label):
    assert word_budget.read(given) == words
    assert word_budget.label(words) == label
    assert word_budget.read(label) == words


@pytest.mark.parametrize("given", ["M", "1X", "-1M", "1.5", "1.00001K", "1e6", ""])
def test_what_is_no_number_of_words_is_refused_with_what_is(given):
    with pytest.raises(UserError, match=r"train.save_at_words: .* is no whole number of words such as .*1\.5M"):
        shrunk("gpt2-small", save_at_words=["1M", given])


def test_budgets_of_a_recipe_are_in_order_and_stand_once():
    assert shrunk("gpt2-small", save_at_words=["2M", 1_000_000, "1000K"]).train.save_at_words == (1_000_000, 2_000_000)
    with pytest.raises(UserError, match="save_at_words"):
        shrunk("gpt2-small", save_at_words=[0])


def bytes_of(name, **train):
    tokenizer = {"kind": "bytes", "size": 300, "specials": SPECIALS}
    return shrunk(name, micro_rows=3, **train).with_changes(tokenizer=tokenizer)


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):  # noqa: F811
    """Eight of nine updates of some thirty words; two of them reach a budget, and all other checkpoints but one go."""
    recipe = bytes_of("gpt2-small", updates=9, save_at_words=[1, 50, 60, 100_000], keep_checkpoints=1)
    return zoo.pretrain(recipe, text, tmp_path_factory.mktemp("whole") / "run", stop_at=8)


def words_read(run):
    """Words after each update, by the rows of the run's plan and the text itself: a byte is a token."""
    from zoo.corpus.prepare import open_texts, tokenized
    from zoo.home import home

    recipe = zoo.recipe(run.folder / "recipe.yaml")
    kept = {"tokenizer": run.folder / "tokenizer.json"}
    corpus = tokenized(recipe, open_texts(recipe.data.corpus, recipe.data), kept, home())
    objective = make_objective(recipe, nominal_vocab(recipe))
    plan = rows_of(recipe, objective, corpus.train, corpus.tokenizer.special, 0)
    token, spaces = np.asarray(corpus.train.token), corpus.tokenizer.encode(" \n")
    begins = ~np.isin(token, spaces) & (np.isin(np.roll(token, 1), spaces) | (np.roll(token, 1) == 4))
    begins &= token != corpus.tokenizer.special["eod"]
    size, rows = recipe.row_tokens, recipe.rows_per_update
    found = []
    for update in range(recipe.train.updates):
        starts = plan.lines(update, 0, rows)[:, :1]
        found.append(int(begins[(starts + np.arange(size)) % len(token)].sum()))
    return np.cumsum(found).tolist()


def test_the_first_update_that_reaches_a_budget_has_a_checkpoint_with_its_name(whole):
    read = words_read(whole)
    due = {f"chck_{words}": 1 + next(n for n, seen in enumerate(read) if seen >= words) for words in (1, 50, 60)}
    assert {name: int(link.resolve().name[5:]) for name, link in checkpoint.named(whole.folder).items()} == due
    assert set(checkpoint.found(whole.folder)) == {*due.values(), 8}
    for step, folder in checkpoint.found(whole.folder).items():
        state = json.loads((folder / "state.json").read_text())
        assert state["words"] == read[step - 1]
        assert state["names"] == [name for name, at in due.items() if at == step]


def test_a_run_that_went_on_has_the_same(whole, text, tmp_path, capsys):  # noqa: F811
    """It was killed when its first checkpoint had no name yet. What the schedule does not reach is told once."""
    first, *_ = checkpoint.named(whole.folder).values()
    shutil.copytree(whole.folder, tmp_path / "run", symlinks=True)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.is_symlink() or path.name != first.resolve().name:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    again = zoo.pretrain(zoo.recipe(whole.folder / "recipe.yaml"), text, tmp_path / "run", resume=True, stop_at=8)
    told = capsys.readouterr().err
    assert told.count("warning: train.save_at_words 100K will not be reached: the schedule's 9 updates read about") == 1
    one, two = (checkpoint.named(run.folder) for run in (whole, again))
    assert [link.resolve().name for link in one.values()] == [link.resolve().name for link in two.values()]
    for name, link in one.items():
        assert (link / "MANIFEST.json").read_bytes() == (two[name] / "MANIFEST.json").read_bytes()


def test_such_a_checkpoint_is_what_a_run_stopped_there_ends_with(whole, text, tmp_path):  # noqa: F811
    link = checkpoint.named(whole.folder)["chck_50"]
    step = int(link.resolve().name.removeprefix("step-"))
    stopped = zoo.pretrain(zoo.recipe(whole.folder / "recipe.yaml"), text, tmp_path / "run", stop_at=step)
    for file in ("model.safetensors", "optimizer.safetensors", "state.json"):
        assert (link / file).read_bytes() == (checkpoint.folder_of(stopped.folder, step) / file).read_bytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_words_are_those_of_the_text_in_rows_of_every_kind(name):
    """Padding and special tokens are none; both sides of parallel text count. A word has four tokens here."""
    recipe = shrunk(name)
    vocab = nominal_vocab(recipe)
    paired = recipe.data.rows == "parallel"
    corpus = RandomTokens.drawn(4000, len(vocab.special), vocab.used, paired=paired)
    corpus.flags[:] = SPACED_START * (np.arange(len(corpus.flags)) % 4 == 0)  # the source's too: it is the same text
    objective = make_objective(recipe, vocab)
    plan = rows_of(recipe, objective, corpus, vocab.special, 0)
    update = Feed(objective, plan, 8, 3, 0).update(1)
    tokens = sum(int((batch.stream.doc > 0).sum()) for batch in update.batches) * (2 if paired else 1)
    assert 0.7 * tokens < 4 * update.words < 1.1 * tokens
    shares = [Feed(objective, plan, 8, 3, 0, Share(n, 3)).update(1).words for n in range(3)]
    assert sum(shares) == update.words


def test_one_command_exports_them_all_under_their_names(whole, tmp_path, capsys):
    assert command(["export", str(whole.folder), str(tmp_path / "out"), "--words"]) == 0
    names = ["chck_1", "chck_50", "chck_60"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    for name in names:
        weights = zoo.load(tmp_path / "out" / name).learner.weights
        own = zoo.load(whole.folder / "checkpoints" / name).learner.weights
        assert all(np.array_equal(weights[key], own[key]) for key in own)
    assert command(["export", str(whole.folder), str(tmp_path / "out"), "--words"]) == 2
    assert "chck_1' is in use" in capsys.readouterr().err
    assert command(["export", "gpt2-nano", str(tmp_path / "none"), "--words"]) == 2
    assert "train.save_at_words" in capsys.readouterr().err
