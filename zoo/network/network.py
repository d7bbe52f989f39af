"""The one network: an embedding, blocks, a head, and an encoder where the model has one.

What a batch asks of it is in the batch alone. Shapes: B rows, T tokens a row, S tokens of the source, P predicted
places a row, D width, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import ops

from zoo.batch import Stream
from zoo.errors import UserError
from zoo.kernels.random import RowNoise, drop
from zoo.kernels.rerun import Remat, rerun
from zoo.network.adaptive import AdaptiveHead, AdaptiveScores
from zoo.network.attention import Keys
from zoo.network.block import Block
from zoo.network.cache import Cache
from zoo.network.embedding import Embed
from zoo.network.heads import Head, Scores
from zoo.network.initial import initialize
from zoo.network.layers import Norm, Part, float32, sizes
from zoo.network.past import Past, Reach
from zoo.network.positions import distances, sinusoid
from zoo.sections import Model
from zoo.visibility import visible

POLICY = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class Network(Part):
    """The network of a recipe, its weights drawn from (seed, name); at zero where seed is None."""

    def __init__(
        self,
        model: Model,
        vocab_size: int,
        compute_dtype: str = "float32",
        *,
        source_size: int | None = None,
        seed: int | None = 0,
        remat: Remat = False,
    ):
        """source_size: of the encoder's own vocabulary; None = both sides share the table of token embeddings. remat:
        what blocks keep for the way back, as of zoo/kernels/rerun.py; False = all of it.
        """
        super().__init__(dtype=keras.DTypePolicy(POLICY[compute_dtype]))
        self.model, self.vocab_size = model, vocab_size
        self.remat: Remat = remat
        policy = self.dtype_policy
        relative = model.positions == "relative"

        def block(cross: bool) -> Block:
            return Block(
                model.width,
                model.heads,
                model.inner_width,
                cross=cross,
                norm=model.norm,
                norm_epsilon=model.norm_epsilon,
                activation=model.activation,
                attention_bias=model.attention_bias,
                relative=relative,
                biases=biases,
                segments=relative and model.segments > 0,
                dropout=model.dropout,
                attention_dropout=model.attention_dropout,
                inner_dropout=model.inner_dropout,
                init_std=0.0,
                dtype=policy,
            )

        def final_norm() -> Norm | None:
            return Norm(model.width, epsilon=model.norm_epsilon, dtype=policy) if model.norm == "pre" else None

        self.embed = Embed(model, vocab_size, dtype=policy)
        self.source_embed = Embed(model, source_size, dtype=policy) if source_size else None
        biases = None
        if model.tied_biases:
            per_head = (model.heads, model.head_width)
            biases = self.weight(per_head, "zeros"), self.weight(per_head, "zeros")
            self.content_bias, self.position_bias = biases
        self.encoder_blocks = [block(cross=False) for _ in range(model.encoder_layers)]
        self.encoder_norm = final_norm() if model.encoder_layers else None
        self.blocks = [block(cross=model.encoder_layers > 0) for _ in range(model.layers)]
        self.final_norm = final_norm()
        self.head: Any = (AdaptiveHead if model.cutoffs else Head)(model, vocab_size, dtype=policy)
        if seed is not None:
            initialize(self, model, seed)

    def read(
        self,
        stream: Stream,
        source: Stream | None = None,
        noise: RowNoise | None = None,
        past: Past | None = None,
        *,
        causal: bool = False,
        one_document: bool = False,
    ) -> Any:
        """Hidden states of a stream, [B, T, D] float32; a model with an encoder reads the source too.

        past: what the rows go on from; None = they go on from nothing. causal: by its ranks no token of the stream sees
        one behind it, so that such pairs need not be computed. one_document: a row is one, with padding behind it, and
        its tokens see all of it, or all before them.
        """
        if (source is not None) != bool(self.encoder_blocks):
            has = (
                "an encoder, and the objective made no"
                if self.encoder_blocks
                else "no encoder, and the objective made a"
            )
            raise UserError(f"this network has {has} source for it")
        seen = None if source is None else (self.encode(source, noise), visible(stream, source))
        past = past or Past(Reach.of(self.model))
        x_BTD = self._through(
            self.blocks, stream, self.embed(stream, noise=noise), past, noise, seen, causal, one_document
        )
        return self._finish(x_BTD, noise)

    def encode(self, source: Stream, noise: RowNoise | None = None) -> Any:
        """What the decoder attends to: hidden states of the source, [B, S, D] float32."""
        noise = noise and noise.under("source")
        embed = self.source_embed or self.embed
        x_BSD = self._through(self.encoder_blocks, source, embed(source, noise=noise), Past(Reach()), noise)
        return x_BSD if self.encoder_norm is None else self.encoder_norm(x_BSD)

    def states(self, stream: Stream, *, causal: bool = False) -> list[Any]:
        """What enters the first block, and what each block gives: [B, T, D] float32 each.

        Where there is an encoder, they are its own. The last are those of `read` (or `encode`). causal: as of `read`.
        """
        blocks, embed, norm, reach = self.blocks, self.embed, self.final_norm, Reach.of(self.model)
        if self.encoder_blocks:
            blocks, embed, norm, reach = self.encoder_blocks, self.source_embed or embed, self.encoder_norm, Reach()
        kept = [embed(stream)]
        self._through(blocks, stream, kept[0], Past(reach), None, causal=causal, kept=kept)
        return kept if norm is None else [*kept[:-1], norm(kept[-1])]

    def _through(
        self,
        blocks: list[Block],
        stream: Stream,
        x_BTD: Any,
        past: Past,
        noise: RowNoise | None,
        seen: tuple[Any, Any] | None = None,
        causal: bool = False,
        one_document: bool = False,
        kept: list[Any] | None = None,
    ) -> Any:
        """The residual stream after these blocks; seen: the encoded source [B, S, D], and who sees it [B, T, S].

        kept: is given what comes out of each block.
        """
        see_BTK, other_BTK = past.see(stream, visible(stream, stream)), self._other(stream, stream, past)
        table_RD = self._distances(sizes(stream.token)[1], past, noise)
        encoded_BSD, see_source_BTS = seen or (None, None)
        length_B: Any = ops.sum(ops.cast(stream.doc > 0, "int32"), axis=-1) if one_document else None

        def through(index: int, noise: RowNoise | None, x_BTD: Any, before_BKD: Any, encoded_BSD: Any) -> Any:
            block = blocks[index]
            return block(
                x_BTD,
                see_BTK,
                None if before_BKD is None else block.keys(before_BKD, table_RD, past.backward_B),
                source=None if encoded_BSD is None else block.source_keys(encoded_BSD),
                see_source_BQS=see_source_BTS,
                table_RD=table_RD,
                other_BQK=other_BTK,
                causal=causal,
                length_B=length_B,
                noise=noise and noise.under(f"blocks.{index}"),
            )

        for index in range(len(blocks)):
            before_BKD = None if past.plain else past.before(index, x_BTD)
            x_BTD = self._run(partial(through, index), noise, x_BTD, before_BKD, encoded_BSD)
            if kept is not None:
                kept.append(x_BTD)
        return x_BTD

    def _run(self, function: Callable[..., Any], noise: RowNoise | None, x: Any, *others: Any) -> Any:
        """`function` of noise, x and the others; where blocks are run again, all that gradients flow to is in these."""
        if not self.remat or noise is None:
            return function(noise, x, *others)
        given = [other for other in others if other is not None]

        def again(x: Any, *given: Any) -> Any:
            rest = iter(given)
            return function(noise.after(x), x, *(None if other is None else next(rest) for other in others))

        return rerun(again, self.remat)(x, *given)

    def read_blind(
        self, stream: Stream, at_BP: Any, blank_D: Any, noise: RowNoise | None = None, past: Past | None = None
    ) -> Any:
        """Hidden states at the places `at` of readers that know the place but not its token, [B, P, D] float32.

        Two-stream attention (Yang et al. 2019, section 2.3): the blind stream starts as `blank`, shares every weight,
        and reads the stream's tokens of lower rank than its place.
        """
        past = past or Past(Reach.of(self.model))
        query = Stream(*(take_places(field, at_BP) for field in stream))
        blind = noise and noise.under("blind")
        x_BTD = self.embed(stream, noise=noise)
        start = ops.broadcast_to(float32(blank_D), (*sizes(at_BP), self.model.width))
        g_BPD = self.embed(query, start, noise=blind)
        see_BTK, other_BTK = past.see(stream, visible(stream, stream)), self._other(stream, stream, past)
        below_BPK = past.see(query, visible(query, stream, strict=True), at_BP)
        other_BPK = self._other(query, stream, past)
        table_RD = self._distances(sizes(stream.token)[1], past, noise)

        def through(index: int, noise: RowNoise | None, x_BTD: Any, g_BPD: Any, before_BKD: Any) -> tuple[Any, Any]:
            block, site = self.blocks[index], f"blocks.{index}"
            keys = block.keys(before_BKD, table_RD, past.backward_B)
            seen_by_blind = {"other_BQK": other_BPK, "at_BP": at_BP}
            g_BPD = block(g_BPD, below_BPK, keys, **seen_by_blind, noise=noise and noise.under("blind").under(site))
            if index + 1 < len(self.blocks):  # nobody reads what the last block makes of the stream
                x_BTD = block(x_BTD, see_BTK, keys, other_BQK=other_BTK, noise=noise and noise.under(site))
            return x_BTD, g_BPD

        for index in range(len(self.blocks)):
            x_BTD, g_BPD = self._run(partial(through, index), noise, x_BTD, g_BPD, past.before(index, x_BTD))
        return self._finish(g_BPD, blind)

    def extend(
        self,
        stream: Stream,
        see_BNC: Any,
        cache: Cache,
        slots: Any = None,
        source: list[Keys] | None = None,
        see_source_BNS: Any = None,
    ) -> Any:
        """Hidden states of N tokens that come after those in the cache, [B, N, D] float32; then it holds them too.

        see [B, N, C]: which slots they may attend to; slots: their own, as in Cache.extended; source:
        what each block's `source_keys` made of the encoded source, and which of its tokens are seen.
        """
        x_BND = self.embed(stream)
        table_RD, at_BN = None, None
        if self.model.positions == "relative":
            past = Past(Reach.of(self.model))  # all that came before is in the cache
            table_RD = self._distances(see_BNC.shape[2], past)
            slot_N: Any = ops.arange(stream.token.shape[1])
            at_BN = ops.broadcast_to(slot_N if slots is None else slots + slot_N, sizes(stream.token))
            see_BNC = past.see(stream, see_BNC, at_BN)
        for index, block in enumerate(self.blocks):
            keys = cache.extended(index, block.keys(x_BND, table_RD), slots)
            found = None if source is None else source[index]
            x_BND = block(x_BND, see_BNC, keys, source=found, see_source_BQS=see_source_BNS, at_BP=at_BN)
        return self._finish(x_BND, None)

    def logits(self, hidden: Any) -> Any:
        """[..., D] -> [..., V] float32; of a vocabulary in bins they are log-probabilities."""
        return self.head.scores(hidden, self.embed.token).logits()

    def scores(self, hidden: Any) -> Scores | AdaptiveScores:
        """What the head makes of hidden states [..., D], for whoever asks for a loss or the likeliest words.

        The rows of positions are scored too where the model has it so, as if they followed the tokens'.
        """
        if not self.model.head_positions or self.embed.position is None:
            return self.head.scores(hidden, self.embed.token)
        return self.head.over(hidden, ops.concatenate([self.embed.token.table, self.embed.position.table]))

    def _other(self, query: Stream, key: Stream, past: Past) -> Any:
        """[B, Q, K] bool: two tokens of different segments, where scores depend on it."""
        if self.model.positions != "relative" or not self.model.segments:
            return None
        return ops.not_equal(query.segment[:, :, None], past.segments(key)[:, None, :])

    def _distances(self, length: int, past: Past, noise: RowNoise | None = None) -> Any:
        """[R, D] float32: the table of relative positions in rows of that length, for all layers; [2, R, D] where some
        rows run backwards.

        Unlike the XLNet release, whose table is tiled before dropout, all rows share one draw, as in Transformer-XL:
        else every row would project a table of its own.
        """
        if self.model.positions != "relative":
            return None
        distance_R: Any = distances(length, past.length + length)
        if past.reach.clamp is not None:
            distance_R = ops.clip(distance_R, -past.reach.clamp, past.reach.clamp)
        if past.backward_B is not None:
            distance_R = ops.stack([distance_R, -distance_R])
        table_RD = sinusoid(distance_R, self.model.width)
        return drop(table_RD, self.model.dropout, noise and noise.shared(), "distances")

    def _finish(self, x: Any, noise: RowNoise | None) -> Any:
        x = x if self.final_norm is None else self.final_norm(x)
        return drop(x, self.model.final_dropout, noise, "final")


def take_places(field: Any, at_BP: Any) -> Any:
    """The rows `at` of [B, T] or [B, T, D]: [B, P] or [B, P, D]."""
    rows, length = sizes(field)[:2]
    start_B1: Any = ops.reshape(ops.arange(rows), (-1, 1))
    flat = ops.reshape(field, (rows * length, *field.shape[2:]))
    return ops.take(flat, at_BP + start_B1 * length, axis=0)
