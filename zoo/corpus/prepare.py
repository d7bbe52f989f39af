"""A source's text as tokens on disk: the tokenizer is trained once, the text is encoded once, and both are kept.

Under the home lie tokenizers/KEY.json and tokens/KEY/ (zoo/corpus/shards.py). A key is a hash of everything its content
depends on. A folder is written under another name and renamed when it is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.corpus.cache import locked, writing
from zoo.corpus.encoding import RULE, write
from zoo.corpus.merge import join, read_part
from zoo.corpus.parallel import Parallel, open_parallel
from zoo.corpus.prepared import TOKENIZER, Prepared, open_prepared
from zoo.corpus.rows import generator
from zoo.corpus.shards import FORMAT, Store, Tokens, damage
from zoo.corpus.sources import Piece, Source, open_source
from zoo.corpus.tokenizer import Tokenizer, load
from zoo.corpus.vocabulary import train
from zoo.disk import whole_folder, write_whole
from zoo.errors import UserError
from zoo.progress import amount, progress, say
from zoo.schema import Recipe
from zoo.sections import Data, TokenizerSpec

HELD_OUT_SHARE, HELD_OUT_PAIRS = 0.05, 3000  # of parallel text, for each split that is not given; 3,000 as in WMT
TRAINING_RULE = 1  # another number is another tokenizer for the same text


@dataclass(frozen=True)
class Corpus:
    """A source, tokenized. facts: counts of the whole source, without one that was given for validation."""

    tokenizer: Tokenizer
    train: Tokens
    valid: Tokens
    fingerprint: str  # of the tokens: text, tokenizer and rules
    facts: dict[str, Any]
    test: Tokens | None = None  # of parallel text
    source_tokenizer: Tokenizer | None = None  # of its sources, where they have a vocabulary of their own

    @property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """The tokenizers by the section of the recipe that asks for them."""
        own = {} if self.source_tokenizer is None else {"source_tokenizer": self.source_tokenizer}
        return {"tokenizer": self.tokenizer, **own}


def open_texts(corpus: Any, data: Data) -> Source | Parallel | Prepared:
    """Opens a corpus as the recipe's rows want it: texts, or pairs of them; or what `zoo data merge` made of texts.

    UserError where it is no such corpus.
    """
    return open_parallel(corpus, data) if data.rows == "parallel" else _open_text(corpus, data)


def _open_text(corpus: Any, data: Data) -> Source | Prepared:
    return open_prepared(corpus, data) or open_source(corpus, data)


def tokenized(recipe: Recipe, texts: Source | Parallel | Prepared, kept: Mapping[str, Path], home: Path) -> Corpus:
    """A recipe's corpus; kept: tokenizers that are there already, by the section of the recipe that asks for them."""

    def spec(section: str) -> Any:
        asked = getattr(recipe, section)
        return asked.model_copy(update={"file": str(kept[section])}) if asked is not None and section in kept else asked

    data, places = recipe.data, {"valid": recipe.data.valid, "test": recipe.data.test}
    if not isinstance(texts, Parallel):
        valid_source = None if data.valid is None else _open_text(data.valid, data)
        return prepare(texts, spec("tokenizer"), data, valid_source=valid_source, home=home)
    given = {split: open_parallel(place, data) for split, place in places.items() if place is not None}
    seed, source_spec = recipe.train.seed, spec("source_tokenizer")
    return prepare_parallel(texts, spec("tokenizer"), source_spec=source_spec, seed=seed, home=home, **given)


def kept_tokens(recipe: Recipe, tokenizer: Tokenizer, fingerprint: str, home: Path) -> Tokens | None:
    """The training split of texts (not of pairs) with this fingerprint, where it is kept; no text is read."""
    folder = home / "tokens" / key_of(tokenizer, fingerprint)
    if damage(folder):
        return None
    store = Store(folder)
    return store.whole() if recipe.data.valid is not None else store.split()[0]


def prepare(
    source: Source | Prepared,
    spec: TokenizerSpec,
    data: Data,
    *,
    valid_source: Source | Prepared | None = None,
    home: Path,
) -> Corpus:
    """Tokenizes a source once; a second call reads what the first one wrote.

    Raises:
        UserError: the source cannot be read or split, the tokenizer does not fit, or the home cannot be written.
    """
    with _room(home):
        tokenizer = tokenizer_for(source, spec, home)
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


def prepare_parallel(
    train: Parallel,
    spec: TokenizerSpec,
    *,
    source_spec: TokenizerSpec | None = None,
    valid: Parallel | None = None,
    test: Parallel | None = None,
    seed: int,
    home: Path,
) -> Corpus:
    """The same for pairs of texts. Without `valid`, random pairs of `train` are held out: for it, and for `test`.

    source_spec: of the sources' own vocabulary; None = one tokenizer learns from both sides.
    """
    with _room(home):
        tokenizer = tokenizer_for(train.both if source_spec is None else train.target, spec, home)
        source_tokenizer = None if source_spec is None else tokenizer_for(train.source, source_spec, home)

        def pairs(of: Parallel) -> tuple[Tokens, Store, str]:
            source, source_key = _store(of.source, source_tokenizer or tokenizer, home)
            target, target_key = _store(of.target, tokenizer, home)
            if source.meta["documents"] != target.meta["documents"]:
                raise UserError(f"{of.both.name}: a text in it has no token, so that pairs cannot be told apart")
            return replace(target.whole(), source=source.whole()), target, _hash(source_key, target_key)

        everything, store, key = pairs(train)
        given = {name: pairs(of) for name, of in (("valid", valid), ("test", test)) if of is not None}
    splits = {"train": everything} | {name: tokens for name, (tokens, _, _) in given.items()}
    if valid is None:
        splits = _held_out(everything, seed, with_test=test is None) | {n: t for n, t in splits.items() if n == "test"}
    counts = {name: _pairs(tokens) for name, tokens in splits.items()}
    facts = {**_facts(store.meta, tokenizer, spec), "pairs": counts}
    key = _hash(key, *(each for _, _, each in given.values()), seed if valid is None else None)
    corpus = Corpus(tokenizer, splits["train"], splits["valid"], key, facts, splits.get("test"), source_tokenizer)
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    left_out = f"; {facts['skipped']:,} with an empty side are left out" if facts["skipped"] else ""
    say(f"{train.both.name}: pairs: {told}{left_out}")
    _tell_tokenizer(corpus, spec)
    return corpus


@contextmanager
def _room(home: Path) -> Iterator[None]:
    """The folders that are written below the home."""
    with writing(home):
        (home / "tokens").mkdir(parents=True, exist_ok=True)
        yield


def _pairs(tokens: Tokens) -> int:
    return len(tokens.documents) - 1 if tokens.chosen is None else len(tokens.chosen)


def _held_out(tokens: Tokens, seed: int, *, with_test: bool) -> dict[str, Tokens]:
    """The pairs of a corpus as splits, drawn at random and each in the order of the corpus."""
    count = _pairs(tokens)
    size = min(HELD_OUT_PAIRS, round(count * HELD_OUT_SHARE))
    names = ["valid", "test"] if with_test else ["valid"]
    if not size or size * len(names) >= count:
        raise UserError(
            f"{count} pairs are too few to hold some out; give more, or set data.valid to a source of its own"
        )
    order = generator(seed, 0, "corpus.split").permutation(count)
    cuts = [size * n for n in range(1, len(names) + 1)]
    parts = dict(zip([*names, "train"], np.split(order, cuts), strict=True))
    return {name: replace(tokens, chosen=np.sort(part), unigram=_unigram(tokens, part)) for name, part in parts.items()}


def _unigram(tokens: Tokens, documents: np.ndarray) -> np.ndarray:
    """How often each id occurs in some of the documents."""
    chosen = np.zeros(len(tokens.documents) - 1, bool)
    chosen[documents] = True
    weight = np.repeat(chosen, np.diff(tokens.documents))
    return np.bincount(np.asarray(tokens.token)[weight], minlength=len(tokens.unigram))


def _facts(meta: dict[str, Any], tokenizer: Tokenizer, spec: TokenizerSpec) -> dict[str, Any]:
    of_text = meta["tokens"] - meta["documents"] * ("eod" in tokenizer.special)
    return {
        **{name: meta[name] for name in ("documents", "skipped", "duplicates", "tokens", "bytes", "words")},
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
    _tell_tokenizer(corpus, spec)


def _tell_tokenizer(corpus: Corpus, spec: TokenizerSpec) -> None:
    facts = corpus.facts
    unused = f"; {facts['unused_ids']:,} of {spec.size:,} rows stay unused" if facts["unused_ids"] else ""
    say(
        f"tokenizer: {spec.kind}, {corpus.tokenizer.size:,} ids{unused}; {facts['bytes_per_token']:.2f} bytes a token,"
        f" {facts['fertility']:.2f} tokens a word, {facts['unknown_rate']:.2%} unknown"
    )


def tokenizer_for(source: Source | Prepared, spec: TokenizerSpec, home: Path) -> Tokenizer:
    """The tokenizer of the recipe's file, of the corpus where it is tokenized already, else one trained on it."""
    if spec.file:
        return load(spec.file, spec)
    if isinstance(source, Prepared):
        return load(source.folder / TOKENIZER, spec)
    fields = spec.model_dump(include={"kind", "size", "lowercase"})
    key = _hash(TRAINING_RULE, fields, list(spec.specials.items()), source.fingerprint)
    path = home / "tokenizers" / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with locked(path.with_suffix(".lock"), f"training the tokenizer of {source.name}"):
            if not path.exists():
                say(f"training a {spec.kind} tokenizer of {spec.size:,} ids on {source.name}")
                texts = (piece.text for piece in _read(source, "reading text for the tokenizer"))
                write_whole(path, train(spec, texts).json())
    return load(path, spec)


def _store(source: Source | Prepared, tokenizer: Tokenizer, home: Path) -> tuple[Store, str]:
    if isinstance(source, Prepared):
        return source.store(tokenizer, home), key_of(tokenizer, source.fingerprint)
    key = key_of(tokenizer, source.fingerprint)
    folder = home / "tokens" / key
    if damage(folder):
        with locked(folder.with_suffix(".lock"), f"tokenizing {source.name}"):
            if folder.exists() and (wrong := damage(folder)):
                say(f"the tokens of {source.name} in {folder} are damaged ({wrong}); they are made again")
                shutil.rmtree(folder)
            if not folder.exists():
                with whole_folder(folder) as new:
                    (new / "part").mkdir()
                    write_part(source, tokenizer, new / "part", {})
                    join(new, {"part": read_part(new / "part")})
    return Store(folder), key


def key_of(tokenizer: Tokenizer, fingerprint: str) -> str:
    """What the tokens of a source are kept under: equal where all is equal that they depend on."""
    return _hash(FORMAT, RULE, tokenizer.identity, tokenizer.special.get("eod"), fingerprint)


def write_part(source: Source, tokenizer: Tokenizer, folder: Path, about: Mapping[str, Any]) -> None:
    """All tokens of a source into an empty folder, with `about` in its part.json."""
    pieces, key = _read(source, f"tokenizing {source.name}"), key_of(tokenizer, source.fingerprint)
    write(source, pieces, tokenizer, folder, {"key": key, **about})


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
