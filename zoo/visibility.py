"""Who sees whom: the only place where visibility is made.

A token sees the tokens of its document whose rank is not above its own.

    causal          rank = position in the row
    full            rank = 0
    prefix          rank = max(position, first predicting row)
    permutation     rank = place in the factorization order; context, which all see, -1
    encoder source  rank = 0, so that every decoder token (rank >= 0) sees it
    memory          below everything: every token sees what is remembered of the rows before its own

Ranks order the tokens of a document, so visibility is transitive: what many layers let through is exactly what one
layer lets through, and a leak test can be exact. Padding has doc 0 and neither sees nor is seen.
"""

from typing import Literal

from zoo.batch import Array, Stream

Kind = Literal["causal", "full", "rank"]


def visible(query: Stream, key: Stream, *, strict: bool = False) -> Array:
    """[B, Q, K] bool, True = may attend; works on numpy arrays, on tensors and on Keras's symbolic ones alike.

    strict hides equal ranks too: the query stream of two-stream attention, which must not see its own token.
    """
    q, k = query.rank[:, :, None], key.rank[:, None, :]
    see = k < q if strict else k <= q
    q_doc, k_doc = query.doc[:, :, None], key.doc[:, None, :]
    same = (k_doc <= q_doc) & (k_doc >= q_doc)  # symbolic tensors answer == with identity
    return see & same & (k_doc > 0)


def within(back: int, place_BQ: Array, place_K: Array) -> Array:
    """[B, Q, K] bool: keys at most `back` tokens before a query's place, or after it (`same_length`).

    As in Transformer-XL's TensorFlow release: the token itself and `back` more; its PyTorch release has one less.
    """
    return place_BQ[:, :, None] <= place_K + back
