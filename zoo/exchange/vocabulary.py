"""The vocabulary files that BERT, GPT and GPT-2 were released with, as a tokenizer.json."""

import json
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.exchange.files import inside, read_json
from zoo.sections import SPECIALS

WORDPIECE, BPE, ADDED = "vocab.txt", ("vocab.json", "merges.txt"), "added_tokens.json"
WORD_END = "</w>"  # no piece of GPT-2's has it: letters and punctuation are never merged there
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def converted(folder: Path, settings: dict[str, Any], named: dict[str, str]) -> str | None:
    """The text of a tokenizer.json; None where a folder has no such files.

    settings: of tokenizer_config.json; named: the special tokens that it names, by role. Raises UserError where the
    files cannot be read. Source: transformers' BertTokenizer, OpenAIGPTTokenizer and GPT2Tokenizer.
    """
    if (pieces := _lines(folder, WORDPIECE)) is not None:
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        usual = SPECIALS["wordpiece"] | named
        if usual["unk"] not in vocabulary:
            raise UserError(f"{folder / WORDPIECE} has no {usual['unk']}, which stands for what is not in it")
        parts = _wordpiece(settings, vocabulary, usual["unk"])
    elif (vocabulary := read_json(folder, BPE[0])) and (merges := _lines(folder, BPE[1])) is not None:
        merges = [line for line in merges if line and not line.startswith("#version")]
        if any(piece.endswith(WORD_END) for piece in vocabulary):
            usual = {"unk": "<unk>"} | named
            parts = _words_bpe(vocabulary, merges, usual["unk"])
        else:
            usual = SPECIALS["bytes_bpe"] | named
            parts = _bytes_bpe(settings, vocabulary, merges)
    else:
        return None
    special = {token: vocabulary[token] for token in sorted(usual.values()) if token in vocabulary}
    ids = {number: token for token, number in (special | read_json(folder, ADDED)).items() if isinstance(number, int)}
    added = [{"id": number, "content": ids[number], **FLAGS} for number in sorted(ids)]
    rest = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None}
    return json.dumps(rest | parts)


def _words(settings: dict[str, Any]) -> dict[str, Any]:
    """What makes words of a text: BERT's way, and the first GPT's in transformers."""
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        "strip_accents": settings.get("strip_accents"),  # None: where it lowers
        "lowercase": settings.get("do_lower_case", True),
    }
    return {"normalizer": normalizer, "pre_tokenizer": {"type": "BertPreTokenizer"}}


def _words_bpe(vocabulary: dict[str, int], merges: list[str], unknown: str) -> dict[str, Any]:
    model = {"type": "BPE", "unk_token": unknown, "end_of_word_suffix": WORD_END, "vocab": vocabulary, "merges": merges}
    return {**_words({}), "decoder": {"type": "BPEDecoder", "suffix": WORD_END}, "model": model}


def _wordpiece(settings: dict[str, Any], vocabulary: dict[str, int], unknown: str) -> dict[str, Any]:
    model = {
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocabulary,
    }
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return {**_words(settings), "decoder": decoder, "model": model}


def _bytes_bpe(settings: dict[str, Any], vocabulary: dict[str, int], merges: list[str]) -> dict[str, Any]:
    step = {"type": "ByteLevel", "add_prefix_space": settings.get("add_prefix_space", False), "trim_offsets": True}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    return {"normalizer": None, "pre_tokenizer": step, "decoder": step, "model": model}


def _lines(folder: Path, name: str) -> list[str] | None:
    file = inside(folder, name)
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    return text.removesuffix("\n").split("\n")  # other separators of lines are pieces of BERT's vocabulary
