"""What an objective gets to read with: the network, its own layers, and the noise of this pass."""

from typing import Any

import keras
from keras import ops

from zoo.batch import Places, Stream
from zoo.kernels.random import RowNoise
from zoo.network.layers import float32
from zoo.network.network import Network, take_places
from zoo.network.past import Past


class Reader:
    """A network bound to one pass; `layers` is what the objective's `build` returned, noise None means no dropout.

    past: what the rows of the pass go on from; None = nothing. causal: by its ranks no token of a stream sees one
    behind it, as an objective says of all its batches (`Objective.visibility`). one_document: as of `Network.read`.
    """

    def __init__(
        self,
        network: Network,
        layers: keras.layers.Layer | None = None,
        noise: RowNoise | None = None,
        past: Past | None = None,
        *,
        causal: bool = False,
        one_document: bool = False,
    ):
        self.causal, self.one_document = causal, one_document
        self.network, self.layers, self.noise, self.past = network, layers, noise, past
        self.right: Any = 0.0  # in evaluation: the weighted number of tokens that scored highest where they were wanted

    def read(self, stream: Stream, source: Stream | None = None, at: Any = None) -> Any:
        """Hidden states, [B, T, D] float32, or [B, P, D] at the places `at`."""
        hidden = self.network.read(
            stream, source, self.noise, self.past, causal=self.causal, one_document=self.one_document
        )
        return hidden if at is None else take_places(hidden, at)

    def read_blind(self, stream: Stream, at: Any, blank: Any) -> Any:
        """Hidden states at the places `at` that did not see their token, [B, P, D] float32.

        blank [D]: what they start from, a weight of the objective's own.
        """
        return self.network.read_blind(stream, at, blank, self.noise, self.past)

    def logits(self, hidden: Any) -> Any:
        """[..., D] -> [..., V] float32."""
        return self.network.logits(hidden)

    def token_loss(self, hidden: Any, places: Places, smoothing: float = 0.0) -> Any:
        """The weighted sum of the cross-entropies of `places.target` in nats, a float32 scalar.

        smoothing: of the labels, while training; a loss that is evaluated is a likelihood.
        """
        scores = self.network.scores(hidden)
        if self.noise is not None:
            return scores.loss(places.target, places.weight, smoothing)
        hit = ops.equal(scores.likeliest(), ops.cast(places.target, "int32"))
        self.right += ops.sum(float32(hit) * places.weight)
        return scores.loss(places.target, places.weight)
