"""Where words and sentences start: one rule on the text, the same for every tokenizer (docs/data.md).

A *word* starts at a character that is not white space and either is no letter, digit or mark, or follows a character
that is none; an ideograph is a word of its own. A *sentence* starts at an upper-case letter, a letter without case, a
digit or an opening quote or bracket that follows `.`, `!` or `?`, at most CLOSERS closing quotes or brackets, and white
space; and after a blank line, whatever stands there. A *spaced word* is all that stands between white space.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np

WORD_START, SENTENCE_START, SPACED_START = 1, 2, 4  # bits of a token's flags
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
    after_letter, after_solid, before_solid = np.zeros_like(letter), np.zeros_like(solid), np.zeros_like(solid)
    after_letter[1:], after_solid[1:], before_solid[:-1] = letter[:-1], solid[:-1], solid[1:]
    after_letter[opens], after_solid[opens], before_solid[opens[opens > 0] - 1] = False, False, False
    spaced = solid & ~after_solid
    flags = (solid & ~(letter & after_letter)).view(np.uint8) * np.uint8(WORD_START)
    flags |= spaced.view(np.uint8) * np.uint8(SPACED_START)

    # A sentence can only start where a run of solid characters does; what it follows ends with the run before.
    start, end = np.flatnonzero(spaced)[1:], np.flatnonzero(solid & ~before_solid)[:-1]
    blank_line, wide, newlines = np.zeros(len(start), bool), start - end > 2, np.flatnonzero(kinds & _NEWLINE)
    blank_line[wide] = np.searchsorted(newlines, start[wide]) - np.searchsorted(newlines, end[wide]) >= 2
    able = blank_line | (kinds[start] & _OPENS != 0)  # most words are not, which saves most of the rest
    start, end, blank_line = start[able], end[able], blank_line[able]
    floor = np.concatenate(([0], opens))[np.searchsorted(opens, start, side="right")]
    for _ in range(CLOSERS):
        end = end - ((kinds[end] & _CLOSES != 0) & (end > floor))
    begins = blank_line | (kinds[end] & _ENDS != 0)
    flags[start[begins & (end >= floor)]] |= SENTENCE_START
    return flags, solid


def of_tokens(flags: np.ndarray, solid: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The flags of tokens that cover the characters begin[i] to end[i]: those of the first that is not white space.

    A token that starts inside a character of the one before (a piece of its bytes) starts nothing.
    """
    first, ahead = begin.copy(), np.flatnonzero(begin < end)
    while len(ahead := ahead[~solid[first[ahead]]]):  # more than a few times only where a token is a run of white space
        first[ahead] += 1
        ahead = ahead[first[ahead] < end[ahead]]
    covered = first < end
    covered[1:] &= begin[1:] >= end[:-1]
    flags = flags[np.minimum(first, len(flags) - 1)] if len(flags) else np.zeros(len(begin), np.uint8)
    return flags * covered
