import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zoo.corpus import files, sources
from zoo.corpus.parallel import Parallel, open_parallel
from zoo.corpus.sources import Source, open_source
from zoo.errors import UserError
from zoo.sections import Data

PAIRS = [("A dog.", "Ein Hund."), ('The "cat"', "Die „Katze“"), ("two, three", 'zwei, "drei')]
RAGGED = [("one", None), *PAIRS[:1], (" ", "zwei"), *PAIRS[1:], ("", "")]  # three pairs to skip
EN_DE: dict[str, Any] = {"source": "en", "target": "de"}


def documents(source: Source) -> list[str]:
    texts: list[str] = []
    for text, starts in source.pieces():
        if starts:
            texts.append(text)
        else:
            texts[-1] += text
    return texts


def pairs_of(opened: Parallel) -> list[tuple[str, str]]:
    """All pairs, after all that holds for any input was checked."""
    pairs = list(zip(documents(opened.source), documents(opened.target), strict=True))
    assert documents(opened.both) == [text for pair in pairs for text in pair]
    assert opened.source.tally == opened.target.tally == opened.both.tally
    assert len({source.fingerprint for source in opened}) == len({source.name for source in opened}) == 3
    for source in opened:
        assert source.bytes is None or source.bytes == source.tally.bytes_read
    return pairs


def read(corpus, **data) -> list[tuple[str, str]]:
    return pairs_of(open_parallel(corpus, Data(**data)))


def refused(corpus, **data) -> str:
    with pytest.raises(UserError) as caught:
        read(corpus, **data)
    line = str(caught.value)
    assert "\n" not in line
    return line


def fingerprints(corpus, **data) -> list[str]:
    return [source.fingerprint for source in open_parallel(corpus, Data(**data))]


def write_two(folder: Path, source: str, target: str) -> str:
    (folder / "a.en").write_text(source, encoding="utf-8")
    (folder / "a.de").write_text(target, encoding="utf-8")
    return f"{folder}/a.en,{folder}/a.de"


def write_table(path: Path, pairs, names=("en", "de")) -> Path:
    """A table of any kind, with a column that nobody asked for in front."""
    rows = [(str(number), *pair) for number, pair in enumerate(pairs)]
    names = ("n", *names)
    if path.suffix == ".parquet":
        pandas.DataFrame(rows, columns=list(names)).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    elif path.suffix == ".tsv":
        path.write_text("".join("\t".join(text or "" for text in row) + "\n" for row in [names, *rows]))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
    return path


def packed(path: Path, suffix: str) -> Path:
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix]
    to = path.with_name(path.name + suffix)
    to.write_bytes(pack(path.read_bytes()))
    return to


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


# Every kind of input


def test_two_files_plain_and_packed(tmp_path):
    source, target = ("".join(f" {pair[side] or ''}\r\n" for pair in RAGGED) for side in (0, 1))
    place = write_two(tmp_path, "\ufeff" + source, target)
    en, de = (Path(part) for part in place.split(","))
    for names in (place, place.replace(",", ", "), f"{packed(en, '.gz')},{packed(de, '.zst')}", Path(place)):
        opened = open_parallel(names, Data())
        for _ in range(2):
            assert pairs_of(opened) == PAIRS
            assert opened.both.tally.skipped == 3
        assert opened.both.bytes == sum(Path(part.strip()).stat().st_size for part in str(names).split(","))
    assert open_parallel(place, Data()).both.name == place


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_tables_plain_and_packed(tmp_path, suffix):
    path = write_table(tmp_path / f"a,b.{suffix}", RAGGED)
    for name in (path, packed(path, ".gz"), packed(path, ".zst")):
        opened = open_parallel(str(name), Data(**EN_DE))
        for _ in range(2):
            assert pairs_of(opened) == PAIRS
            assert opened.source.tally.skipped == 3
    assert read(tmp_path, **EN_DE) == read(f"{tmp_path}/a*", **EN_DE) == PAIRS * 3
    assert read(path, source="de", target="en") == [pair[::-1] for pair in PAIRS]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_pairs_inside_a_column_translation(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    frame = pandas.DataFrame({"n": 1, "translation": [{"de": pair[1], "en": pair[0]} for pair in RAGGED]})
    frame.to_parquet(path) if suffix == "parquet" else frame.to_json(path, orient="records", lines=True)
    assert read(path, **EN_DE) == PAIRS
    line = refused(path, source="en", target="dee")
    assert "no column 'dee'; did you mean 'de'? (data.target names it)" in line


def test_two_columns_go_before_a_column_translation(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"source": "one", "translation": "eins"}\n')
    assert read(tmp_path, target="translation") == [("one", "eins")]
    (tmp_path / "a.jsonl").write_text('{"source": "one", "target": "eins", "translation": {"source": "two"}}\n')
    assert read(tmp_path) == [("one", "eins")]


def test_a_data_frame_and_tuples():
    frame = pandas.DataFrame(RAGGED, columns=["en", "de"])
    frame["n"] = 1
    frame.loc[len(frame)] = ["nan", np.nan, 1]
    opened = open_parallel(frame, Data(**EN_DE))
    assert pairs_of(opened) == PAIRS
    assert opened.source.tally.skipped == 4
    once = open_parallel((pair for pair in PAIRS), Data())
    assert pairs_of(once) == pairs_of(once) == PAIRS
    assert [source.fingerprint for source in once] == [source.fingerprint for source in opened]
    assert read([list(pair) for pair in RAGGED]) == PAIRS


def test_a_data_set_of_the_hub_with_two_columns(hub):
    write_table(hub / "train.jsonl", RAGGED)
    opened = open_parallel("hf:some/set", Data(**EN_DE))
    assert pairs_of(opened) == pairs_of(opened) == PAIRS
    assert opened.target.tally.skipped == 3
    assert opened.both.bytes is None
    assert fingerprints("hf:some/set", **EN_DE) == [source.fingerprint for source in opened]
    assert not set(fingerprints("hf:some/set", **EN_DE)) & set(fingerprints("hf:some/set", source="de", target="en"))
    assert "no column 'source'; allowed: de, en, n (data.source names it)" in refused("hf:some/set")


def test_a_data_set_of_the_hub_as_those_of_wmt(hub):
    import datasets

    features = datasets.Features({"translation": datasets.Translation(["de", "en"])})
    rows = [{"de": pair[1], "en": pair[0]} for pair in PAIRS]
    datasets.Dataset.from_dict({"translation": rows}, features).to_parquet(hub / "train.parquet")
    assert read("hf:some/set", **EN_DE) == PAIRS
    assert "record 1: no column 'source'; allowed: de, en (data.source names it)" in refused("hf:some/set")


# Order and alignment

TEXT = st.text("ab \n\r\t\"',\ufeff\u2028é😀", max_size=6)


@given(pairs=st.lists(st.tuples(TEXT, TEXT), max_size=6), piece=st.integers(1, 5), block=st.integers(1, 9))
def test_whole_pairs_come_in_order_and_nothing_else_is_lost(scratch, pairs, piece, block):
    def kept(change) -> list[tuple[str, str]]:
        stripped = [tuple(change(text).strip() for text in pair) for pair in pairs]
        return [(source, target) for source, target in stripped if source and target]

    whole = kept(lambda text: text.replace("\r\n", "\n"))
    (scratch / "a.jsonl").write_text("".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in pairs))
    flat = kept(lambda text: text.replace("\n", " "))
    sides = ("".join(text.replace("\n", " ") + "\n" for text in side) for side in zip(*pairs, strict=True))
    for name, text in zip(("a.en", "a.de"), sides if pairs else ("", ""), strict=True):
        (scratch / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        patch.setattr(sources, "PIECE", piece)
        for corpus, expected in (
            (pairs, whole),
            (scratch / "a.jsonl", whole),
            (f"{scratch}/a.en,{scratch}/a.de", flat),
        ):
            if expected:
                opened = open_parallel(corpus, Data())
                assert pairs_of(opened) == expected
                assert opened.both.tally.skipped == len(pairs) - len(expected)
            else:
                assert "not one whole pair in it" in refused(corpus)


@pytest.mark.parametrize("source, target", [("", "x\n"), ("a\n", "x\ny"), ("a\n\n\n\n", "x\n"), ("a\nb", "x\ny\n\n")])
def test_files_of_different_lengths(tmp_path, source, target):
    en, de = write_two(tmp_path, source, target).split(",")
    counts = [len(text.splitlines()) for text in (source, target)]
    assert f"{en} has {counts[0]} and {de} has {counts[1]}" in refused(f"{en},{de}")
    assert f"{de} has {counts[1]} and {en} has {counts[0]}" in refused(f"{de},{en}")


def test_a_line_end_at_the_end_is_no_line(tmp_path):
    assert read(write_two(tmp_path, "a\nb\n", "x\ny")) == [("a", "x"), ("b", "y")]


def test_tsv_knows_no_quotes_and_one_column_can_be_read_alone(tmp_path):
    (tmp_path / "a.tsv").write_text('source\ttarget\n"a\t"b"\n\nc\td\n\te\n')
    assert read(tmp_path) == [('"a', '"b"'), ("c", "d")]
    assert documents(open_source(tmp_path, Data(text="target"))) == ['"b"', "d", "e"]


# Fingerprints


def test_fingerprints_are_those_of_content_columns_and_side(tmp_path):
    (tmp_path / "copy").mkdir()
    two = write_two(tmp_path, "a\nb\n", "x\ny\n")
    first = fingerprints(two)
    assert first == fingerprints(write_two(tmp_path / "copy", "a\nb\n", "x\ny\n"), **EN_DE)
    others = [
        fingerprints(",".join(reversed(two.split(",")))),
        fingerprints(write_two(tmp_path / "copy", "a\nc\n", "x\ny\n")),
        fingerprints(write_two(tmp_path / "copy", "a\nb\n", "x\nz\n")),
        *(fingerprints(pairs) for pairs in ([("a", "xb")], [("ax", "b")], [("b", "ax")])),
    ]
    table = write_table(tmp_path / "a.csv", PAIRS)
    others += [fingerprints(table, **EN_DE), fingerprints(table, source="de", target="en"), fingerprints(table)]
    assert len({mark for each in (first, *others) for mark in each}) == 3 * 10


def test_files_are_hashed_once(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("zoo.corpus.parallel.fingerprint", lambda paths, *rules: (seen.append(paths) or "key", 1))
    open_parallel(write_two(tmp_path, "a", "x"), Data())
    open_parallel(write_table(tmp_path / "a.csv", PAIRS), Data())
    assert len(seen) == 2


# Refused


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_a_missing_column(tmp_path, suffix):
    path = write_table(tmp_path / f"a.{suffix}", PAIRS, ("sources", "de"))
    line = refused(path)
    assert str(path) in line
    assert "no column 'source'; did you mean 'sources'? (data.source names it)" in line
    assert "no column 'target'; allowed: de, n, sources (data.target names it)" in refused(path, source="sources")


def test_text_that_is_refused(tmp_path):
    two = write_two(tmp_path, "a\n", "x\n")
    (tmp_path / "a.de").write_bytes(b"caf\xe9 au lait\n")
    line = refused(two)
    assert f"{tmp_path}/a.de: byte 3 is not UTF-8" in line
    assert "Windows-1252" in line
    (tmp_path / "a.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "", "target": 7}\n')
    assert "a.jsonl:2: the text is a int (7), not a string" in refused(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("7\n")
    assert "a line looks like {'source': '...', 'target': '...'}" in refused(tmp_path / "a.jsonl")
    (tmp_path / "a.tsv").write_text("source\ttarget\na\tb\nc\n")
    assert "a.tsv:3: 1 fields where the header has 2" in refused(tmp_path / "a.tsv")
    (tmp_path / "a.tsv").write_text("")
    assert "not one whole pair" in refused(tmp_path / "a.tsv")


def test_places_that_are_refused(tmp_path):
    en, de = write_two(tmp_path, "a", "x").split(",")
    for corpus in (en, tmp_path / "a.en", "sotu"):
        assert "has no two sides; parallel text is SOURCE,TARGET (" in refused(corpus)
    (tmp_path / "a.txt").write_text("text")
    assert "a.txt: has no two sides; parallel text is" in refused(tmp_path)
    assert "did you mean 'a.de'" in refused(f"{en},{de}e")
    assert "3 file names and not 2; parallel text is" in refused(f"{en},{de},{en}")
    assert "1 file names and not 2" in refused(f"{en},")
    assert f"{tmp_path}: not a file" in refused(f"{en},{tmp_path}")
    table = write_table(tmp_path / "a.csv", PAIRS)
    assert "a.csv: a table holds both sides and is given alone" in refused(f"{en},{table}")
    assert "did you mean 'a.csv'?" in refused(tmp_path / "b.csv")
    assert "empty name" in refused("")
    assert "cannot be read (File name too long)" in refused("a," * 5000)


def test_objects_that_are_refused():
    frame = pandas.DataFrame({"source": ["a"], "targets": ["b"]})
    assert "DataFrame: no column 'target'; did you mean 'targets'? (data.target names it)" in refused(frame)
    assert "record 1: 'ab' is no (source, target) tuple" in refused([("a", "b"), "ab"])
    assert "record 0: ('a', 'b', 'c') is no (source, target) tuple" in refused([("a", "b", "c")])
    assert "record 0: the text is a int (3), not a string" in refused([("a", 3)])
    assert "half of a surrogate pair" in refused([("a", "\ud800")])
    assert "corpus is a dict" in refused({"a": "b"})
    assert "an iterable of (source, target) tuples of str" in refused(7)
    assert "not one whole pair in it (1 with a null or blank side)" in refused([("a", None)])


def test_a_file_that_goes_away_before_it_is_read(tmp_path):
    opened = open_parallel(write_two(tmp_path, "a", "x"), Data())
    (tmp_path / "a.de").unlink()
    with pytest.raises(UserError, match=r"a\.de: cannot be read"):
        list(opened.source.pieces())
