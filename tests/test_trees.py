"""Trees: brackets and sequences there and back, repairs, and EVALB's counting against counts made by hand."""

import gzip
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zoo.corpus.trees import Tree, delinearised, leaves, linearised, plain, read_trees, walk, words, write
from zoo.errors import UserError
from zoo.report.brackets import Brackets, score

LABELS = st.sampled_from(["S", "NP", "VP", "ADVP", "PRT", "PRT|ADVP", "TOP", "XX", "X"])
TAGS = st.sampled_from(["NN", "PRP$", ",", ".", "``", "-LRB-", "$", "XX"])
WORDS = st.text(st.characters(exclude_categories=["C"], exclude_characters="() "), min_size=1) | st.just("a\xa0b")


def constituents(inside: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.builds(Tree, LABELS, st.lists(inside, min_size=1, max_size=4).map(tuple))


def trees(tags: st.SearchStrategy[str] = TAGS) -> st.SearchStrategy[Tree]:
    return st.recursive(st.builds(Tree, tags, st.just(()), WORDS), constituents, max_leaves=12)


def read(text: str) -> list[Tree]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "wsj.mrg")
        path.write_text(text, encoding="utf-8")
        return list(read_trees(path))


def parsed(text: str) -> Tree:
    (tree,) = read(text)
    return tree


# --- brackets


@given(st.lists(trees(), min_size=1, max_size=3))
def test_what_is_written_is_read(several: list[Tree]) -> None:
    lines = [write(tree) for tree in several]
    assert not any("\n" in line for line in lines)
    assert read("\n".join(lines)) == several
    assert read("".join(f"( {line})\n" for line in lines).replace(" (", "\r\n\t(")) == several


def test_a_tree_as_the_treebank_prints_it() -> None:
    text = "\n( (S \n    (NP-SBJ (PRP We) )\n    (VP (VBP agree) ))\n  )\n(INTJ (UH Yes))(FRAG (RB Not)\n(RB now))\n"
    assert [write(tree) for tree in read(text)] == [
        "(S (NP-SBJ (PRP We)) (VP (VBP agree)))",
        "(INTJ (UH Yes))",
        "(FRAG (RB Not) (RB now))",
    ]


def test_an_outer_bracket_around_several_trees_is_top() -> None:
    assert write(parsed("( (S (NN a)) (. .))")) == "(TOP (S (NN a)) (. .))"


@pytest.mark.parametrize(
    "name, pack", [("a.mrg", bytes), ("a.mrg.gz", gzip.compress), ("a.zst", zstandard.ZstdCompressor().compress)]
)
def test_compressed_or_not(tmp_path: Path, name: str, pack) -> None:
    (tmp_path / name).write_bytes(pack("\ufeff(NP (NN Bär))".encode()))
    assert list(read_trees(tmp_path / name)) == [Tree("NP", (Tree("NN", word="Bär"),))]


def test_brackets_inside_of_words_are_written_as_the_treebank_does() -> None:
    assert write(Tree("-LRB-", word="(")) == "(-LRB- -LRB-)"


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("(S (NN a))\n(S\n(NN b)", 2, "never closed"),
        ("(S (NN a)\n(S (NN b))", 1, "never closed"),
        ("(S (NN a)))", 1, "')' stands outside"),
        ("(S (NN a))\n\nword", 3, "'word' stands outside"),
        ("( (S (NN a))\n( (S (NN b)))", 2, "without a label inside of the one of line 1"),
        ("(S\n(NN))", 2, "nothing is inside of (NN)"),
        ("()", 1, "nothing is inside of ()"),
        ("(S the (NN dog))", 1, "'the' has no tag"),
        ("(S (NN two words))", 1, "'two' has no tag"),
        ("( word)", 1, "'word' has no tag"),
    ],
)
def test_what_is_no_tree_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(UserError, match=rf"wsj\.mrg:{line}: .*{re.escape(message)}") as caught:
        read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data, message",
    [(b"", "no tree in it"), (b" \n\n", "no tree in it"), ("(NN Bär)".encode("latin-1"), "byte 5 is not UTF-8")],
)
def test_files_without_trees_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "wsj.mrg").write_bytes(data)
    with pytest.raises(UserError, match=rf"wsj\.mrg: {message}"):
        list(read_trees(tmp_path / "wsj.mrg"))


def test_a_tree_before_an_error_has_been_read(tmp_path: Path) -> None:
    """Files are read as a stream."""
    (tmp_path / "wsj.mrg").write_text("(NN a)\n)")
    assert next(read_trees(tmp_path / "wsj.mrg")) == Tree("NN", word="a")


# --- plain trees


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "(S (NP-SBJ-1 (PRP$ His) (NN dog)) (VP (VBZ seems) (S (NP-SBJ (-NONE- *-1)) (VP (TO to) (VP (VB bark))))))",
            "(S (NP (PRP$ His) (NN dog)) (VP (VBZ seems) (S (VP (TO to) (VP (VB bark))))))",
        ),
        ("(VP (VBD said) (SBAR (-NONE- 0) (S (-NONE- *T*-1))))", "(VP (VBD said))"),
        (
            "(PRN (-LRB- -LRB-) (NP=2 (CD 3)) (ADVP|PRT (RB up)) (-RRB- -RRB-) (: --))",
            "(PRN (-LRB- -LRB-) (NP (CD 3)) (ADVP|PRT (RB up)) (-RRB- -RRB-) (: --))",
        ),
        ("(X (= =) (- -) (# #) ($ $))", "(X (= =) (- -) (# #) ($ $))"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert write(plain(parsed(text))) == expected


@given(trees())
def test_plain_changes_nothing_twice(tree: Tree) -> None:
    assert plain(plain(tree)) == plain(tree)


def test_a_tree_of_traces_alone_has_no_plain_form() -> None:
    with pytest.raises(UserError, match="nothing but empty elements in"):
        plain(parsed("(S (NP (-NONE- *)))"))


# --- sequences


def test_linearised() -> None:
    """The example of Vinyals et al., figure 2, with XX for its tags."""
    tree = parsed("(S (NP (NNP John)) (VP (VBZ has) (NP (DT a) (NN dog))) (. .))")
    assert linearised(tree) == "(S (NP XX )NP (VP XX (NP XX XX )NP )VP XX )S"
    assert words(tree) == ["John", "has", "a", "dog", "."]


@given(trees())
def test_a_sequence_and_its_words_are_the_tree(tree: Tree) -> None:
    parse = delinearised(linearised(tree), words(tree), [leaf.label for leaf in leaves(tree)])
    assert parse == (tree, False)


@given(trees(st.just("XX")))
def test_without_tags_they_are_xx(tree: Tree) -> None:
    assert delinearised(linearised(tree), words(tree)) == (tree, False)


TOKENS = st.sampled_from(["(S", "(NP", "(VP", ")S", ")NP", ")VP", "XX", "XX", "(", ")", "[UNK]", "(NP)NP", "XX)S"])


@given(st.lists(TOKENS, max_size=20).map(" ".join) | st.text("()XNP ", max_size=30), st.lists(WORDS, min_size=1))
def test_any_tokens_give_a_tree_over_the_words(tokens: str, given_words: list[str]) -> None:
    tree, repaired = delinearised(tokens, given_words)
    assert words(tree) == given_words
    assert all(leaf.label == "XX" for leaf in leaves(tree))
    assert all(node.label and not node.word for node, _ in walk(tree) if node.children)
    assert [parsed(write(tree))] == [tree]
    assert delinearised(linearised(tree), given_words) == (tree, False)
    assert repaired or linearised(tree).replace(" ", "") == tokens.replace(" ", "")


@pytest.mark.parametrize(
    "tokens, expected",
    [
        ("(S (NP XX )NP (VP XX XX", "(S (NP (XX a)) (VP (XX b) (XX c)))"),  # cut off
        ("(S (NP XX )NP (VP XX XX )VP )S )S )NP", "(S (NP (XX a)) (VP (XX b) (XX c)))"),  # closed too often
        ("(S (NP XX )VP (VP XX XX )S )S", "(S (NP (XX a)) (VP (XX b) (XX c)))"),  # closed with other labels
        ("(S (NP XX )NP )S", "(S (NP (XX a)) (XX b) (XX c))"),  # too few words, nothing open
        ("(S (NP XX )NP (VP", "(S (NP (XX a)) (VP (XX b) (XX c)))"),  # too few words, VP open
        ("(S (NP XX XX XX )NP (VP XX )VP XX )S", "(S (NP (XX a) (XX b) (XX c)))"),  # too many words, so VP is empty
        ("(S (NP )NP XX XX XX )S", "(S (XX a) (XX b) (XX c))"),  # empty
        ("(NP XX )NP (VP XX XX )VP", "(TOP (NP (XX a)) (VP (XX b) (XX c)))"),  # several trees
        ("(NP XX )NP (VP XX )VP", "(TOP (NP (XX a)) (VP (XX b) (XX c)))"),  # several trees, too few words
        ("(NP XX )NP XX", "(TOP (NP (XX a)) (XX b) (XX c))"),
        ("(S )S", "(TOP (XX a) (XX b) (XX c))"),
        ("XX", "(TOP (XX a) (XX b) (XX c))"),
        ("", "(TOP (XX a) (XX b) (XX c))"),
        ("(S ( XX [UNK] XX XX )S", "(S (XX a) (XX b) (XX c))"),  # no such tokens
    ],
)
def test_repairs(tokens: str, expected: str) -> None:
    tree, repaired = delinearised(tokens, ["a", "b", "c"])
    assert write(tree) == expected
    assert repaired


def test_spaces_need_no_repair() -> None:
    assert delinearised(" (S  XX )S\n", ["a"]) == (Tree("S", (Tree("XX", word="a"),)), False)


def test_very_deep_sequences_are_trees() -> None:
    tree, repaired = delinearised("(S " * 5000 + "XX", ["a"])
    assert repaired
    assert linearised(tree).count("(S") == write(tree).count("(S") == 5000
    assert score([plain(tree)], [tree]).matched == 5000


def test_no_words_are_refused() -> None:
    with pytest.raises(UserError, match="no words"):
        delinearised("(S XX )S", [])


# --- scores


@given(st.lists(trees(), min_size=1, max_size=4))
def test_a_tree_is_its_own_best_guess(several: list[Tree]) -> None:
    found = score(several, several)
    assert found.matched == found.gold == found.guessed
    assert found.f1 == found.precision == found.recall == (found.gold > 0)
    assert found.exact == found.sentences
    assert found.crossing == 0


@given(trees(), st.lists(TOKENS, max_size=20).map(" ".join))
def test_gold_and_guess_change_places(gold: Tree, tokens: str) -> None:
    """Where both have the same tags; XX for tags alone changes nothing in the guess."""
    tags = [leaf.label for leaf in leaves(gold)]
    guess = delinearised(tokens, words(gold), tags).tree
    there, back = score([gold], [guess]), score([guess], [gold])
    assert (there.matched, there.gold, there.guessed) == (back.matched, back.guessed, back.gold)
    assert there.f1 == back.f1
    assert there.matched <= min(there.gold, there.guessed)
    assert score([gold], [delinearised(tokens, words(gold)).tree]) == there


def counts(gold: str, guess: str) -> tuple[int, ...]:
    """matched, gold, guessed, crossing, exact"""
    return tuple(score([parsed(gold)], [parsed(guess)]))[:5]


def test_counts_by_hand() -> None:
    """The guess attaches "with it" to the noun.

    Gold: S 0-6, NP 0-1, VP 1-6, NP 2-4, PP 4-6, NP 5-6. The guess has these too, and NP 2-6.
    """
    gold = "(S (NP (PRP I)) (VP (VBP saw) (NP (DT a) (NN man)) (PP (IN with) (NP (PRP it)))))"
    guess = "(S (NP (XX I)) (VP (XX saw) (NP (NP (XX a) (XX man)) (PP (XX with) (NP (XX it))))))"
    assert counts(gold, guess) == (6, 6, 7, 0, 0)
    found = score([parsed(gold)] * 2, [parsed(guess), parsed(gold)])
    assert found == Brackets(12, 12, 13, 0, 1, 2)
    assert (found.precision, found.recall, found.f1) == (12 / 13, 1, pytest.approx(2 * (12 / 13) / (12 / 13 + 1)))


def test_sums_are_taken_before_rates() -> None:
    """1 of 1 and 1 of 3 brackets: 2 x 2 / (4 + 4), where the mean of the sentences would be 2/3."""
    short = parsed("(S (NN a))")
    gold = parsed("(S (NP (NN a) (NN b)) (VP (VB c)))")
    guess = parsed("(S (VP (XX a) (XX b)) (NP (XX c)))")
    found = score([short, gold], [short, guess])
    assert found == Brackets(2, 4, 4, 0, 1, 2)
    assert found.f1 == 0.5


def test_punctuation_is_taken_out_by_the_gold_tags() -> None:
    """The comma hangs elsewhere, and the guess has a tree of the full stop alone: all the same."""
    gold = "(S (NP (NN a)) (, ,) (VP (VB b)) (. .))"
    assert counts(gold, "(S (NP (XX a) (XX ,)) (VP (XX b)) (FRAG (XX .)))") == (3, 3, 3, 0, 1)
    assert counts(gold, "(S (S (NP (NN a)) (NN ,) (VP (NN b))) (NN .))") == (3, 3, 4, 0, 0)  # one S too many
    assert counts("(S (NN a) (NN ,))", "(S (NP (, a)) (, ,))") == (1, 1, 2, 0, 0)  # the guess's tags do not matter


@pytest.mark.parametrize("tag, taken", [*((tag, True) for tag in (",", ".", ":", "``", "''")), ("-LRB-", False)])
def test_which_tags_are_punctuation(tag: str, taken: bool) -> None:
    assert counts(f"(S (NP ({tag} x)) (NN a))", "(S (XX x) (XX a))")[1] == 2 - taken


def test_a_sentence_of_punctuation_alone_is_skipped() -> None:
    dash = parsed("(NP (: --))")
    assert score([dash], [dash]) == Brackets() == score([], [])
    assert score([dash], [dash]).f1 == 0


def test_advp_is_prt() -> None:
    gold = "(VP (VB give) (PRT (RP up)))"
    assert counts(gold, "(VP (XX give) (ADVP (XX up)))") == (2, 2, 2, 0, 1)
    assert counts("(VP (VB give) (PRT (ADVP (RP up))))", "(VP (XX give) (ADVP (ADVP (XX up))))") == (3, 3, 3, 0, 1)
    assert counts(gold, "(VP (XX give) (ADJP (XX up)))") == (1, 2, 2, 0, 0)


@pytest.mark.parametrize("gold, guess, matched", [(2, 1, 1), (1, 3, 1), (2, 3, 2)])
def test_unary_chains_match_as_often_as_both_have_them(gold: int, guess: int, matched: int) -> None:
    def chain(links: int) -> str:
        return "(NP " * links + "(DT the) (NN man)" + ")" * links

    assert counts(chain(gold), chain(guess)) == (matched, gold, guess, 0, 0)


@pytest.mark.parametrize("root", ["TOP", "ROOT", "S1", ""])
def test_roots_are_not_counted(root: str) -> None:
    bare = parsed("(S (NP (NN a)) (VP (VB b)))")
    rooted = Tree(root, (bare,))
    assert score([rooted], [bare]) == score([bare], [rooted]) == score([rooted], [rooted]) == Brackets(3, 3, 3, 0, 1, 1)


def test_functions_do_not_matter() -> None:
    assert counts("(S (NP-SBJ-1 (NN a)) (VP=2 (VB b)))", "(S (NP (XX a)) (VP (XX b)))") == (3, 3, 3, 0, 1)


def test_tags_are_no_brackets() -> None:
    assert counts("(NN a)", "(XX a)") == (0, 0, 0, 0, 1)


def test_crossing_is_counted_in_the_guess_whatever_the_labels() -> None:
    """0-2 and its double cross 1-3 (and count each); 1-3 in the gold tree counts once."""
    gold = "(S (NN a) (VP (NN b) (NN c)))"
    guess = "(S (NP (NP (XX a) (XX b))) (XX c))"
    assert counts(gold, guess) == (1, 2, 3, 2, 0)
    assert counts(guess, gold) == (1, 3, 2, 1, 0)


def test_other_words_are_refused() -> None:
    one, two, long = parsed("(S (NN a))"), parsed("(S (NN b))"), parsed("(S (NN a) (NN b))")
    with pytest.raises(UserError, match=r"^sentence 2: .*: word 1 is 'b', not 'a'$"):
        score([one, one], [one, two])
    with pytest.raises(UserError, match=r"^sentence 1: .*: 2 words, not 1$"):
        score([one], [long])
    with pytest.raises(UserError, match=r"^1 guessed trees for 2 gold ones$"):
        score([one, one], [one])
