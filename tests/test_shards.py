"""Tokens on disk: what is written, how it is split, and that a cache is whole or not there at all."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.corpus import encoding
from zoo.corpus import prepare as prepare_module
from zoo.corpus.prepare import Corpus, prepare
from zoo.corpus.shards import Tokens
from zoo.corpus.sources import Source, open_source
from zoo.corpus.starts import SENTENCE_START, SPACED_START, WORD_START
from zoo.errors import UserError
from zoo.sections import Data, TokenizerSpec

BYTES = TokenizerSpec.model_validate({"kind": "bytes", "size": 260})
WORDS = "It was so. The old dog ran! And then? He slept. "


def corpus_of(texts: list[str], home: Path, spec: TokenizerSpec = BYTES, **more: object) -> Corpus:
    return prepare(open_source(texts, Data()), spec, Data(), home=home, **more)  # type: ignore[arg-type]


def text_of(corpus: Corpus, tokens: Tokens) -> str:
    return corpus.tokenizer.decode(tokens.token).replace("<|endoftext|>", "")


def check(tokens: Tokens) -> None:
    """What holds for every split."""
    size = len(tokens.token)
    assert len(tokens.flags) == size > 0
    for offsets in (tokens.documents, tokens.sentences):
        assert offsets.dtype == np.int64
        assert (offsets[0], offsets[-1]) == (0, size)
        assert (np.diff(offsets) > 0).all()
    assert set(tokens.documents.tolist()) <= set(tokens.sentences.tolist())
    assert np.array_equal(np.flatnonzero(tokens.flags & SENTENCE_START), tokens.sentences[:-1])
    assert np.array_equal(tokens.unigram, np.bincount(tokens.token, minlength=len(tokens.unigram)))
    share = tokens.unigram[tokens.unigram > 0] / size
    assert tokens.unigram_entropy == pytest.approx(-(share * np.log(share)).sum())


def test_documents_in_and_out(tmp_path: Path) -> None:
    texts = [f"Document {number}. It says {number * 'so '}much. Ünd 你好." for number in range(30)]
    corpus = corpus_of(texts, tmp_path)
    check(corpus.train)
    check(corpus.valid)
    assert len(corpus.train.documents) - 1 == 27
    assert corpus.train.token.dtype == np.uint16
    eod, found = corpus.tokenizer.special["eod"], []
    for tokens in (corpus.train, corpus.valid):
        for begin, end in zip(tokens.documents[:-1], tokens.documents[1:], strict=True):
            assert tokens.token[end - 1] == eod
            assert tokens.flags[end - 1] == 0
            assert tokens.flags[begin] == WORD_START | SENTENCE_START | SPACED_START
            found.append(corpus.tokenizer.decode(tokens.token[begin : end - 1]))
    assert found == texts
    assert corpus.train.bytes == sum(len(text.encode()) for text in texts[:27])
    assert corpus.valid.bytes == sum(len(text.encode()) for text in texts[27:])
    assert corpus.facts["documents"] == 30
    assert corpus.facts["bytes_per_token"] == 1


@pytest.mark.parametrize("documents, cut", [(20, 18), (21, 18), (25, 22), (30, 27)])
def test_split_of_many_documents(tmp_path: Path, documents: int, cut: int) -> None:
    corpus = corpus_of([f"{number} {'x' * number}" for number in range(documents)], tmp_path)
    assert len(corpus.train.documents) - 1 == cut
    assert text_of(corpus, corpus.valid).startswith(f"{cut} x")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(3, 30), min_size=1, max_size=19), st.sampled_from(["bytes", "characters", "wordpiece"]))
def test_split_of_few_documents(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], kind: str) -> None:
    texts = [WORDS * length for length in lengths]
    spec = TokenizerSpec.model_validate({"kind": kind, "size": 300, "specials": {"unk": "<unk>"}})
    corpus = corpus_of(texts, tmp_path_factory.mktemp("home"), spec)
    check(corpus.train)
    check(corpus.valid)
    total = sum(map(len, texts))
    assert corpus.train.bytes + corpus.valid.bytes == total
    assert 0.9 * total <= corpus.train.bytes <= 0.9 * total + len(WORDS)
    if kind != "wordpiece":
        assert text_of(corpus, corpus.train) + text_of(corpus, corpus.valid) == "".join(texts)
        assert len(text_of(corpus, corpus.train)) == corpus.train.bytes
    begin = text_of(corpus, corpus.valid).strip()
    assert begin.startswith(("It was", "The old", "And then", "He slept"))


def test_without_sentences_the_split_is_at_a_word(tmp_path: Path) -> None:
    words = ["anarchism originated as a term of abuse " * 500]  # as in text8
    corpus = corpus_of(words, tmp_path)
    assert 0.9 <= corpus.train.bytes / len(words[0]) < 0.93
    assert corpus.valid.flags[0] & WORD_START
    check(corpus.train)
    assert corpus.train.bytes + corpus.valid.bytes == len(words[0])
    assert len(text_of(corpus, corpus.train)) == corpus.train.bytes

    short = corpus_of(["one two three " * 25], tmp_path)  # 75 words
    assert text_of(corpus, short.valid) == "two three " + "one two three " * 3  # from the 65th word on
    with pytest.raises(UserError, match=r"texts: no word starts in the last part of its .*set data.valid"):
        corpus_of(["acgt" * 5000], tmp_path)


def test_a_source_of_its_own_for_validation(tmp_path: Path) -> None:
    valid = open_source(["Another text."], Data())
    corpus = corpus_of(["acgt" * 5000], tmp_path, valid_source=valid)
    check(corpus.valid)
    assert text_of(corpus, corpus.train) == "acgt" * 5000
    assert text_of(corpus, corpus.valid) == "Another text."
    other = corpus_of(["acgt" * 5000], tmp_path, valid_source=open_source(["A third."], Data()))
    assert corpus.fingerprint != other.fingerprint
    assert (corpus.train.bytes, corpus.valid.bytes) == (20000, 13)


def test_exact_duplicates_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = corpus_of([*["The same. " * 10] * 3, "The same. ", "Another. ", "Another. "], tmp_path)
    assert corpus.facts["duplicates"] == 3
    assert "documents 6, exact duplicates 3" in capsys.readouterr().err


def test_facts_are_told_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = TokenizerSpec.model_validate({"kind": "characters", "size": 100})
    corpus = corpus_of(["aaaa bb. C" * 50], tmp_path, spec)
    assert corpus.facts["unused_ids"] == 100 - corpus.tokenizer.size == 100 - 7
    assert corpus.facts["unknown_rate"] == 0
    assert corpus.facts["words"] == 50 * 4 - 49  # the C ends in the next aaaa
    assert corpus.facts["fertility"] == pytest.approx(500 / 151)
    first = capsys.readouterr().err
    again = corpus_of(["aaaa bb. C" * 50], tmp_path, spec)
    second = capsys.readouterr().err
    assert "7 ids; 93 of 100 rows stay unused; 1.00 bytes a token, 3.31 tokens a word, 0.00% unknown" in second
    assert first.endswith(second)
    assert again.facts == corpus.facts
    unknown = TokenizerSpec.model_validate({"kind": "characters", "size": 6})
    assert corpus_of(["aaaa bb. C" * 50], tmp_path, unknown).facts["unknown_rate"] == pytest.approx(0.1)


def many_texts() -> list[str]:
    generator = np.random.default_rng(7)
    parts = ["The", "old dog", "ran.", "And", '"so."', "\n\n", "é", "你好", "<|endoftext|>", "x" * 40, "?!", "  "]
    return ["".join(f"{parts[n]} " for n in generator.integers(0, 12, size)) for size in (3, 900, 5, 1, 400, 2000, 1)]


@pytest.mark.parametrize("kind", ["bytes_bpe", "wordpiece", "unigram", "characters", "bytes"])
def test_parallel_is_serial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    spec = TokenizerSpec.model_validate({"kind": kind, "size": 400})
    texts = [text for text in many_texts() if text.strip()]
    whole = corpus_of(texts, tmp_path, spec)
    monkeypatch.setattr(encoding, "SLICE", 60)
    monkeypatch.setattr(encoding, "BUNDLE", 300)
    for threads in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        shutil.rmtree(tmp_path / "tokens")
        sliced = corpus_of(texts, tmp_path, spec)
        for one, other in ((whole.train, sliced.train), (whole.valid, sliced.valid)):
            assert np.array_equal(one.documents, other.documents)
            assert np.array_equal(one.token, other.token)
            assert np.array_equal(one.sentences, other.sentences)
            assert np.array_equal(one.flags, other.flags)
            assert one.bytes == other.bytes
        check(sliced.train)
    if "eod" in whole.tokenizer.special:
        eod = whole.tokenizer.special["eod"]
        ends = sum(np.count_nonzero(tokens.token == eod) for tokens in (whole.train, whole.valid))
        assert ends == len(texts)  # not those that are written in the text


def test_documents_without_tokens_are_none(tmp_path: Path) -> None:
    spec = TokenizerSpec.model_validate({"kind": "wordpiece", "size": 100})
    nothing = "\u200b\u200b"  # format characters, which BERT's normaliser drops
    texts = [nothing, "One two. Three.", nothing, nothing, "Four five. Six seven.", nothing]
    corpus = corpus_of(texts, tmp_path, spec)
    check(corpus.train)
    assert corpus.facts["documents"] == 2
    with pytest.raises(UserError, match="texts: there is not one word in it"):
        corpus_of([" " * 2, nothing], tmp_path, spec.model_copy(update={"file": str(next(tmp_path.glob("t*/*.json")))}))


def test_a_document_that_begins_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "SLICE", 50)
    monkeypatch.setattr(encoding, "BUNDLE", 50)
    spec = TokenizerSpec.model_validate({"kind": "wordpiece", "size": 100})
    corpus = corpus_of(["One. Two three.", "\u200b" * 300 + " lower. Upper again."], tmp_path, spec)
    check(corpus.train)


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    letters = [chr(number) for number in range(0x4E00, 0x9FA0)] + [chr(number) for number in range(0x20000, 0x2B700)]
    spec = TokenizerSpec.model_validate({"kind": "characters", "size": 70_000})
    text = "".join(letters)
    corpus = corpus_of([f"{text[:-100]}. {text[-100:]}"], tmp_path, spec, valid_source=open_source(["一"], Data()))
    assert corpus.tokenizer.size > 1 << 16
    assert corpus.train.token.dtype == np.uint32
    assert corpus.train.token.max() == corpus.tokenizer.size - 1


def test_each_thing_that_matters_has_a_cache_of_its_own(tmp_path: Path) -> None:
    def folders() -> int:
        return sum(path.is_dir() for path in (tmp_path / "tokens").iterdir())

    texts = [WORDS * 20]
    corpus_of(texts, tmp_path)
    corpus_of(texts, tmp_path)
    assert folders() == 1
    corpus_of([*texts, "More."], tmp_path)
    assert folders() == 2
    corpus_of(texts, tmp_path, TokenizerSpec.model_validate({"kind": "bytes", "size": 260, "specials": {"end": "<e>"}}))
    assert folders() == 3
    corpus_of(texts, tmp_path, BYTES.model_copy(update={"size": 300}))  # trained apart, and the same: 257 ids
    assert folders() == 3


def test_a_tokenizer_is_trained_once_and_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TokenizerSpec.model_validate({"kind": "wordpiece", "size": 100})
    corpus = corpus_of([WORDS * 20], tmp_path, spec)
    (file,) = (tmp_path / "tokenizers").glob("*.json")
    assert file.read_text(encoding="utf-8") == corpus.tokenizer.json()
    monkeypatch.setattr(prepare_module, "train", None)
    again = corpus_of([WORDS * 20], tmp_path, spec)
    assert again.tokenizer.json() == corpus.tokenizer.json()
    shutil.copy(file, tmp_path / "mine.json")
    given = corpus_of(["Other text. It was so. "], tmp_path, spec.model_copy(update={"file": f"{tmp_path}/mine.json"}))
    assert given.tokenizer.json() == corpus.tokenizer.json()
    with pytest.raises(UserError, match="ids and the model 20 rows"):
        corpus_of([WORDS], tmp_path, spec.model_copy(update={"file": str(tmp_path / "mine.json"), "size": 20}))


def harm_truncate(folder: Path) -> None:
    os.truncate(folder / "part" / "flags.bin", 5)


def harm_remove(folder: Path) -> None:
    (folder / "part" / "sentences.bin").unlink()


def harm_meta(folder: Path) -> None:
    (folder / "corpus.json").write_text('{"format": 1, "files"')


def harm_format(folder: Path) -> None:
    meta = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps({**meta, "format": 0}))


@pytest.mark.parametrize("harm", [harm_truncate, harm_remove, harm_meta, harm_format])
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None]
) -> None:
    before = corpus_of([WORDS * 20], tmp_path)
    expected = before.train.token.copy()
    (folder,) = (path for path in (tmp_path / "tokens").iterdir() if path.is_dir())
    harm(folder)
    capsys.readouterr()
    after = corpus_of([WORDS * 20], tmp_path)
    assert "are damaged" in capsys.readouterr().err
    assert np.array_equal(after.train.token, expected)
    check(after.valid)


def slow_source(read: Callable[[], Iterator[tuple[str, bool]]]) -> Source:
    return Source("slow", "f1", None, lambda tally: read())


def lines() -> Iterator[tuple[str, bool]]:
    for number in range(40):
        yield f"Document {number}. {WORDS}", True


CHILD = """
import os, sys
from pathlib import Path
from zoo.corpus import encoding
from zoo.corpus.prepare import prepare
from zoo.corpus.sources import Source
from zoo.sections import Data, TokenizerSpec

encoding.BUNDLE = 100
def read(tally):
    for number in range(40):
        yield f"Document {number}. " + sys.argv[2], True
        if number == 30:
            os._exit(9)  # as kill -9 would

spec = TokenizerSpec(kind="bytes", size=260)
prepare(Source("slow", "f1", None, read), spec, Data(), home=Path(sys.argv[1]))
"""


def test_a_killed_preparation_leaves_nothing_that_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), WORDS], capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    (partial,) = (path for path in (tmp_path / "tokens").iterdir() if path.is_dir())
    assert partial.suffix == ".partial"
    assert (partial / "part" / "token.bin").exists()
    corpus = prepare(slow_source(lines), BYTES, Data(), home=tmp_path)
    assert corpus.facts["documents"] == 40
    assert not partial.exists()
    assert "damaged" not in capsys.readouterr().err


def test_two_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun, go = threading.Event(), threading.Event()
    found: list[Corpus] = []

    def held() -> Iterator[tuple[str, bool]]:
        begun.set()
        assert go.wait(20)
        yield from lines()

    def never() -> Iterator[tuple[str, bool]]:
        raise AssertionError("read a second time")
        yield

    def run(read: Callable[[], Iterator[tuple[str, bool]]]) -> None:
        found.append(prepare(slow_source(read), BYTES, Data(), home=tmp_path))

    first = threading.Thread(target=run, args=(held,))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=run, args=(never,))
    second.start()
    told = ""
    for _ in range(400):
        told += capsys.readouterr().err
        if "waiting" in told:
            break
        second.join(0.02)
    go.set()
    first.join(20)
    second.join(20)
    assert "another process is tokenizing slow; waiting for it" in told
    assert len(found) == 2
    assert np.array_equal(found[0].train.token, found[1].train.token)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, bool]]:
        yield WORDS, True
        raise UserError("slow: the line after the first is no text")

    with pytest.raises(UserError, match="no text"):
        prepare(slow_source(broken), BYTES, Data(), home=tmp_path)
    assert not [path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]
    assert prepare(slow_source(lines), BYTES, Data(), home=tmp_path).facts["documents"] == 40


def test_a_full_disk_is_told_in_a_line(tmp_path: Path) -> None:
    corpus_of(["Small. Text."], tmp_path)  # the tokenizer, which must fit
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=rf"{tmp_path} cannot be written \(File too large\); make room"):
            corpus_of([WORDS * 1000], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "tokens").glob(".*.partial"))
    assert corpus_of([WORDS * 1000], tmp_path).facts["bytes"] == 1000 * len(WORDS)


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UserError, match=r"home cannot be written \(Not a directory\)"):
        corpus_of([WORDS], tmp_path / "home")


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_an_empty_corpus_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(UserError, match="no text"):
        corpus_of(texts, tmp_path)
