"""A tokenizer learnt from a corpus: an even sample of its text, and the six kinds."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Inner

from zoo.corpus.tokenizer import Tokenizer, byte_characters, slices
from zoo.errors import UserError
from zoo.sections import TokenizerSpec

# Bytes of prose, which merges are learnt from: ten times as much changes few of them. The library holds every different
# word and a unigram model every different piece of one, which takes the memory and the time.
BLOCK = 1 << 14  # characters of text that are taken or left together
SAMPLE = {"bytes_bpe": 64e6, "wordpiece": 64e6, "characters": 64e6, "words": 1e9, "unigram": 16e6}
PROSE_WORD = 6  # characters and the white space after them; text of longer words has more different ones
DEAREST = 16.0  # text without any white space costs 1 GB of memory for some 10 MB
LONGEST_WORD = 256  # characters; the time for a longer one grows with its square
ALPHABET = 1000  # characters a WordPiece vocabulary starts from, as in BERT's


def train(spec: TokenizerSpec, pieces: Iterable[str]) -> Tokenizer:
    """A tokenizer of at most `spec.size` ids, special tokens first; a small corpus may give fewer.

    Not repeatable: the library numbers equally good pieces in the order of a hash table. So it is kept (prepare.py).

    Raises:
        UserError: `spec.size` is too small for this kind, or a special token is missing that it needs.
    """
    specials = list(spec.specials.values())
    if spec.kind in ("wordpiece", "unigram", "characters", "words") and "unk" not in spec.specials:
        raise UserError(f"tokenizer.specials has {', '.join(spec.specials) or 'none'}; {spec.kind} also needs unk")
    least = len(specials) + (256 if spec.kind.startswith("bytes") else 1)
    if spec.size < least:
        raise UserError(f"tokenizer.size is {spec.size}; {spec.kind} with {len(specials)} special tokens needs {least}")
    inner = _KINDS[spec.kind](spec, specials, pieces)
    inner.add_special_tokens(specials)
    return Tokenizer(inner.to_str(), spec)


def _bytes(spec: TokenizerSpec, specials: list[str], pieces: Iterable[str]) -> Inner:
    numbers = {character: len(specials) + byte for character, byte in byte_characters().items()}
    inner = Inner(models.BPE(vocab={token: n for n, token in enumerate(specials)} | numbers, merges=[]))
    if spec.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _bytes_bpe(spec: TokenizerSpec, specials: list[str], pieces: Iterable[str]) -> Inner:
    """As in GPT-2's release: every byte has a token, words by its regular expression."""
    inner = Inner(models.BPE())
    if spec.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    _learn(inner, trainer, spec, pieces)
    return inner


def _wordpiece(spec: TokenizerSpec, specials: list[str], pieces: Iterable[str]) -> Inner:
    """As in BERT's release.

    Unlike it, pieces are learnt by merging the most frequent pairs: how Google's were learnt is not published.
    """
    inner = Inner(models.WordPiece(unk_token=spec.specials["unk"]))
    inner.normalizer = normalizers.BertNormalizer(lowercase=spec.lowercase)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    # A character takes two rows, one of them for inside a word, and half of the rows are for pieces longer than one.
    alphabet = max(1, min(ALPHABET, (spec.size - len(specials)) // 4))
    trainer = trainers.WordPieceTrainer(
        vocab_size=spec.size, special_tokens=specials, limit_alphabet=alphabet, show_progress=False
    )
    _learn(inner, trainer, spec, pieces)
    return inner


def _unigram(spec: TokenizerSpec, specials: list[str], pieces: Iterable[str]) -> Inner:
    """As XLNet used SentencePiece (its prepro_utils.py and spiece model).

    Unlike its release, pieces that end in a digit and a comma are not split once more.
    """
    inner = Inner(models.Unigram())
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()]
    steps += [normalizers.StripAccents(), *([normalizers.Lowercase()] if spec.lowercase else [])]
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=False)]
    inner.normalizer = normalizers.Sequence(steps)
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=spec.size, special_tokens=specials, unk_token=spec.specials["unk"], show_progress=False
    )
    _learn(inner, trainer, spec, pieces)
    return inner


def _characters(spec: TokenizerSpec, specials: list[str], pieces: Iterable[str]) -> Inner:
    """The most frequent characters, each a token."""
    counts: Counter[str] = Counter()
    for text in sample(pieces, SAMPLE["characters"]):
        counts.update(text.lower() if spec.lowercase else text)
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    vocabulary = {token: n for n, token in enumerate([*specials, *frequent][: spec.size])}
    inner = Inner(models.BPE(vocab=vocabulary, merges=[], unk_token=spec.specials["unk"]))
    if spec.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.decoder = decoders.Fuse()
    return inner


def _words(spec: TokenizerSpec, specials: list[str], pieces: Iterable[str]) -> Inner:
    """The most frequent words, each a token; a word is what stands between white space."""
    inner = Inner(models.WordLevel({}, unk_token=spec.specials["unk"]))
    if spec.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    _learn(
        inner,
        trainers.WordLevelTrainer(vocab_size=spec.size, special_tokens=specials, show_progress=False),
        spec,
        pieces,
    )
    return inner


_KINDS: dict[str, Callable[[TokenizerSpec, list[str], Iterable[str]], Inner]] = {
    "bytes_bpe": _bytes_bpe,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "characters": _characters,
    "bytes": _bytes,
    "words": _words,
}


def _learn(inner: Inner, trainer: trainers.Trainer, spec: TokenizerSpec, pieces: Iterable[str]) -> None:
    texts = sample(pieces, SAMPLE[spec.kind])
    try:
        inner.train_from_iterator(texts, trainer)
    except Exception as error:  # the library raises nothing narrower
        if "not large enough to contain all chars" not in str(error):
            raise
        characters = len(set().union(*texts))
        raise UserError(
            f"tokenizer.size {spec.size} is too small: a unigram vocabulary has a row for each of the {characters:,}"
            " characters of the corpus; tokenizer.kind bytes_bpe needs only 256"
        ) from None


def sample(pieces: Iterable[str], budget: float) -> list[str]:
    """Every n-th block of the text, n a power of two, such that they cost between half of `budget` and all of it."""
    kept: list[tuple[str, float]] = []
    stride, cost = 1, 0.0
    for number, block in enumerate(_blocks(pieces)):
        if number % stride:
            continue
        kept.append((block, _cost(block)))
        cost += kept[-1][1]
        while cost > budget and len(kept) > 1:
            kept, stride = kept[::2], 2 * stride
            cost = sum(each for _, each in kept)
    return [text for block, _ in kept for text in _short_words(block)]


def _blocks(pieces: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    length = 0
    for piece in pieces:
        for text in slices(piece, BLOCK):
            held.append(text)
            length += len(text)
            if length >= BLOCK:
                yield "\n".join(held)
                held, length = [], 0
    if held:
        yield "\n".join(held)


def _cost(block: str) -> float:
    prose_words = len(block) / PROSE_WORD
    return len(block.encode()) * min(DEAREST, max(1.0, prose_words / (len(block.split()) or 1)))


def _short_words(block: str) -> list[str]:
    if max(map(len, block.split()), default=0) <= LONGEST_WORD:
        return [block]
    return [block[begin : begin + LONGEST_WORD] for begin in range(0, len(block), LONGEST_WORD)]
