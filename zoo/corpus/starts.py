"""Where words and sentences start: one rule on the text, the same for every tokenizer (docs/data.md).

A *word* starts at a character that is not white space and either is no letter, digit or mark, or follows a character
that is none; an ideograph is a word of its own. A *sentence* starts at an upper-case letter, a letter without case, a
digit or an opening quote or bracket that follows `.`, `!` or `?`, at most CLOSERS closing quotes or brackets, and white
space; and after a blank line, whatever stands there.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np

WORD_START, SENTENCE_START = 1, 2  # bits of a token's flags
CLOSERS = 4
CONTEXT = 64  # characters before a text that decide about its start

_SPACE, _LETTER, _OPENS, _ENDS, _CLOSES, _NEWLINE, _UNSEEN = 1, 2, 4, 8, 16, 32, 128
_kinds = np.full(0x110000, _UNSEEN, np.uint8)  # what each character is; filled as characters are met


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    # As in BERT's basic tokenizer, an ideograph is a word of its own: there is no white space to go by.
    ideograph = unicodedata.name(character, "").startswith("CJK ")
    quote = character in "\"'" or category in ("Pi", "Pf")  # German and French quotes open and close the other way
    return (
        _SPACE * character.isspace()
        | _LETTER * ((character.isalnum() or category[0] == "M") and not ideograph)
        | _OPENS * (quote or category in ("Lu", "Lt", "Lo", "Nd", "Ps"))
        | _ENDS * (character in ".!?")
        | _CLOSES * (quote or category == "Pe")
        | _NEWLINE * (character == "\n")
    )


def _kinds_of(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    kinds = _kinds[codes]
    if (kinds == _UNSEEN).any():
        for code in np.unique(codes[kinds == _UNSEEN]).tolist():
            _kinds[code] = _kind(chr(code))
        kinds = _kinds[codes]
    return kinds


def starts(text: str, opens: Sequence[int] | np.ndarray = (0,)) -> tuple[np.ndarray, np.ndarray]:
    """The flags of every character, and whether it is more than white space.

    text: documents one after another; `opens` says at which characters one starts, in order. Text before the first of
    them belongs to an earlier document. That a document starts a sentence is not marked here, but on its first token.
    Returns flags [characters] uint8, solid [characters] bool.
    """
    kinds = _kinds_of(text)
    solid, letter = (kinds & _SPACE) == 0, (kinds & _LETTER) != 0
    opens = np.asarray(opens, np.int64)
    opens = opens[opens < len(text)]
    after_letter, after_solid = np.zeros_like(letter), np.zeros_like(solid)
    after_letter[1:], after_solid[1:] = letter[:-1], solid[:-1]
    after_letter[opens], after_solid[opens] = False, False
    flags = (solid & ~(letter & after_letter)).astype(np.uint8) * WORD_START

    # A sentence can only start where a run of solid characters does; what it follows ends with the run before.
    start, places = np.flatnonzero(solid & ~after_solid)[1:], np.flatnonzero(solid)
    end = places[np.searchsorted(places, start) - 1]
    document = np.searchsorted(opens, start, side="right")
    floor = np.concatenate(([0], opens))[document]
    same = end >= floor
    start, end, floor = start[same], end[same], floor[same]
    newlines = np.cumsum(kinds & _NEWLINE != 0, dtype=np.int32)
    blank_line = newlines[start] - newlines[end] >= 2
    for _ in range(CLOSERS):
        end = end - ((kinds[end] & _CLOSES != 0) & (end > floor))
    begins = blank_line | ((kinds[end] & _ENDS != 0) & (kinds[start] & _OPENS != 0))
    flags[start[begins]] |= SENTENCE_START
    return flags, solid


def of_tokens(flags: np.ndarray, solid: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The flags of tokens that cover the characters begin[i] to end[i]: those of the first that is not white space.

    A token that starts inside a character of the one before (a piece of its bytes) starts nothing.
    """
    places = np.flatnonzero(solid)
    if not len(places):
        return np.zeros(len(begin), np.uint8)
    first = places[np.minimum(np.searchsorted(places, begin), len(places) - 1)]
    covered = (first >= begin) & (first < end)
    covered[1:] &= begin[1:] >= end[:-1]
    return flags[first] * covered
