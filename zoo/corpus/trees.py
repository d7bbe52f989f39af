"""Constituency trees: brackets as the Penn Treebank writes them, and the sequences that a model is trained on.

>>> tree = Tree("S", (Tree("NP", (Tree("PRP", word="I"),)), Tree("VP", (Tree("VBP", word="agree"),))))
>>> write(tree)
'(S (NP (PRP I)) (VP (VBP agree)))'
>>> linearised(tree)
'(S (NP XX )NP (VP XX )VP )S'
>>> parse = delinearised("(S (NP XX )NP (VP XX", words(tree))
>>> write(parse.tree), parse.repaired
('(S (NP (XX I)) (VP (XX agree)))', True)
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from zoo.corpus.documents import lines
from zoo.corpus.files import Tally, decoded
from zoo.errors import UserError

ANY_TAG = "XX"  # stands for every part of speech (Vinyals et al. 2015)
EMPTY = "-NONE-"  # the tag of what is not spoken: traces, dropped subjects
ROOT = "TOP"  # holds the trees where there are several; scores do not count it

# White space is ASCII's: a no-break space is part of a word.
BRACKETS = re.compile(r"\([^\s()]*|\)|[^\s()]+", re.ASCII)
STEPS = re.compile(r"[()][^\s()]*|[^\s()]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tree:
    """A constituent with its children, or a leaf: a part of speech with its word."""

    label: str
    children: tuple["Tree", ...] = ()
    word: str = ""


class Parse(NamedTuple):
    tree: Tree
    repaired: bool  # the tokens were not those of a tree over these words


Open = tuple[str, list[Tree]]  # a constituent that is still open: its label and the children so far


def walk(tree: Tree) -> Iterator[tuple[Tree, bool]]:
    """Every node from left to right: a constituent as it opens (True) and as it closes (False), a leaf once (True).

    Not recursive: a model may open thousands of brackets.
    """
    ahead = [(tree, True)]
    while ahead:
        node, opens = ahead.pop()
        yield node, opens
        if opens and node.children:
            ahead.append((node, False))
            ahead.extend((child, True) for child in reversed(node.children))


def leaves(tree: Tree) -> list[Tree]:
    return [node for node, _ in walk(tree) if not node.children]


def words(tree: Tree) -> list[str]:
    return [leaf.word for leaf in leaves(tree)]


def read_trees(path: Path) -> Iterator[Tree]:
    """The trees of a file of brackets, plain, .gz or .zst, one by one; an outer bracket without a label is taken off.

    Raises:
        UserError: no tree, brackets that are not balanced, or one that is neither (TAG word) nor (LABEL (...) ...);
            bytes that are not UTF-8.
    """
    opened: list[tuple[str, list[Tree | str], int]] = []  # label, what is inside, line
    found = False
    for number, line in enumerate(lines(decoded(path, Tally())), 1):
        where = f"{path}:{number}"
        for token in BRACKETS.findall(line):
            if token[0] == "(":
                if opened and token == "(":
                    raise UserError(f"{where}: a bracket without a label inside of the one of line {opened[0][2]}")
                opened.append((token[1:], [], number))
            elif not opened:
                raise UserError(f"{where}: {token!r} stands outside of all brackets")
            elif token != ")":
                opened[-1][1].append(token)
            else:
                label, inside, _ = opened.pop()
                tree = _node(label, inside, where)
                if opened:
                    opened[-1][1].append(tree)
                else:
                    found = True
                    yield tree
    if opened:
        raise UserError(f"{path}:{opened[0][2]}: the bracket that opens here is never closed")
    if not found:
        raise UserError(f"{path}: no tree in it; a tree looks like (S (NP (PRP I)) (VP (VBP agree)))")


def _node(label: str, inside: list[Tree | str], where: str) -> Tree:
    children = tuple(part for part in inside if isinstance(part, Tree))
    found = [part for part in inside if isinstance(part, str)]
    if not inside:
        raise UserError(f"{where}: nothing is inside of ({label}); allowed: (TAG word) and (LABEL (...) ...)")
    if found and (children or len(found) > 1 or not label):
        raise UserError(f"{where}: the word {found[0]!r} has no tag of its own; a word is written (TAG word)")
    if found:
        return Tree(label, word=found[0])
    return Tree(label, children) if label else _one(children)


def _one(trees: Sequence[Tree]) -> Tree:
    return trees[0] if len(trees) == 1 else Tree(ROOT, tuple(trees))


def _close(opened: list[Open]) -> None:
    """The innermost constituent joins the one around it; an empty one vanishes."""
    label, children = opened.pop()
    if children:
        opened[-1][1].append(Tree(label, tuple(children)))


def write(tree: Tree) -> str:
    """A line that `read_trees` reads; brackets inside of words become -LRB- and -RRB-, as in the treebank."""
    parts: list[str] = []
    for node, opens in walk(tree):
        if node.children:
            parts.append(f" ({node.label}" if opens else ")")
        else:
            parts.append(f" ({node.label} {node.word.replace('(', '-LRB-').replace(')', '-RRB-')})")
    return "".join(parts)[1:]


def category(label: str) -> str:
    """A label without functions and indices: NP-SBJ-1 and NP=2 are NP; -LRB- stays, and so does the pair PRT|ADVP.

    The first character is never cut off, so that a tag that is a sign alone stays too.
    """
    return label if label.startswith("-") else label[:1] + re.split("[-=]", label[1:], maxsplit=1)[0]


def plain(tree: Tree) -> Tree:
    """As parsers of the Wall Street Journal are trained and scored: categories alone, without empty elements.

    Raises:
        UserError: no word is left.
    """
    opened: list[Open] = [("", [])]
    for node, opens in walk(tree):
        if not opens:
            _close(opened)
        elif node.children:
            opened.append((category(node.label), []))
        elif node.label != EMPTY:
            opened[-1][1].append(Tree(category(node.label), word=node.word))
    if not opened[0][1]:
        raise UserError(f"nothing but empty elements in {write(tree)}")
    return opened[0][1][0]


def linearised(tree: Tree) -> str:
    """The tree as tokens with one space between them, without words and tags: (S (NP XX )NP (VP XX )VP )S.

    Source: Vinyals et al. 2015, "Grammar as a foreign language", whose parts of speech are all XX.
    """
    return " ".join(
        (f"({node.label}" if opens else f"){node.label}") if node.children else ANY_TAG for node, opens in walk(tree)
    )


def delinearised(tokens: str, words: Sequence[str], tags: Sequence[str] | None = None) -> Parse:
    """The tree over exactly `words` that `tokens` describe, whatever they are; tags are XX where none are given.

    A closing bracket closes the innermost constituent, whatever its label; what is open at the end is closed there.
    Missing words are the last children of the innermost constituent that is open at the end, or else of the last tree.
    Dropped are empty constituents, closing brackets and words for which there is none, and tokens of other kinds than
    (LABEL, )LABEL and XX. Several trees become children of one TOP.

    Unlike Vinyals et al., who put missing opening brackets at the beginning: a surplus closing one is dropped.

    Raises:
        UserError: there are no words.
    """
    if not words:
        raise UserError("no words to parse; a tree has at least one")
    unread = iter([Tree(tag, word=word) for tag, word in zip(tags or [ANY_TAG] * len(words), words, strict=True)])
    opened: list[Open] = [("", [])]
    steps = STEPS.findall(tokens)
    for token in steps:
        if token == ANY_TAG:
            opened[-1][1].extend(islice(unread, 1))
        elif token[0] == ")" and len(opened) > 1:
            _close(opened)
        elif token[0] == "(" and token != "(":
            opened.append((token[1:], []))
    trees, missing = opened[0][1], list(unread)
    if missing and len(opened) == 1 and trees and trees[-1].children:
        last = trees.pop()
        opened.append((last.label, list(last.children)))
    opened[-1][1].extend(missing)
    while len(opened) > 1:
        _close(opened)
    tree = _one(trees)
    return Parse(tree, linearised(tree) != " ".join(steps))
