"""A corpus tokenized in shares: joined, it is what one process makes of it, wherever the text and the shares lie."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shrunk import FAMILIES, shrunk

from zoo import cli
from zoo.corpus import merge as merge_module
from zoo.corpus.joined import BLOCK, Joined
from zoo.corpus.prepare import Corpus, open_texts, tokenized
from zoo.corpus.remote import path_of, put
from zoo.corpus.share import merge, prepare_share
from zoo.disk import MANIFEST, write_manifest
from zoo.errors import RunFailed, UserError
from zoo.schema import Recipe
from zoo.train.feed import rows_of
from zoo.train.run import read_metrics
from zoo.train.start import make_objective, nominal_vocab

WORDS = "It was so. The old dog ran! And then? He slept. "
CAUSAL = shrunk("gpt2-small").with_changes(tokenizer={"kind": "bytes", "size": 257}, data={"document": "line"})


def write_texts(folder: Path, lengths: list[list[int]]) -> str:
    """A file for each list, with documents of so many sentences; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, of_file in enumerate(lengths):
        lines = [f"Document {number}.{n}. {WORDS * length}" for n, length in enumerate(of_file)]
        (folder / f"{number:03}.txt").write_text("\n".join(lines))
    return str(folder)


def corpus_of(place: str, home: Path, recipe: Recipe = CAUSAL) -> Corpus:
    return tokenized(recipe, open_texts(place, recipe.data), {}, home)


def shared(place: str, out: str, of: int, home: Path, recipe: Recipe = CAUSAL) -> dict[str, Any]:
    for number in range(1, of + 1):
        assert prepare_share(recipe, place, out, number, of, home).endswith("is made")
    return merge(out, home)


def assert_equal(one: Corpus, other: Corpus) -> None:
    assert (one.fingerprint, one.facts) == (other.fingerprint, other.facts)
    assert one.tokenizer.json() == other.tokenizer.json()
    for mine, theirs in ((one.train, other.train), (one.valid, other.valid)):
        assert mine.bytes == theirs.bytes
        for name in ("token", "flags", "documents", "sentences", "unigram"):
            a, b = np.asarray(getattr(mine, name)), np.asarray(getattr(theirs, name))
            assert a.dtype == b.dtype
            assert np.array_equal(a, b), name


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=9), min_size=1, max_size=8), st.data())
def test_joined_shares_are_the_corpus(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], data: st.DataObject
) -> None:
    """With few documents, of which the last is cut, and with many, of which the last tenth is."""
    room = tmp_path_factory.mktemp("room")
    place = write_texts(room / "texts", lengths)
    of = data.draw(st.integers(1, len(lengths)))
    made = shared(place, str(room / "out"), of, room / "home")
    assert len(made["parts"]) == of
    assert_equal(corpus_of(place, room / "home"), corpus_of(str(room / "out"), room / "home"))


def test_duplicates_are_counted_across_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_texts(tmp_path / "texts", [[1, 2, 3]] * 5)
    for file in Path(place).iterdir():
        file.write_text("The same.\nAnother.\nThe same.")
    for at_once in (1 << 26, 2):
        monkeypatch.setattr(merge_module, "HASHES", at_once)
        out = str(tmp_path / f"out-{at_once}")
        assert shared(place, out, 3, tmp_path / "home")["duplicates"] == 13


def test_shares_are_of_equal_size(tmp_path: Path) -> None:
    place = write_texts(tmp_path / "texts", [[40]] * 6 + [[10]] * 24)
    made = shared(place, str(tmp_path / "out"), 4, tmp_path / "home")
    sizes, largest_file = [part["bytes"] for part in made["parts"]], 2000
    assert max(sizes) - min(sizes) < largest_file < min(sizes)


@pytest.mark.parametrize("name", FAMILIES[:3])
def test_rows_of_shares_are_the_rows_of_the_text(tmp_path: Path, name: str) -> None:
    """For packed rows, pairs of sentences, and streams with a memory: also those at the ends of shares."""
    recipe = shrunk(name).with_changes(tokenizer={"size": 300}, data={"document": "line"})
    place = write_texts(tmp_path / "texts", [[3, 9, 14, 6], [20, 2, 7], [8, 8], [5] * 9])
    shared(place, str(tmp_path / "out"), 3, tmp_path / "home", recipe)
    found = []
    for corpus in (
        corpus_of(place, tmp_path / "home", recipe),
        corpus_of(str(tmp_path / "out"), tmp_path / "home", recipe),
    ):
        objective = make_objective(recipe, nominal_vocab(recipe))
        found.append(rows_of(recipe, objective, corpus.train, corpus.tokenizer.special, 3))
    assert isinstance(found[1].token, Joined)
    for update in range(found[0].rows_in_epoch // recipe.rows_per_update + 2):
        for mine, theirs in zip(*(plan.rows(update, 0, recipe.rows_per_update) for plan in found), strict=True):
            assert mine is theirs is None or np.array_equal(np.asarray(mine), np.asarray(theirs))


# --- again, by halves, and by mistake


def test_a_share_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, out = write_texts(tmp_path / "texts", [[5, 5], [9]]), str(tmp_path / "out")
    shared(place, out, 2, tmp_path / "home")
    part = tmp_path / "out" / "part-00001-of-00002"
    before = (part / "token.bin").stat().st_ino
    assert prepare_share(CAUSAL, place, out, 1, 2, tmp_path / "home").endswith("is there already")
    assert (part / "token.bin").stat().st_ino == before
    os.truncate(part / "flags.bin", 3)
    assert prepare_share(CAUSAL, place, out, 1, 2, tmp_path / "home").endswith("is made")
    assert "part-00001-of-00002 is not whole; it is made again" in capsys.readouterr().err
    merge(out, tmp_path / "home")
    (Path(place) / "000.txt").write_text("Other text.")
    with pytest.raises(UserError, match="part-00001-of-00002 was made of another text or with another tokenizer"):
        prepare_share(CAUSAL, place, out, 1, 2, tmp_path / "home")


def harm_missing(out: Path) -> None:
    (out / "part-00002-of-00003").rename(out / "gone")


def harm_byte(out: Path) -> None:
    file = out / "part-00003-of-00003" / "token.bin"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)


def harm_tokenizer(out: Path) -> None:
    file = out / "tokenizer.json"
    file.write_text(file.read_text() + " ")


def harm_counts(out: Path) -> None:
    (out / "part-00002-of-00003").rename(out / "part-00002-of-00004")


def harm_rules(out: Path) -> None:
    part = out / "part-00002-of-00003"
    meta = json.loads((part / "part.json").read_text())
    (part / "part.json").write_text(json.dumps({**meta, "rules": {"document": "file", "text": "text"}}))
    (part / MANIFEST).unlink()
    write_manifest(part)


@pytest.mark.parametrize(
    "harm, told",
    [
        (harm_missing, r"2/3 missing; zoo data prepare --shard 2/3 makes one of them"),
        (harm_byte, r"part-00003-of-00003 damaged \(part-00003-of-00003: token.bin does not have the sha256"),
        (harm_tokenizer, r"made with another tokenizer"),
        (harm_counts, r"holds shares of 3 and of 4"),
        (harm_rules, r"part-00002-of-00003: made with another tokenizer or other keys of data"),
    ],
)
def test_what_is_not_sound_is_not_joined(tmp_path: Path, harm: Callable[[Path], None], told: str) -> None:
    place, out = write_texts(tmp_path / "texts", [[5, 5], [9], [7]]), tmp_path / "out"
    shared(place, str(out), 3, tmp_path / "home")
    (out / "corpus.json").unlink()
    harm(out)
    with pytest.raises(UserError, match=told):
        merge(str(out), tmp_path / "home")
    assert not (out / "corpus.json").exists()


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    place, out = write_texts(tmp_path / "texts", [[5, 5], [9]]), str(tmp_path / "out")
    with pytest.raises(UserError, match="3 shares are too many for 2 files"):
        prepare_share(CAUSAL, place, out, 1, 3, tmp_path / "home")
    with pytest.raises(UserError, match="pairs of texts cannot be shared out"):
        prepare_share(shrunk("transformer-base"), place, out, 1, 1, tmp_path / "home")
    with pytest.raises(UserError, match="hf:wikitext is one stream"):
        prepare_share(CAUSAL, "hf:wikitext", out, 1, 1, tmp_path / "home")
    with pytest.raises(UserError, match="holds no share of a corpus"):
        merge(place, tmp_path / "home")
    shared(place, out, 2, tmp_path / "home")
    with pytest.raises(UserError, match=r"was prepared with data.document line, and the recipe has file"):
        open_texts(out, CAUSAL.with_changes(data={"document": "file"}).data)
    with pytest.raises(UserError, match="no file of a known kind"):
        open_texts(out, shrunk("transformer-base").data)
    (tmp_path / "out" / "part-00001-of-00002" / "token.bin").unlink()
    with pytest.raises(UserError, match=r"part-00001-of-00002/token.bin is missing; zoo data merge says"):
        corpus_of(out, tmp_path / "home")


def test_shares_for_validation(tmp_path: Path) -> None:
    place, other, home = write_texts(tmp_path / "texts", [[5, 5], [9]]), tmp_path / "other", tmp_path / "home"
    write_texts(other, [[7], [2, 2]])
    out = [str(tmp_path / "out"), str(tmp_path / "valid")]
    for where, texts in zip(out, (place, str(other)), strict=True):
        shared(texts, where, 2, home)
    given = [CAUSAL.with_changes(data={"valid": valid}) for valid in (str(other), out[1])]
    found = [corpus_of(corpus, home, recipe) for corpus, recipe in zip((place, out[0]), given, strict=True)]
    assert_equal(*found)
    assert found[0].facts["documents"] == 3


def test_shares_wait_for_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, out, home = write_texts(tmp_path / "texts", [[5, 5], [9]]), str(tmp_path / "out"), tmp_path / "home"
    monkeypatch.setenv("ZOO_WAIT", "0.5")
    with pytest.raises(UserError, match=r"share 1 did not make .*tokenizer.json in 0 s; ZOO_WAIT says how long"):
        prepare_share(CAUSAL, place, out, 2, 2, home)
    monkeypatch.setenv("ZOO_WAIT", "long")
    with pytest.raises(UserError, match="ZOO_WAIT is 'long'"):
        prepare_share(CAUSAL, place, out, 2, 2, home)
    monkeypatch.setenv("ZOO_WAIT", "60")
    monkeypatch.setattr("zoo.waiting.PLAIN_SECONDS", 0.1)
    found: list[str] = []
    second = threading.Thread(target=lambda: found.append(prepare_share(CAUSAL, place, out, 2, 2, home)))
    second.start()
    second.join(1)
    assert second.is_alive()
    prepare_share(CAUSAL, place, out, 1, 2, home)
    second.join(30)
    assert found[0].endswith("part-00002-of-00002 is made")
    assert "still waiting for share 1, which makes" in capsys.readouterr().err


def test_a_tokenizer_of_ones_own_needs_no_waiting(tmp_path: Path) -> None:
    place, home = write_texts(tmp_path / "texts", [[5, 5], [9]]), tmp_path / "home"
    file = tmp_path / "mine.json"
    file.write_text(corpus_of(place, home).tokenizer.json())
    recipe = CAUSAL.with_changes(tokenizer={"file": str(file)})
    out = str(tmp_path / "out")
    prepare_share(recipe, place, out, 2, 2, home)
    prepare_share(recipe, place, out, 1, 2, home)
    merge(out, home)
    assert_equal(corpus_of(place, home), corpus_of(out, home, recipe))
    other = tmp_path / "other.json"
    other.write_text(file.read_text() + " ")
    with pytest.raises(UserError, match=r"was tokenized with .*tokenizer.json, and this run has another one"):
        corpus_of(out, home, CAUSAL.with_changes(tokenizer={"file": str(other)}))


# --- behind an address


@pytest.fixture
def bucket() -> Iterator[str]:
    """A store behind an address, in this process's memory."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    MemoryFileSystem.store.clear()


def test_text_and_shares_behind_an_address(tmp_path: Path, bucket: str) -> None:
    place, home = write_texts(tmp_path / "texts", [[5, 5], [9], [300]]), tmp_path / "home"
    put(Path(place), path_of(f"{bucket}/texts"), "")
    (path_of(f"{bucket}/texts") / ".hidden" / "a.txt").write_bytes(b"\xff")
    texts, out = f"{bucket}/texts", f"{bucket}/out"
    shared(texts, out, 2, home)
    assert prepare_share(CAUSAL, texts, out, 2, 2, home).endswith("is there already")
    assert not [path for path in home.iterdir() if path.name.startswith("tmp")]
    here, there = corpus_of(place, home), corpus_of(out, home)
    assert np.array_equal(np.asarray(here.train.token), np.asarray(there.train.token))
    assert np.array_equal(np.asarray(here.valid.sentences), np.asarray(there.valid.sentences))
    assert there.facts == here.facts
    assert_equal(there, corpus_of(texts, home))
    with pytest.raises(UserError, match=f"{bucket}/nothing: nothing is there"):
        corpus_of(f"{bucket}/nothing", home)
    with pytest.raises(UserError, match="nowhere://a: cannot be reached"):
        corpus_of("nowhere://a", home)
    for kinds in ("*.txt", "**/*.txt"):
        assert corpus_of(f"{texts}/{kinds}", home).facts == here.facts


def test_only_what_a_row_needs_is_fetched(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    place = write_texts(tmp_path / "texts", [[2000, 2000], [3000], [2500], [3000]])
    put(Path(place), path_of(f"{bucket}/texts"), "")
    shared(f"{bucket}/texts", f"{bucket}/out", 4, tmp_path / "home")
    asked: list[tuple[str, int]] = []
    real = MemoryFileSystem.cat_ranges

    def counted(self: Any, paths: list[str], starts: list[int], ends: list[int], **options: Any) -> Any:
        asked.extend(zip((path.rpartition("/")[2] for path in paths), starts, strict=True))
        return real(self, paths, starts, ends, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", counted)
    home = tmp_path / "another"
    home.mkdir()
    token = corpus_of(f"{bucket}/out", home).train.token
    assert {name for name, _ in asked} == {"documents.bin"}
    asked.clear()
    middle = len(token) // 2
    row = token.take(np.arange(middle, middle + 1024))
    assert 1 <= len(asked) <= 2
    assert {name for name, _ in asked} == {"token.bin"}
    assert np.array_equal(row, np.asarray(corpus_of(place, home).train.token)[middle : middle + 1024])
    asked.clear()
    again = corpus_of(f"{bucket}/out", home).train.token  # another process, later
    assert np.array_equal(again.take(np.arange(middle, middle + 1024)), row)
    assert asked == []
    taken = sum(file.stat().st_blocks * 512 for file in (home / "fetched").glob("*.bin"))
    assert taken < 10 * BLOCK < 2 * len(token)
    again.take(np.arange(0, len(again), 999))
    assert np.array_equal(np.asarray(again), np.asarray(corpus_of(place, home).train.token))


def test_a_full_disk_keeps_nothing(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, home = write_texts(tmp_path / "texts", [[2000, 2000], [3000]]), tmp_path / "home"
    expected = np.asarray(corpus_of(place, home).train.token)
    shared(place, f"{bucket}/out", 2, home)
    home = tmp_path / "another"
    home.mkdir()
    monkeypatch.setattr("zoo.corpus.joined.FREE", 1.0)
    token = corpus_of(f"{bucket}/out", home).train.token
    for _ in range(2):
        index = np.random.default_rng(0).integers(0, len(token), (7, 50))
        assert np.array_equal(token.take(index), expected[index])
    assert not any(np.fromfile(file, bool).any() for file in (home / "fetched").glob("*.here"))


def test_a_store_that_is_away_is_asked_again(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    place, home = write_texts(tmp_path / "texts", [[2000, 2000], [3000]]), tmp_path / "home"
    expected = np.asarray(corpus_of(place, home).train.token)
    shared(place, f"{bucket}/out", 2, home)
    token = corpus_of(f"{bucket}/out", home).train.token
    real, failures = MemoryFileSystem.cat_ranges, iter([True, True, False, *[True] * 9])

    def failing(self: Any, *given: Any, **options: Any) -> Any:
        if next(failures):
            raise TimeoutError("no answer")
        return real(self, *given, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", failing)
    monkeypatch.setattr("zoo.corpus.joined.RETRIES", (0, 0, 0, 0))
    assert np.array_equal(token.take(np.arange(99)), expected[:99])
    assert capsys.readouterr().err.count("token.bin: cannot be reached (no answer); asking again in 0 s") == 2
    with pytest.raises(RunFailed, match=r"cannot be reached \(no answer\); a run goes on with --resume"):
        token.take(np.arange(len(token) - 9, len(token)))


def test_a_store_that_fails_leaves_no_share(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    place, home, real = write_texts(tmp_path / "texts", [[5, 5], [9]]), tmp_path / "home", MemoryFileSystem.put_file
    home.mkdir()

    def failing(self: Any, here: str, there: str, **options: Any) -> None:
        if here.endswith("token.bin"):
            raise RuntimeError("the line is cut")
        real(self, here, there, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", failing)
        with pytest.raises(UserError, match=r"part-00001-of-00002: cannot be reached \(the line is cut\)"):
            prepare_share(CAUSAL, place, f"{bucket}/out", 1, 2, home)
    assert not path_of(f"{bucket}/out/part-00001-of-00002/{MANIFEST}").is_file()
    with pytest.raises(UserError, match="2/2 missing"):
        merge(f"{bucket}/out", home)
    shared(place, f"{bucket}/out", 2, home)
    assert corpus_of(f"{bucket}/out", home).facts["documents"] == 3


# --- as a user does it


@pytest.mark.slow
def test_shares_by_several_processes_and_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run on shares is a run on the text, and goes on with either."""
    place, out = write_texts(tmp_path / "texts", [[20, 20], [30], [25], [25]]), str(tmp_path / "out")
    small = ["gpt2-nano", "--set", "tokenizer.size=300", "--set", "data.document=line"]
    command = [sys.executable, "-m", "zoo", "data", "prepare", *small, "--data", place, "--out", out, "--shard"]
    started = [subprocess.Popen([*command, f"{number}/3"], stdout=subprocess.PIPE, text=True) for number in (3, 2, 1)]
    assert all("is made" in process.communicate(timeout=120)[0] for process in started)
    assert cli.run(["data", "merge", out]) == 0
    assert f"{out}: 3 shares, " in capsys.readouterr().out

    kept = ["--set", "model.width=16", "--set", "model.heads=2", "--set", "train.precision=float32"]
    runs = tmp_path / "shares", tmp_path / "text"
    run = ["pretrain", *small, "--updates", "4", *kept, "--data"]
    assert cli.run([*run, out, "--out", str(runs[0])]) == 0
    text = ["--set", f"tokenizer.file={runs[0] / 'tokenizer.json'}"]
    assert cli.run([*run, place, *text, "--out", str(runs[1]), "--stop-at", "2"]) == 0
    assert cli.run([*run, out, *text, "--out", str(runs[1]), "--resume"]) == 0
    losses = [[line["loss"] for line in read_metrics(folder)] for folder in runs]
    assert losses[0][-1] == losses[1][-1]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2"])
def test_a_share_that_is_none(shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "prepare", "gpt2-nano", "--out", "x", f"--shard={shard}"]) == 2
    assert f"--shard {shard!r} is not I/N with I from 1 to N" in capsys.readouterr().err


def test_commands_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "prepair"]) == 2
    assert "there is no command 'prepair'; did you mean 'prepare'?" in capsys.readouterr().err
