"""Text to token ids and back: any tokenizer of the library `tokenizers`, with the starts of words and sentences."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import Regex, pre_tokenizers

from zoo.corpus import starts
from zoo.corpus.remote import is_data_set, path_of
from zoo.errors import UserError
from zoo.sections import TokenizerSpec

# No pre-tokenizer joins a word to the white space after it; some join punctuation to it.
_PLACES_TO_CUT = (re.compile(r"(?<=\w)\s"), re.compile(r"(?<=\S)\s"))


def slices(text: str, length: int) -> Iterator[str]:
    """`text` in parts of `length` characters and more, cut between a word and white space where there is one."""
    begin = 0
    while len(text) - begin > 2 * length:
        places = (place.search(text, begin + length, begin + 2 * length) for place in _PLACES_TO_CUT)
        found = next(filter(None, places), None)
        end = found.start() if found else begin + 2 * length
        yield text[begin:end]
        begin = end
    yield text[begin:]


def byte_characters() -> dict[str, int]:
    """Which byte each character of GPT-2's byte alphabet stands for (encoder.py of its release)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


class Encoded(NamedTuple):
    """The tokens of several texts, one after another."""

    ids: np.ndarray  # [tokens] int32
    flags: np.ndarray  # [tokens] uint8, WORD_START and SENTENCE_START of zoo/corpus/starts.py
    begin: np.ndarray  # [tokens] int64, the UTF-8 byte of all the texts at which a token begins
    counts: np.ndarray  # [texts] int64, how many tokens each text has
    words: int  # in the texts, by the rule of starts.py
    bytes: int  # of the texts, as UTF-8


class Tokenizer:
    """One tokenizer.json.

    size: ids 0 to size - 1 are in use. special: role -> id, of those roles in `spec.specials` whose token it has. A
    special token that is written out in a text is encoded like any other text, never as the token.
    """

    def __init__(self, text: str, spec: TokenizerSpec):
        self._json, self._inner = text, tokenizers.Tokenizer.from_str(text)
        self._inner.no_truncation()
        self._inner.no_padding()
        vocabulary = self._inner.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values(), default=-1) + 1
        self.special = {role: vocabulary[token] for role, token in spec.specials.items() if token in vocabulary}
        self._bytes = _token_bytes(json.loads(text), vocabulary)
        self._lengths = np.zeros(self.size, np.int64)
        for number, token in (self._bytes or {}).items():
            self._lengths[number] = len(token)
        self._keep_specials_out_of_text([token for token in spec.specials.values() if token in vocabulary])

    def _keep_specials_out_of_text(self, tokens: list[str]) -> None:
        self._inner.encode_special_tokens = True  # which says that they are encoded like other text
        known = {number for role, number in self.special.items() if role != "unk"}
        written = (text for token in tokens for text in (token, f"a{token}a", f"a {token} a"))
        if any(known & set(self.encode(text).tolist()) for text in written):
            # A unigram model takes them for pieces of its own; so no piece may begin with the whole of one.
            first = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in tokens)
            steps = [self._inner.pre_tokenizer] if self._inner.pre_tokenizer else []
            apart = pre_tokenizers.Split(Regex(first), "isolated")
            self._inner.pre_tokenizer = pre_tokenizers.Sequence([*steps, apart])

    def json(self) -> str:
        """The text of its tokenizer.json, as it was read or trained."""
        return self._json

    @property
    def identity(self) -> str:
        """A hash of that text."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, [tokens] int32, without any token that is not in it."""
        (encoding,) = self._inner.encode_batch_fast([text], add_special_tokens=False)
        return np.array(encoding.ids, np.int32)

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of ids; special tokens as they are written, unused ids as nothing."""
        return self._inner.decode(np.asarray(ids, np.int64).tolist(), skip_special_tokens=False)

    def tokens(self, ids: np.ndarray | Sequence[int]) -> list[str]:
        """Each id in a readable form; bytes that are no whole character as `\\xe2`."""
        return [self._token(int(number)) for number in ids]

    def _token(self, number: int) -> str:
        if self._bytes is not None and number in self._bytes:
            return self._bytes[number].decode(errors="backslashreplace")
        token = self._inner.id_to_token(number)
        return f"[unused{number}]" if token is None else token

    def encode_pieces(self, texts: Sequence[str], opens: Sequence[bool] | None = None, before: str = "") -> Encoded:
        """Tokens of consecutive texts with their flags; many at once cost little more than one long text.

        opens: which texts start a document (default: all); the others go on where the text before them ended, the first
        of them after `before`, of which starts.CONTEXT characters are enough.
        """
        joined, lengths = "".join(texts), np.array([len(text) for text in texts])
        text_begin = np.cumsum(lengths) - lengths
        opens_document = np.ones(len(texts), bool) if opens is None else np.asarray(opens, bool)
        flags, solid = starts.starts(before + joined, len(before) + text_begin[opens_document])
        flags, solid = flags[len(before) :], solid[len(before) :]

        data = joined.encode()
        # Which bytes begin a character; None where each is one.
        lead = None if len(data) == len(joined) else (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
        ids, counts, begin, end = self._places(texts, text_begin, lead, len(data))
        token_flags = starts.of_tokens(flags, solid, begin, end)
        opening = opens_document & (counts > 0)
        first = (np.cumsum(counts) - counts)[opening]
        token_flags[first] |= starts.SENTENCE_START
        begin[first] = text_begin[opening]  # white space that the tokenizer drops belongs to the document it opens
        if lead is not None:
            begin = np.append(np.flatnonzero(lead), len(data))[begin]
        words = int(np.count_nonzero(flags & starts.WORD_START))
        return Encoded(ids, token_flags, begin.astype(np.int64), counts, words, len(data))

    def _places(
        self, texts: Sequence[str], text_begin: np.ndarray, lead: np.ndarray | None, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """ids, how many each text has, and the characters of the joined texts at which each token begins and ends."""
        if self._bytes is not None:  # lengths in bytes say where tokens lie; offsets would take twice the time
            encodings = self._inner.encode_batch_fast(texts, add_special_tokens=False)
            ids, counts = _ids(encodings)
            end = np.cumsum(self._lengths[ids])
            if (end[-1] if len(end) else 0) == size:
                begin = end - self._lengths[ids]
                if lead is None:
                    return ids, counts, begin, end
                character = np.cumsum(lead) - 1
                return ids, counts, character[begin], character[end - 1] + 1
        encodings = self._inner.encode_batch(texts, add_special_tokens=False)
        ids, counts = _ids(encodings)
        flat = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        offsets = np.fromiter(flat, np.int64, 2 * len(ids)).reshape(-1, 2) + np.repeat(text_begin, counts)[:, None]
        return ids, counts, offsets[:, 0], offsets[:, 1]


def _ids(encodings: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array([len(encoding) for encoding in encodings], np.int64)
    return np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, int(counts.sum())), counts


def _token_bytes(config: dict[str, Any], vocabulary: dict[str, int]) -> dict[int, bytes] | None:
    """The bytes of each token, where tokens are nothing but the bytes of the text as it stands; else None."""
    step, added = config["pre_tokenizer"], config["added_tokens"]
    if step and step["type"] == "Sequence":
        step = step["pretokenizers"][-1]
    if config["normalizer"] or not step or step["type"] != "ByteLevel" or step["add_prefix_space"]:
        return None
    if not all(token["special"] for token in added):  # those are found in the text as they are written
        return None
    alphabet, apart = byte_characters(), {token["id"] for token in added}
    return {
        number: bytes(alphabet[character] for character in token)
        for token, number in vocabulary.items()
        if number not in apart and alphabet.keys() >= set(token)
    }


def load(path: str | Path, spec: TokenizerSpec) -> Tokenizer:
    """The tokenizer in `path`: a tokenizer.json, a folder with one, or hf:ORG/NAME (then HF's cache comes first).

    Raises:
        UserError: there is none, it cannot be read, or it has more ids than `spec.size`.
    """
    place = str(path)
    file = _from_hub(place) if is_data_set(place) else path_of(place)
    try:
        tokenizer = parsed(file / "tokenizer.json" if file.is_dir() else file, spec)
    except UserError as error:
        raise UserError(f"tokenizer.file: {error}") from None
    if tokenizer.size > spec.size:
        raise UserError(
            f"the tokenizer {place} has {tokenizer.size:,} ids and the model {spec.size:,} rows for them;"
            f" set tokenizer.size to {tokenizer.size} or more"
        )
    return tokenizer


def parsed(file: Path, spec: TokenizerSpec) -> Tokenizer:
    """The tokenizer in a tokenizer.json, whatever its size. UserError where there is none."""
    try:
        return Tokenizer(file.read_text(encoding="utf-8"), spec)
    except FileNotFoundError:
        raise UserError(f"there is no {str(file)!r}") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None
    except Exception as error:  # noqa: BLE001 -- the library raises Exception itself for whatever it cannot read
        raise UserError(f"{file} is no tokenizer.json ({' '.join(str(error).split())})") from None


def _from_hub(place: str) -> Path:
    from zoo.exchange.hub import snapshot

    name = "tokenizer.json"
    return snapshot(place, name, lambda names: [name], lambda folder: True)
