"""A large vocabulary in bins of rarer and rarer words: adaptive embeddings and the adaptive softmax.

The first bin is the shortlist; the others are tails, which the shortlist's softmax knows as one more word each, their
clusters (Grave et al. 2017). Words of later bins may be narrower (Baevski & Auli 2019, as in Dai et al. 2019).

Shapes: N tokens, n some of them, D width, W width of a bin, S words of the shortlist and clusters, C words of a tail,
V vocabulary.
"""

from typing import Any, NamedTuple

from keras import ops

from zoo.kernels.chosen import for_chosen
from zoo.kernels.cross_entropy import cross_entropy
from zoo.kernels.matmul import matmul_transposed
from zoo.network.layers import Embedding, Linear, Part, float32, sizes
from zoo.network.shapes import Bin, bins
from zoo.sections import Model


def _inside(index: Any, part: Bin) -> Any:
    """[...] bool: which ids are of a bin."""
    return ops.logical_and(index >= part.first, index < part.first + part.size)


def _within(index: Any, part: Bin) -> Any:
    """[...] int: places in a bin; of ids that are not in it, some place."""
    return ops.clip(index - part.first, 0, part.size - 1)


def _nats(score: Any, place: Any) -> Any:
    return ops.sparse_categorical_crossentropy(place, score, from_logits=True)


class AdaptiveEmbedding(Part):
    """A table for every bin, and a projection of each to the model's width, of the shortlist too."""

    def __init__(self, model: Model, vocab_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.bins = bins(model, vocab_size)
        given: dict[str, Any] = {"init_std": 0.0, "dtype": self.dtype_policy}
        self.tables = [Embedding(part.size, part.width, **given) for part in self.bins]
        self.projections = [Linear(part.width, model.width, bias=False, **given) for part in self.bins]

    def call(self, index: Any) -> Any:
        """[...] int -> [..., D] float32."""
        total: Any = 0.0
        for part, table, projection in zip(self.bins, self.tables, self.projections, strict=True):
            row = ops.where(_inside(index, part)[..., None], table(_within(index, part)), 0.0)
            total += float32(projection(row))
        return total


class Clusters(Part):
    """What stands for the tails among the words of the shortlist: a row and a bias for each.

    They follow the shortlist in the order of their bins, as in the TensorFlow release of Transformer-XL. Unlike its
    torch release, which has them in the reversed order.
    """

    def __init__(self, tails: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.table = self.weight((tails, width), "zeros")
        self.bias = self.weight((tails,), "zeros")


class Tail(NamedTuple):
    """The words of a bin after the shortlist, given that the word is one of them."""

    bin: Bin
    table: Any  # [C, W]
    bias: Any  # [C]
    projection: Any | None  # [W, D]

    def scores(self, hidden_nD: Any) -> Any:
        """[n, C] float32."""
        x_nW = hidden_nD if self.projection is None else matmul_transposed(hidden_nD, self.projection)
        return float32(matmul_transposed(x_nW, self.table)) + self.bias

    def nats(self, hidden_nD: Any, place_n: Any) -> Any:
        """[n] float32: how unexpected the words at these places of the bin are."""
        return _nats(self.scores(hidden_nD), place_n)

    def best(self, hidden_nD: Any) -> tuple[Any, Any]:
        """[n] float32 and [n] int32: the likeliest word's log-probability, and its place in the bin."""
        score_nC = self.scores(hidden_nD)
        place_n = ops.argmax(score_nC, axis=-1)
        return -_nats(score_nC, place_n), place_n


class AdaptiveScores:
    """The logits of shortlist and clusters at some places, and what is asked of them and of the tails.

    log p(word of a tail) = log p(its cluster) + log p(word | its cluster).
    """

    def __init__(self, score_NS: Any, tails: list[Tail], hidden_ND: Any, shape: Any):
        """shape [...] is that of the places, all of which are N."""
        self.score_NS, self.tails, self.hidden_ND, self.shape = score_NS, tails, hidden_ND, shape

    def logits(self) -> Any:
        """[..., V] float32: the log-probability of every word."""
        words, *cluster_N1 = self._log_chances()
        of_tails = zip(cluster_N1, self.tails, strict=True)
        found = [words, *(each + ops.log_softmax(tail.scores(self.hidden_ND)) for each, tail in of_tails)]
        log_NV: Any = ops.concatenate(found, axis=-1)
        return ops.reshape(log_NV, (*self.shape, log_NV.shape[-1]))

    def loss(self, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
        """The weighted sum of the cross-entropies in nats, a float32 scalar; a tail reads its own words' places."""
        assert not smoothing, "labels are smoothed for an encoder's decoder, which has no vocabulary in bins"
        target_N, weight_N = ops.reshape(target, (-1,)), ops.reshape(weight, (-1,))
        first_N, of_tails = target_N, []  # what is wanted of the first softmax: the word, or its cluster
        for column, tail in enumerate(self.tails, self.tails[0].bin.first):
            inside_N = _inside(target_N, tail.bin)
            first_N = ops.where(inside_N, column, first_N)
            counts_N = ops.logical_and(inside_N, weight_N != 0)
            nats_N = for_chosen(tail.nats, counts_N, self.hidden_ND, _within(target_N, tail.bin))
            of_tails.append(ops.sum(weight_N * nats_N))
        return cross_entropy(self.score_NS, first_N, weight_N) + sum(of_tails)

    def likeliest(self) -> Any:
        """[...] int32: the most probable word. A tail is only read where its cluster is likelier than any word so far,
        for no word is likelier than its cluster."""
        words, *cluster_N1 = self._log_chances()
        best_N, word_N = ops.max(words, axis=-1), ops.argmax(words, axis=-1)
        for each_N1, tail in zip(cluster_N1, self.tails, strict=True):
            cluster_N = each_N1[:, 0]
            # where the tail is not read, `given` is 0: the cluster itself is compared, and loses
            given_N, place_N = for_chosen(tail.best, cluster_N > best_N, self.hidden_ND)
            better_N = cluster_N + given_N > best_N
            best_N = ops.where(better_N, cluster_N + given_N, best_N)
            word_N = ops.where(better_N, tail.bin.first + place_N, word_N)
        return ops.reshape(word_N, self.shape)

    def _log_chances(self) -> list[Any]:
        """Log-probabilities: of the shortlist's words, [N, words], then of each cluster, [N, 1]."""
        first = self.tails[0].bin.first
        found: Any = ops.split(ops.log_softmax(self.score_NS), [*range(first, first + len(self.tails))], axis=-1)
        return found


class AdaptiveHead(Part):
    """Scores by bins. The tables are the embedding's, and so are the tails' projections; the shortlist has its own."""

    def __init__(self, model: Model, vocab_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.model, self.vocab_size = model, vocab_size
        shortlist, *self.tails = bins(model, vocab_size)
        self.clusters = Clusters(len(self.tails), shortlist.width, dtype=self.dtype_policy)
        self.projection = None
        if model.div_val > 1:
            self.projection = Linear(model.width, shortlist.width, bias=False, init_std=0.0, dtype=self.dtype_policy)
        self.bias = self.weight((vocab_size,), "zeros") if model.head_bias else None

    def scores(self, hidden: Any, token: Embedding | AdaptiveEmbedding) -> AdaptiveScores:
        """What is asked of hidden states [..., D]; token: the embedding that lends its tables."""
        cutoffs = list(self.model.cutoffs)
        biases: Any = ops.split(ops.zeros(self.vocab_size) if self.bias is None else self.bias, cutoffs)
        if isinstance(token, AdaptiveEmbedding):
            tables: Any = [self.lowered(each.table) for each in token.tables]
            projections = [self.lowered(each.kernel) for each in token.projections]
        else:
            tables, projections = ops.split(self.lowered(token.table), cutoffs), [None] * len(biases)
        table_SW: Any = ops.concatenate([tables[0], self.lowered(self.clusters.table)])
        bias_S: Any = ops.concatenate([biases[0], self.clusters.bias])
        tails = [Tail(*each) for each in zip(self.tails, tables[1:], biases[1:], projections[1:], strict=True)]
        hidden_ND = self.lowered(ops.reshape(hidden, (-1, self.model.width)))
        x_NW = hidden_ND if self.projection is None else self.projection(hidden_ND)
        score_NS = float32(matmul_transposed(x_NW, table_SW)) + bias_S
        return AdaptiveScores(score_NS, tails, hidden_ND, sizes(hidden)[:-1])
