"""Where heads look: the maps are what the network computed, and the picture shows them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shrunk import shrunk

from zoo import cli
from zoo.corpus.vocabulary import train
from zoo.errors import UserError
from zoo.objective import Vocab
from zoo.report.attention import attention_maps
from zoo.report.attention_picture import MOST_TOKENS, Map, draw
from zoo.train.start import Learner
from zoo.use.loaded import Loaded
from zoo.visibility import visible

SIZE, SHAPE = 300, {"width": 35, "heads": 5, "layers": 3}
ALONE = ("gpt2-small", "bert-base", "xlnet-base")
SPECIALS = {role: f"<{role}>" for role in ("cls", "sep", "mask", "pad", "eod")}


def loaded(name: str, **sections) -> Loaded:
    """A shrunk recipe with random weights that reads bytes."""
    encodes = name == "transformer-base"
    specials = {role: f"<{role}>" for role in ("bos", "eod", "pad")} if encodes else SPECIALS
    recipe = shrunk(name, {**SHAPE, **({"encoder_layers": 2} if encodes else {})}).with_changes(
        tokenizer={"kind": "bytes", "size": SIZE, "specials": specials, "lowercase": False}, **sections
    )
    tokenizer = train(recipe.tokenizer, [])
    source = train(recipe.source_tokenizer, []) if recipe.source_tokenizer else None
    learner = Learner(recipe, Vocab(SIZE, tokenizer.size, tokenizer.special), "float32")
    draws = np.random.default_rng(0)
    learner.set_weights({name: draws.normal(0, 0.3, w.shape) for name, w in learner.weights.items()})
    return Loaded(recipe, tokenizer, learner, source_tokenizer=source)


@pytest.fixture(scope="module", params=ALONE)
def alone(request) -> Loaded:
    return loaded(request.param)


@pytest.fixture(scope="module")
def pair() -> Loaded:
    own = {"kind": "bytes", "size": 307, "specials": {"pad": "<pad>", "eod": "<end>"}}
    return loaded("transformer-base", source_tokenizer=own)


@pytest.fixture
def told(monkeypatch):
    """Every pass of a network from here on: what it read and what it gave."""
    from zoo.network.network import Network

    passes, plain = [], Network.read

    def read(network, stream, source=None, noise=None):
        hidden = plain(network, stream, source, noise)
        passes.append((stream, source, np.asarray(hidden)))
        return hidden

    monkeypatch.setattr(Network, "read", read)
    return passes


def check(found: Map, see: np.ndarray, layers: int) -> None:
    """A row is shared out among the keys that its query sees, and they alone have some."""
    assert found.share.shape == (layers, SHAPE["heads"], *see.shape)
    assert found.share.shape[2:] == (len(found.queries), len(found.keys))
    assert found.share.dtype == np.float32
    assert (found.share[..., ~see] == 0).all()
    assert (found.share[..., see] > 0).all()
    np.testing.assert_allclose(np.where(see, found.share, 0).sum(-1), 1, atol=1e-5)


def unwatched(model: Loaded) -> bool:
    blocks = [*model.network.blocks, *model.network.encoder_blocks]
    layers = [layer for block in blocks for layer in (block.attend, block.cross) if layer is not None]
    return not any("call" in vars(layer) for layer in layers)


def test_a_model_alone_has_maps_of_itself(alone, told):
    maps = attention_maps(alone, "to be")
    ((stream, source, hidden),) = told
    assert list(maps) == ["self"]
    assert source is None
    check(maps["self"], visible(stream, stream)[0], 3)
    assert "".join(maps["self"].queries).strip("<>deoclsp") == "to b"
    assert maps["self"].queries == maps["self"].keys == alone.tokenizer.tokens(stream.token[0])
    np.testing.assert_array_equal(hidden, alone.hidden(stream.token))
    assert unwatched(alone)


def test_texts_are_framed_as_in_training():
    tokens = {name: attention_maps(loaded(name), "ab")["self"].queries for name in ALONE}
    assert tokens["gpt2-small"] == ["<eod>", "a", "b"]
    assert tokens["bert-base"] == ["<cls>", "a", "b", "<sep>"]
    assert tokens["xlnet-base"][-3:-1] == ["a", "b"]


def test_an_encoder_decoder_has_maps_of_three_kinds(pair, told):
    maps = attention_maps(pair, "a man", "ein Mann")
    ((stream, source, hidden),) = told
    assert list(maps) == ["encoder", "decoder", "cross"]
    check(maps["encoder"], visible(source, source)[0], 2)
    check(maps["decoder"], visible(stream, stream)[0], 3)
    check(maps["cross"], visible(stream, source)[0], 3)
    assert maps["cross"].keys == maps["encoder"].keys == [*"a man", "<end>"]
    assert maps["cross"].queries == maps["decoder"].keys == ["<bos>", *"ein Mann"]
    assert unwatched(pair)
    np.testing.assert_array_equal(hidden, np.asarray(pair.network.read(stream, source)))


def test_shares_of_known_weights(pair):
    """Where queries are zero, every key that is seen gets the same."""
    for block in pair.network.blocks:
        for weight in (block.attend.q.kernel, block.attend.q.bias, block.cross.q.kernel, block.cross.q.bias):
            if weight is not None:
                weight.assign(np.zeros(weight.shape))
    maps = attention_maps(pair, "abcd", "xy")
    np.testing.assert_allclose(maps["cross"].share, 1 / 5, rtol=1e-6)
    np.testing.assert_allclose(maps["decoder"].share[0, 0], [[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3] * 3], rtol=1e-6)


def test_without_a_target_the_model_s_own_translation_is_read(pair, monkeypatch):
    monkeypatch.setattr(Loaded, "translate", lambda self, texts: [text.upper() for text in texts])
    assert attention_maps(pair, "ab")["decoder"].keys == ["<bos>", "A", "B"]


def test_a_failure_leaves_the_layers_as_they_were(alone, monkeypatch):
    last = alone.network.blocks[-1].inner
    monkeypatch.setattr(type(last), "call", lambda *streams, **settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attention_maps(alone, "to be")
    assert unwatched(alone)


def test_texts_that_cannot_be_read_are_refused(pair):
    gpt = loaded("gpt2-small")
    with pytest.raises(UserError, match="no encoder: it reads one text, and no target 'b'"):
        attention_maps(gpt, "a", "b")
    for model in (gpt, pair):
        with pytest.raises(UserError, match="'' has no token"):
            attention_maps(model, "")
        with pytest.raises(UserError, match=r"at most 24|more than model\.context 24"):
            attention_maps(model, "a" * 24)
    with pytest.raises(UserError, match=r"25 tokens a row are more than model\.context 24"):
        attention_maps(pair, "a", "b" * 24)


# --- pictures


def maps(heads: int, queries: list[str], keys: list[str]) -> dict[str, Map]:
    share = np.full((2, heads, len(queries), len(keys)), 1 / len(keys), np.float32)
    return {"decoder": Map(share, queries, keys), "cross": Map(share, queries, keys)}


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def test_more_heads_make_a_larger_picture(tmp_path):
    sizes = []
    for heads in (1, 5, 12):
        draw(maps(heads, ["a", "b"], ["c", "d", "e"]), tmp_path / "a.png", title="a model")
        sizes.append(pixels(tmp_path / "a.png").size)
    # One map is drawn larger than one of several.
    assert sizes[1] < sizes[2]
    draw(maps(12, ["a", "b"], ["c", "d", "e"]), tmp_path / "a.png", head=12)
    assert pixels(tmp_path / "a.png").size < sizes[2]


def test_the_chosen_map_is_drawn(tmp_path):
    """Full attention is dark, none is light; what was not asked for is not there."""
    dark = (8, 48, 107)  # the upper end of the colours
    found = maps(5, ["a", "b"], ["c", "d"])
    found["decoder"].share[:] = 0
    found["decoder"].share[0, 3] = 1
    counts = {}
    for layer, head in ((1, 4), (1, 3), (2, 4)):
        draw(found, tmp_path / "a.png", kind="decoder", layer=layer, head=head)
        counts[layer, head] = (pixels(tmp_path / "a.png") == dark).all(-1).mean()
    assert counts[1, 4] > 0.3
    assert counts[1, 3] < 0.01 > counts[2, 4]


AWKWARD = ["", " ", "$x$", "\n", "\\xe2", "\u4e2d", "\U0001f600", "\u202e", "\ud800", "{", "longer " * 9, "\u2581a"]


@pytest.mark.parametrize("heads, keys", [(1, 1), (3, 12), (7, 2)])
def test_any_tokens_can_be_drawn(tmp_path, heads, keys):
    """Whatever a tokenizer holds: dollars, line ends, signs that no font has. A warning would be an error."""
    draw(maps(heads, AWKWARD, AWKWARD[:keys] * 9), tmp_path / "a.png", title="$\\frac{")
    assert pixels(tmp_path / "a.png").std() > 1


def test_what_is_not_there_is_refused(tmp_path):
    found = maps(5, ["a"], ["b", "c"])
    for asked, message in (
        ({"kind": "encoder"}, "no attention of the kind 'encoder' here; did you mean 'decoder'?"),
        ({"kind": "x"}, "no attention of the kind 'x' here; allowed: cross, decoder"),
        ({"layer": 3}, "there is no layer 3 of cross attention; allowed: 1 to 2"),
        ({"head": 0}, "there is no head 0 of cross attention; allowed: 1 to 5"),
        ({"head": 6, "kind": "decoder"}, "there is no head 6 of decoder attention; allowed: 1 to 5"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            draw(found, tmp_path / "a.png", **asked)
    with pytest.raises(UserError, match="129 tokens are too many for a picture; at most 128"):
        draw(maps(1, ["a"], ["b"] * (MOST_TOKENS + 1)), tmp_path / "a.png")
    with pytest.raises(UserError, match=r"cannot be written to .*No such file"):
        draw(found, tmp_path / "nowhere" / "a.png")
    assert not list(tmp_path.iterdir())


# --- the command


def test_the_command_tells_where_the_picture_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["attention", "gpt2-nano", "--source", "We must act."]) == 0
    assert capsys.readouterr().out == "attention.png\n"
    assert pixels(tmp_path / "attention.png").std() > 1
    assert cli.run(["attention", "gpt2-nano", "--source", "We", "--kind", "cross", "--out", "b.png"]) == 2
    assert capsys.readouterr().err == "zoo: there is no attention of the kind 'cross' here; allowed: self\n"
    assert not (tmp_path / "b.png").exists()
