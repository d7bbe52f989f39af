"""Who sees whom, written by hand: one matrix for every rule of ranks."""

import numpy as np
import pytest
from shrunk import Bench

from zoo.batch import Stream
from zoo.visibility import visible


def stream(rank: list[int], doc: list[int] | None = None) -> Stream:
    """A row with these ranks; of one document where no documents are given."""
    ranks = np.array([rank], np.int32)
    nothing = np.zeros_like(ranks)
    return Stream(nothing, nothing + 1 if doc is None else np.array([doc], np.int32), nothing, nothing, ranks)


def drawn(matrix: str) -> list[list[bool]]:
    """Rows of # (sees) and . (does not)."""
    return [[sign == "#" for sign in line] for line in matrix.split()]


RULES = {
    "causal": (stream([0, 1, 2, 3]), "#... ##.. ###. ####"),
    "full": (stream([0, 0, 0, 0]), "#### #### #### ####"),
    "full, padded": (stream([0, 0, 0, 0], doc=[1, 1, 1, 0]), "###. ###. ###. ...."),
    "prefix of 2": (stream([2, 2, 2, 3]), "###. ###. ###. ####"),
    "two documents": (stream([0, 1, 2, 3], doc=[1, 1, 2, 2]), "#... ##.. ..#. ..##"),
    # place 2 is predicted first, then 0; 1 and 3 are context
    "permutation": (stream([5, -1, 3, -1]), "#### .#.# .### .#.#"),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    row, expected = RULES[rule]
    assert visible(row, row)[0].tolist() == drawn(expected)


def test_blind_queries_do_not_see_their_own_token() -> None:
    row = stream([5, -1, 3, -1])
    assert visible(row, row, strict=True)[0].tolist() == drawn(".### .... .#.# ....")


def test_every_decoder_token_sees_the_whole_source_of_its_document() -> None:
    decoder, source = stream([0, 1, 2], doc=[1, 1, 2]), stream([0, 0, 0, 0], doc=[1, 1, 2, 0])
    assert visible(decoder, source)[0].tolist() == drawn("##.. ##.. ..#.")


def test_ranks_are_transitive() -> None:
    """What a token sees sees nothing more: many layers let through what one does."""
    noise = np.random.Generator(np.random.Philox(0))
    ranks, docs = noise.integers(-1, 5, (20, 9)), noise.integers(0, 3, (20, 9))
    row = Stream(ranks, docs, ranks, ranks, ranks)
    see = visible(row, row).astype(int)
    twice = np.einsum("bij,bjk->bik", see, see) > 0
    assert not (twice & ~visible(row, row)).any()


@pytest.mark.parametrize("name", ["gpt2-small", "bert-base", "transformer-base", "transformer-xl-wt103-base"])
def test_what_an_objective_says_of_its_ranks_holds_for_its_batches(name: str) -> None:
    """The network leaves out what a causal objective's tokens cannot see, and takes the objective's word for it."""
    bench = Bench(name)
    said = bench.learner.objective.visibility
    for number in range(3):
        (batch,) = bench.feed.micro_batches(number)
        see = visible(batch.stream, batch.stream)
        assert not np.triu(see, 1).any() if said == "causal" else np.array_equal(see, see.transpose(0, 2, 1))
    assert said == ("full" if name == "bert-base" else "causal")
