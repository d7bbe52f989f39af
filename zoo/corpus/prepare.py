"""A source's text as tokens on disk: the tokenizer is trained once, the text is encoded once, and both are kept.

Under the home lie tokenizers/KEY.json and tokens/KEY/ (zoo/corpus/shards.py). A key is a hash of everything its content
depends on. A folder is written under another name and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.corpus.cache import locked, writing
from zoo.corpus.encoding import RULE, write
from zoo.corpus.shards import FORMAT, Store, Tokens, damage
from zoo.corpus.sources import Piece, Source
from zoo.corpus.tokenizer import Tokenizer, load
from zoo.corpus.vocabulary import train
from zoo.disk import flush, write_whole
from zoo.errors import UserError
from zoo.progress import amount, progress, say
from zoo.schema import Data, TokenizerSpec

TRAINING_RULE = 1  # another number is another tokenizer for the same text
THREADS = 16  # more would wait for each other: lists of ids are made under the interpreter's lock


@dataclass(frozen=True)
class Corpus:
    """A source, tokenized. facts: counts of the whole source, without one that was given for validation."""

    tokenizer: Tokenizer
    train: Tokens
    valid: Tokens
    fingerprint: str  # of the tokens: text, tokenizer and rules
    facts: dict[str, Any]


def prepare(
    source: Source, spec: TokenizerSpec, data: Data, *, valid_source: Source | None = None, home: Path
) -> Corpus:
    """Tokenizes a source once; a second call reads what the first one wrote.

    Raises:
        UserError: the source cannot be read or split, the tokenizer does not fit, or the home cannot be written.
    """
    with writing(home):
        (home / "tokenizers").mkdir(parents=True, exist_ok=True)
        (home / "tokens").mkdir(exist_ok=True)
        tokenizer = _tokenizer(source, spec, home)
        store, key = _store(source, tokenizer, home)
        if valid_source:
            held_out, valid_key = _store(valid_source, tokenizer, home)
            splits = store.whole(), held_out.whole()
            key = _hash(key, valid_key)
        elif store.cut:
            splits = store.split()
        else:
            raise UserError(
                f"{source.name}: no word starts in the last part of its {store.meta['bytes']:,} bytes, so no validation"
                " text can be cut off; give more text, or set data.valid to a source of its own"
            )
    corpus = Corpus(tokenizer, *splits, key, _facts(store.meta, tokenizer, spec))
    _tell(source.name, corpus, spec)
    return corpus


def _facts(meta: dict[str, Any], tokenizer: Tokenizer, spec: TokenizerSpec) -> dict[str, Any]:
    of_text = meta["tokens"] - meta["documents"] * ("eod" in tokenizer.special)
    return {
        **{name: meta[name] for name in ("documents", "duplicates", "tokens", "bytes", "words")},
        "bytes_per_token": meta["bytes"] / of_text,
        "fertility": of_text / meta["words"],  # tokens a word
        "unknown_rate": meta["unknown"] / of_text,
        "unused_ids": spec.size - tokenizer.size,
    }


def _tell(name: str, corpus: Corpus, spec: TokenizerSpec) -> None:
    facts, train, valid = corpus.facts, corpus.train, corpus.valid
    say(
        f"{name}: {amount(facts['bytes'])}B, {facts['tokens']:,} tokens ({len(train.token):,} to train on,"
        f" {len(valid.token):,} for validation); documents {facts['documents']:,}, exact duplicates"
        f" {facts['duplicates']:,}"
    )
    unused = f"; {facts['unused_ids']:,} of {spec.size:,} rows stay unused" if facts["unused_ids"] else ""
    say(
        f"tokenizer: {spec.kind}, {corpus.tokenizer.size:,} ids{unused}; {facts['bytes_per_token']:.2f} bytes a token,"
        f" {facts['fertility']:.2f} tokens a word, {facts['unknown_rate']:.2%} unknown"
    )


def _tokenizer(source: Source, spec: TokenizerSpec, home: Path) -> Tokenizer:
    if spec.file:
        return load(spec.file, spec)
    fields = spec.model_dump(include={"kind", "size", "lowercase"})
    key = _hash(TRAINING_RULE, fields, list(spec.specials.items()), source.fingerprint)
    path = home / "tokenizers" / f"{key}.json"
    if not path.exists():
        with locked(path.with_suffix(".lock"), f"training the tokenizer of {source.name}"):
            if not path.exists():
                say(f"training a {spec.kind} tokenizer of {spec.size:,} ids on {source.name}")
                texts = (piece.text for piece in _read(source, "reading text for the tokenizer"))
                write_whole(path, train(spec, texts).json())
    return load(path, spec)


def _store(source: Source, tokenizer: Tokenizer, home: Path) -> tuple[Store, str]:
    identity = hashlib.sha256(tokenizer.json().encode()).hexdigest()
    key = _hash(FORMAT, RULE, identity, tokenizer.special.get("eod"), source.fingerprint)
    folder = home / "tokens" / key
    if damage(folder):
        with locked(folder.with_suffix(".lock"), f"tokenizing {source.name}"):
            if folder.exists() and (wrong := damage(folder)):
                say(f"the tokens of {source.name} in {folder} are damaged ({wrong}); they are made again")
                shutil.rmtree(folder)
            if not folder.exists():
                partial = folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
                partial.mkdir()
                try:
                    pieces = _read(source, f"tokenizing {source.name}")
                    write(pieces, source.name, tokenizer, partial, min(os.cpu_count() or 1, THREADS))
                    os.rename(partial, folder)
                    flush(folder.parent)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    return Store(folder), key


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read(source: Source, doing: str) -> Iterator[Piece]:
    with progress(doing, source.bytes, "B") as advance:
        done = 0
        for piece in source.pieces():
            yield piece
            now = done + len(piece.text) if source.bytes is None else source.tally.bytes_read
            advance(now - done)
            done = now
