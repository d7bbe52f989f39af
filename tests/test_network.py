"""The network as a whole: what depends on what, names and shapes, precision, initialisation, dropout."""

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.batch import Places, Stream
from zoo.errors import UserError
from zoo.kernels.random import RowNoise
from zoo.network import adaptive, block, heads, layers
from zoo.network.attention import Attention
from zoo.network.block import Block, Decoder, Encoder, FeedForward
from zoo.network.initial import draw
from zoo.network.layers import Embedding, Linear, Norm, Part
from zoo.network.names import named_weights
from zoo.network.network import Network
from zoo.network.reader import Reader
from zoo.network.shapes import shapes
from zoo.registry import recipe, recipes
from zoo.sections import Model
from zoo.visibility import visible

B, T, D, H, V, P = 3, 7, 10, 2, 31, 4
GPT2 = Model(width=D, layers=2, heads=H, context=T, dropout=0.1, attention_dropout=0.1)
BERT = GPT2.model_copy(
    update={"norm": "post", "embedding_norm": True, "segments": 2, "head_transform": True, "head_bias": True}
)
XLNET = GPT2.model_copy(
    update={"norm": "post", "positions": "relative", "segments": 2, "attention_bias": False, "head_bias": True}
    | {"inner_dropout": 0.1, "final_dropout": 0.1, "inner": 13}
)
FIRST = GPT2.model_copy(update={"positions": "sinusoidal", "activation": "relu", "norm": "post"})
TRANSFORMER = FIRST.model_copy(update={"encoder_layers": 3, "attention_bias": False, "embedding_scale": True})
PRE = GPT2.model_copy(update={"encoder_layers": 1})
ADAPTIVE = XLNET.model_copy(update={"tied_biases": True, "cutoffs": (5, 6, 20), "div_val": 2})  # bins of 10, 5, 2, 1
MODELS = {"gpt2": GPT2, "bert": BERT, "xlnet": XLNET, "first": FIRST, "adaptive": ADAPTIVE}
ENCODER_DECODERS = {"transformer": TRANSFORMER, "pre-norm": PRE}
noise = np.random.Generator(np.random.Philox(4))


def network(model: Model, compute_dtype: str = "float32") -> Network:
    """With weights far from their start, biases too, so that everything that can depend on something does."""
    built = Network(model, V, compute_dtype)
    generator = np.random.Generator(np.random.Philox(5))
    for weight in named_weights(built).values():
        weight.assign_add(generator.standard_normal(weight.shape).astype(np.float32) * 0.3)
    return built


def stream(rank: np.ndarray, doc: np.ndarray | None = None) -> Stream:
    """Random tokens and segments; positions count from the start of every document."""
    docs = np.ones_like(rank) if doc is None else doc
    place = np.broadcast_to(np.arange(rank.shape[1]), rank.shape)
    start = np.maximum.accumulate(np.where(np.diff(docs, axis=1, prepend=-1) != 0, place, 0), axis=1)
    draw = lambda high: noise.integers(0, high, rank.shape).astype(np.int32)  # noqa: E731
    return Stream(draw(V), docs.astype(np.int32), (place - start).astype(np.int32), draw(2), rank.astype(np.int32))


def causal() -> Stream:
    return stream(np.tile(np.arange(T), (B, 1)))


def permuted() -> tuple[Stream, np.ndarray]:
    """P places a row in a random order, the rest context; and where they are."""
    rank = np.full((B, T), -1)
    at = np.stack([noise.permutation(T)[:P] for _ in range(B)]).astype(np.int32)
    np.put_along_axis(rank, at, np.arange(P)[None], axis=1)
    return stream(rank), at


def rows(row: Stream, which: Any) -> Stream:
    return Stream(*(field[which] for field in row))


# --- dependence


def moved(read: Any, row: Stream) -> np.ndarray:
    """[B, Q, T] bool: does the state at q change when the token at k does? The whole Jacobian, by pushing."""
    states = np.asarray(read(row))
    result = []
    for k in range(T):
        token = row.token.copy()
        token[:, k] = (token[:, k] + 1) % V
        result.append((np.asarray(read(row._replace(token=token))) != states).any(axis=-1))
    return np.stack(result, axis=-1)


DOCS = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 2, 0, 0]])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rule", ["causal", "full", "permutation"])
def test_dependence_is_visibility(name: str, rule: str) -> None:
    """Through all layers: a state depends on what `visible` says and, by the residual stream, on its own token."""
    ranks = {"causal": np.tile(np.arange(T), (B, 1)), "full": np.zeros((B, T)), "permutation": permuted()[0].rank}
    row = stream(ranks[rule], DOCS)
    assert np.array_equal(moved(network(MODELS[name]).read, row), visible(row, row) | np.eye(T, dtype=bool))


@pytest.mark.parametrize("name", ["gpt2", "xlnet"])
def test_blind_dependence_is_strict_visibility(name: str) -> None:
    """A blind state depends on what is of lower rank than its place, and never on its own token."""
    (row, at), built = permuted(), network(MODELS[name])
    row = row._replace(doc=DOCS.astype(np.int32))
    below = np.take_along_axis(visible(row, row, strict=True), at[:, :, None], axis=1)
    assert np.array_equal(moved(lambda row: built.read_blind(row, at, tf.ones([D])), row), below)


def test_dependence_in_gradients() -> None:
    """The same by differentiation, from the states back to what the blocks were given."""
    built, row = network(GPT2), causal()
    x = tf.Variable(built.embed(row))
    with tf.GradientTape() as tape:
        y = x
        for each in built.blocks:
            y = each(y, visible(row, row))
    jacobian = tape.jacobian(y, x).numpy()  # [B, T, D, B, T, D]
    reach = np.abs(jacobian).max(axis=(2, 5)) > 0
    assert np.array_equal(reach, np.eye(B, dtype=bool)[:, None, :, None] & np.tri(T, dtype=bool)[None, :, None, :])


def test_decoder_reads_its_source() -> None:
    """Cross-attention: every decoder token reads the visible source, and nothing of the rest."""
    decoder = Decoder(2, D, H, 13, init_std=0.3)
    x, source = noise.standard_normal((B, T, D)), noise.standard_normal((B, 5, D))
    target = causal()
    ahead = stream(np.zeros((B, 5)), np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]))
    see, see_source = visible(target, target), visible(target, ahead)
    read = lambda source: np.asarray(decoder(x, see, source, see_source))  # noqa: E731
    for k in range(5):
        changed = source.copy()
        changed[:, k] += 1
        assert np.array_equal((read(source) != read(changed)).any(axis=-1), see_source[:, :, k])


# --- rows


def states(built: Network, row: Stream, first: int = 0, at: np.ndarray | None = None) -> np.ndarray:
    """With dropout, as the rows from `first` on of an update."""
    key = RowNoise(0, 1, first)
    if at is None:
        return np.asarray(built.read(row, noise=key))
    return np.asarray(built.read_blind(row, at, tf.ones([D]), key))


@pytest.mark.parametrize("name", MODELS)
def test_a_row_does_not_know_its_batch(name: str) -> None:
    built, (row, at) = network(MODELS[name]), permuted()
    for which in (None, at):
        together = states(built, row, at=which)
        for b in range(B):
            alone = states(built, rows(row, slice(b, b + 1)), b, None if which is None else which[b : b + 1])
            assert np.allclose(alone[0], together[b], atol=1e-5)
        assert not np.allclose(states(built, row, 1, which), together, atol=1e-2)


@pytest.mark.parametrize("name", MODELS)
def test_a_document_does_not_know_what_it_is_packed_behind(name: str) -> None:
    built = network(MODELS[name])
    packed = stream(np.tile(np.arange(T), (B, 1)), np.tile([1, 1, 1, 2, 2, 2, 2], (B, 1)))
    alone = Stream(*(field[:, 3:] for field in packed))
    assert np.allclose(np.asarray(built.read(alone)), np.asarray(built.read(packed))[:, 3:], atol=1e-5)


# --- dropout


def test_dropout_is_in_all_its_places() -> None:
    """Each rate alone changes the states; the same key gives the same ones, without noise all rates are 0."""
    row, at = permuted()
    rates = ("dropout", "attention_dropout", "inner_dropout", "final_dropout")
    none = XLNET.model_copy(update=dict.fromkeys(rates, 0.0) | {"layers": 1})

    def quiet(built: Network, read_at: Any) -> np.ndarray:
        return np.asarray(built.read(row) if read_at is None else built.read_blind(row, read_at, tf.ones([D])))

    for read_at in (None, at):
        calm, still = states(network(none), row, at=read_at), quiet(network(none), read_at)
        np.testing.assert_allclose(calm, still, rtol=1e-5, atol=1e-6)  # tiles add up in another order
        for rate in rates:
            built = network(none.model_copy(update={rate: 0.2}))
            assert not np.allclose(states(built, row, at=read_at), calm), rate
            assert np.array_equal(states(built, row, at=read_at), states(built, row, at=read_at))
            assert np.array_equal(quiet(built, read_at), still)


def test_dropout_sites_are_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two draws of one pass share their bits."""
    sites: list[str] = []
    plain = RowNoise.keep

    def spy(self: RowNoise, shape: Any, rate: float, site: str) -> Any:
        sites.append(self.site + site)
        return plain(self, shape, rate, site)

    monkeypatch.setattr(RowNoise, "keep", spy)
    (row, at), built = permuted(), network(XLNET)
    states(built, row, at=at)
    # two embeddings, the distances, four in each pass through a layer (the last one only by the blind), the end
    assert len(sites) == len(set(sites)) == 2 + 1 + 3 * 4 + 1


# --- names and shapes


@pytest.mark.parametrize("name", recipes())
def test_shapes_are_those_of_the_network(name: str) -> None:
    published = recipe(name).model
    small = {"width": 12, "heads": 2, "layers": 2, "context": 7, "encoder_layers": min(3, published.encoder_layers)}
    bins = {"cutoffs": (5, 6, 20), "div_val": min(2, published.div_val)} if published.cutoffs else {}
    model = published.model_copy(update=small | bins | {"inner": None if published.inner is None else 13})
    assert shapes(model, V) == {name: tuple(w.shape) for name, w in named_weights(Network(model, V)).items()}


@pytest.mark.parametrize("model", [*MODELS.values(), *ENCODER_DECODERS.values()], ids=[*MODELS, *ENCODER_DECODERS])
def test_shapes_of_every_kind(model: Model) -> None:
    built = Network(model, V)
    assert shapes(model, V) == {name: tuple(w.shape) for name, w in named_weights(built).items()}
    assert len(built.trainable_variables) == len(named_weights(built))


def test_a_source_may_have_a_table_of_its_own() -> None:
    built = Network(TRANSFORMER, V, source_size=11)
    assert shapes(TRANSFORMER, V, 11) == {name: tuple(w.shape) for name, w in named_weights(built).items()}
    assert built.source_embed is not None
    assert built.source_embed.token.table.shape == (11, D)


PUBLISHED = {  # heads included, without the objective's own layers
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt": 116_534_784,
    "bert-base": 110_106_428 - (768 * 768 + 768) - (768 * 2 + 2),  # less pooler and next-sentence classifier
    "bert-large": 336_226_108 - (1024 * 1024 + 1024) - (1024 * 2 + 2),
    # tables and head bias, then 12 layers: 5 projections, 3 score biases and 2 segments, inner, 2 norms
    "xlnet-base": 32_000 * 769 + 12 * (5 * 768**2 + 5 * 768 + 2 * 768 * 3072 + 3072 + 768 + 4 * 768),
    # one table of 37,000; 6 blocks of encoder, 6 of decoder with one attention and one norm more
    "transformer-base": 37_000 * 512
    + 12 * (4 * 512**2 + 2 * 512 * 2048 + 2048 + 512 + 4 * 512)
    + 6 * (4 * 512**2 + 2 * 512),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    wanted = recipe(name)
    assert sum(map(math.prod, shapes(wanted.model, wanted.tokenizer.size).values())) == PUBLISHED[name]


def test_names_are_paths() -> None:
    names = set(named_weights(Network(XLNET, V)))
    assert {"embed.token.table", "blocks.1.attend.q.kernel", "blocks.0.attend.position_bias", "head.bias"} <= names
    assert {"blocks.0.attend_norm.scale", "blocks.1.inner.down.bias"} <= names
    assert {"final_norm.bias", "embed.position.table"} <= set(named_weights(Network(GPT2, V)))


def test_a_shared_weight_has_one_name() -> None:
    pair: Any = Part()
    pair.one, pair.both = Linear(2, 3), []
    pair.both = [pair.one, Linear(3, 2, bias=False)]
    assert list(named_weights(pair)) == ["one.kernel", "one.bias", "both.1.kernel"]


# --- precision


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The operands of the vocabulary matmuls."""
    found: list[tuple[Any, Any]] = []
    plain = heads.matmul_transposed
    for module in (heads, adaptive):
        monkeypatch.setattr(module, "matmul_transposed", lambda x, y: found.append((x, y)) or plain(x, y))
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_matmuls_have_the_compute_dtype_and_nothing_else(
    name: str, compute_dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operands, built, row = spied(monkeypatch), network(MODELS[name], compute_dtype), causal()
    linear: list[str] = []
    plain = layers.ops.matmul
    monkeypatch.setattr(layers.ops, "matmul", lambda x, y: linear.extend([x.dtype.name, y.dtype.name]) or plain(x, y))
    hidden = built.read(row)
    assert hidden.dtype == "float32"
    assert built.logits(hidden).dtype == "float32"
    assert {x.dtype.name for pair in operands for x in pair} == {compute_dtype}
    assert set(linear) == {compute_dtype}
    assert {w.dtype for w in named_weights(built).values()} == {"float32"}
    assert not monkeypatch.undo()


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_close_to_float32(name: str) -> None:
    row, at = permuted()
    exact, rough = network(MODELS[name]), network(MODELS[name], "bfloat16")
    for read in (lambda built: built.read(row), lambda built: built.read_blind(row, at, tf.ones([D]))):
        one, other = (np.asarray(built.logits(read(built))) for built in (exact, rough))
        assert 1e-5 < np.abs(one - other).max() / np.abs(one).max() < 0.05


def test_a_global_policy_changes_nothing() -> None:
    """Neither a user's default precision nor a model around the layers casts their weights."""
    row = causal()
    expected = np.asarray(network(GPT2).read(row))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert np.array_equal(np.asarray(network(GPT2).read(row)), expected)
        inputs = keras.Input((T, D))
        encoder = Encoder(1, D, H)
        around = keras.Model(inputs, encoder(inputs))
        assert encoder.blocks[0].inner.up.compute_dtype == "bfloat16"
        assert around(np.ones((B, T, D), np.float32)).dtype == "float32"
        seen: list[str] = []
        plain = layers.Norm.call
        layers.Norm.call = lambda self, x: seen.append(tf.convert_to_tensor(self.scale).dtype.name) or plain(self, x)
        try:
            around(np.ones((B, T, D), np.float32))
        finally:
            layers.Norm.call = plain
        assert set(seen) == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)


# --- losses


@pytest.mark.parametrize("name", MODELS)
def test_only_places_reach_the_vocabulary(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operands, built, row = spied(monkeypatch), network(MODELS[name]), causal()
    at = np.stack([noise.permutation(T)[:P] for _ in range(B)]).astype(np.int32)
    target = noise.integers(0, V, (B, P)).astype(np.int32)
    weight = np.array(noise.random((B, P)), np.float32)
    reader = Reader(built)
    total = reader.token_loss(reader.read(row, at=at), Places(at, target, weight))
    assert operands[0][0].shape == (B * P, D)
    chance = -np.log(np.asarray(keras.ops.softmax(built.logits(built.read(row)))))
    each = chance[np.arange(B)[:, None], at, target]
    assert float(total) == pytest.approx(np.sum(each * weight), rel=1e-5)


def test_a_source_needs_an_encoder() -> None:
    with pytest.raises(UserError, match="no encoder"):
        network(GPT2).read(causal(), causal())


@pytest.mark.parametrize("model", ENCODER_DECODERS.values(), ids=ENCODER_DECODERS)
def test_an_encoder_decoder_is_an_encoder_and_a_decoder(model: Model) -> None:
    """Built of the public stacks, given the same weights."""
    whole = network(model)
    given = {"norm": model.norm, "norm_epsilon": model.norm_epsilon, "activation": model.activation}
    given["attention_bias"] = model.attention_bias
    encoder = Encoder(model.encoder_layers, D, model.heads, model.inner_width, **given)
    decoder = Decoder(model.layers, D, model.heads, model.inner_width, **given)
    for stack, blocks, norm in (
        (encoder, whole.encoder_blocks, whole.encoder_norm),
        (decoder, whole.blocks, whole.final_norm),
    ):
        theirs = [named_weights(part) for part in (*blocks, *([] if norm is None else [norm]))]
        ours = [named_weights(part) for part in (*stack.blocks, *([] if norm is None else [stack.final_norm]))]
        for mine, other in zip(ours, theirs, strict=True):
            for name, weight in mine.items():
                weight.assign(other[name])
    stream, source = causal(), causal()
    source = source._replace(rank=np.zeros_like(source.rank), token=source.token[:, ::-1])
    read = encoder(whole.embed(source), visible(source, source))
    expected = decoder(whole.embed(stream), visible(stream, stream), read, visible(stream, source))
    np.testing.assert_allclose(np.asarray(whole.read(stream, source)), np.asarray(expected), atol=1e-5)


def test_a_network_gets_the_source_it_needs_and_no_other() -> None:
    with pytest.raises(UserError, match="has an encoder, and the objective made no source"):
        network(TRANSFORMER).read(causal())


def test_scaled_embeddings() -> None:
    plain, scaled = (network(FIRST.model_copy(update={"embedding_scale": scale})) for scale in (False, True))
    stream = causal()
    table = np.asarray(plain.embed.token(stream.token))
    difference = np.asarray(scaled.embed(stream)) - np.asarray(plain.embed(stream))
    np.testing.assert_allclose(difference, table * (math.sqrt(D) - 1), atol=1e-5)


# --- the start


def test_xavier_uniform_is_of_matrices_alone() -> None:
    model = TRANSFORMER.model_copy(update={"init": "xavier_uniform", "init_std": 0.3, "width": 64, "heads": 2})
    for name, weight in named_weights(Network(model, 997)).items():
        values = np.asarray(weight)
        if name.endswith(".kernel"):
            reach = math.sqrt(6 / sum(values.shape))
            assert 0.97 * reach < np.abs(values).max() <= reach
            assert abs(values.std() - reach / math.sqrt(3)) < 0.05 * reach
        elif name.endswith(".table"):
            assert abs(values.std() - 0.3) < 0.01


def test_weights_are_a_function_of_seed_and_name() -> None:
    first, again, other = (named_weights(Network(GPT2, V, seed=seed)) for seed in (1, 1, 2))
    for name, weight in first.items():
        assert np.array_equal(weight, again[name])
        drawn = not name.endswith((".bias", ".scale"))
        assert np.array_equal(weight, other[name]) != drawn, name
    kernels = [np.asarray(w).tobytes() for name, w in first.items() if name.endswith("kernel")]
    assert len(set(kernels)) == len(kernels)


def test_the_start_as_published() -> None:
    """GPT-2: tokens 0.02, positions 0.01, projections into the residual stream over sqrt(2 x layers)."""
    model = recipe("gpt2-small").model
    deviation = {
        "embed.token.table": 0.02,
        "embed.position.table": 0.01,
        "blocks.7.attend.q.kernel": 0.02,
        "blocks.7.attend.out.kernel": 0.02 / math.sqrt(24),
        "blocks.7.inner.up.kernel": 0.02,
        "blocks.7.inner.down.kernel": 0.02 / math.sqrt(24),
    }
    for name, std in deviation.items():
        drawn = draw(model, 0, name, (300, 400))
        assert drawn.dtype == np.float32
        assert drawn.std() == pytest.approx(std, rel=0.02)
        assert abs(drawn.mean()) < 5 * std / math.sqrt(drawn.size)
        assert np.abs(drawn).max() > 3 * std
    assert np.array_equal(draw(model, 0, "blocks.0.attend_norm.scale", (5,)), np.ones(5))
    assert not draw(model, 0, "blocks.0.attend.q.bias", (5,)).any()


def test_a_truncated_start() -> None:
    """BERT: cut at two deviations, what lies beyond drawn again: 0.88 of the deviation is left."""
    drawn = draw(recipe("bert-base").model, 0, "head.transform.kernel", (300, 400))
    assert np.abs(drawn).max() <= 0.04
    assert drawn.std() == pytest.approx(0.02 * 0.8796, rel=0.02)


def test_xlnet_s_score_biases_are_drawn() -> None:
    for name in ("content_bias", "position_bias", "segment_bias", "segment"):
        drawn = draw(recipe("xlnet-base").model, 0, f"blocks.0.attend.{name}", (12, 64))
        assert drawn.std() == pytest.approx(0.02, rel=0.1)


# --- the blocks as Keras layers


BLOCKS: list[Part] = [
    Linear(D, 13, bias=False),
    Norm(D, epsilon=1e-3),
    Embedding(V, D, init_std=0.5),
    Attention(D, H, bias=False, relative=True, segments=True, dropout=0.1),
    FeedForward(D, 13, activation="relu", dropout=0.2),
    Block(D, H, 13, cross=True, norm="post", norm_epsilon=1e-12, activation="gelu", dropout=0.1),
    Encoder(2, D, H, 13, norm="post", relative=True, attention_bias=False, dtype="mixed_bfloat16"),
    Decoder(2, D, H, name="mine", attention_dropout=0.1),
]


@pytest.mark.parametrize("layer", BLOCKS, ids=lambda layer: type(layer).__name__)
def test_a_layer_comes_back_from_its_config(layer: Part) -> None:
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert twin.get_config() == layer.get_config()
    assert twin.name == layer.name
    assert twin.compute_dtype == layer.compute_dtype
    weights = {name: weight.shape for name, weight in named_weights(layer).items()}
    assert {name: weight.shape for name, weight in named_weights(twin).items()} == weights


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras with NumPy 2
def test_a_model_of_blocks_can_be_saved(tmp_path: Path) -> None:
    x, source = keras.Input((None, D)), keras.Input((None, D))
    model = keras.Model([x, source], Decoder(1, D, H, relative=True)(x, None, source))
    model.save(tmp_path / "model.keras")
    given = [noise.standard_normal((B, length, D)) for length in (T, 5)]
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(np.asarray(model(given)), np.asarray(loaded(given)))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_activations(activation: Any) -> None:
    x = np.linspace(-4, 4, 41, dtype=np.float32)
    tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    erf = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
    expected = {"gelu": erf, "gelu_tanh": tanh, "relu": np.maximum(x, 0), "silu": x / (1 + np.exp(-x))}[activation]
    assert np.allclose(np.asarray(block.activate(tf.constant(x), activation)), expected, atol=1e-6)


@pytest.mark.slow
def test_the_example() -> None:
    file = Path(__file__).parents[1] / "examples" / "own_model.py"
    spec = importlib.util.spec_from_file_location("own_model", file)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert re.search(r"python examples/own_model\.py", example.__doc__ or "")
    assert example.main() > 0.9
