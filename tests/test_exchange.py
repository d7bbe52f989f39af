"""Folders of transformers, without that library: what is written is read back, what is wrong is named."""

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from zoo import accounting, cli
from zoo.corpus.vocabulary import train
from zoo.errors import UserError
from zoo.exchange import tokenizer
from zoo.exchange.family import Tensor
from zoo.exchange.folder import FAMILIES, write
from zoo.registry import recipe, recipes
from zoo.saved import Saved, open_saved
from zoo.schema import Recipe
from zoo.train.run import to_yaml

LIKE = {"gpt2": "gpt2-small", "openai-gpt": "gpt", "bert": "bert-base", "xlnet": "xlnet-base"}
LIKE |= {"marian": "transformer-base"}
TWO = {"source_tokenizer": {"kind": "bytes", "size": 300, "specials": {"eod": "<end>", "pad": "<blank>"}}}
SIZES = {"width": 10, "layers": 2, "heads": 2, "inner": 14, "context": 11}


def small(name: str, **changes: Any) -> Recipe:
    shape = SIZES | ({"inner": None} if name == "gpt" else {})  # whose class has no other
    sizes = {"model": shape, "tokenizer": {"size": 400}, "data": {"row_tokens": 11}, "train": {"tokens_per_update": 22}}
    sizes["data"] |= {"reuse": 4} if recipe(name).data.reuse else {}
    return recipe(name, **sizes).with_changes(**changes)


def saved(found: Recipe, text: Path | None = None, **facts: Any) -> Saved:
    draw = np.random.default_rng(0)
    shapes = accounting.weights(found)
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return Saved("here", found, {} if text is None else {"tokenizer": text}, weights, {"origin": "trained", **facts})


def written(family: str, folder: Path) -> Path:
    write(saved(small(LIKE[family])), folder)
    return folder


def edited(folder: Path, **changes: Any) -> None:
    """Changes config.json; None takes a key out."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def rearranged(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Changes model.safetensors."""
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


def equal(one: Any, other: Any) -> bool:
    same = one.keys() == other.keys()
    return same and all(np.asarray(one[name]).tobytes() == np.asarray(other[name]).tobytes() for name in one)


# --- the law of one array


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 4), st.booleans())
def test_parts_of_what_was_made_are_what_it_was_made_of(widths: list[int], rows: int, transposed: bool) -> None:
    draw = np.random.default_rng(0)
    weights = {f"w{n}": draw.normal(size=(rows, width)) for n, width in enumerate(widths)}
    turned = (sum(widths), rows) if transposed else (rows, sum(widths))
    tensor = Tensor("theirs", (1, *turned), tuple(weights), transposed)
    array = tensor.made(weights)
    assert array.shape == tensor.shape
    shapes = {name: value.shape for name, value in weights.items()}
    assert all((tensor.part(name, array, shapes) == value).all() for name, value in weights.items())


GONE = [name for name in recipes() if name.startswith("transformer-xl")]  # whose class transformers has no more


@pytest.mark.parametrize("name", GONE)
def test_what_no_class_computes_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class of transformers computes here"):
        write(Saved("here", recipe(name), {}, {}, {}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted({*recipes()} - {*GONE}))
def test_every_weight_of_a_recipe_has_its_place(name: str) -> None:
    found = recipe(name)
    (family,) = [one for one in FAMILIES.values() if not one.mismatches(found)]
    tensors, shapes = family.tensors(found), accounting.weights(found)
    assert sorted(part for one in tensors for part in one.ours) == sorted(shapes)
    assert len({one.theirs for one in tensors}) == len(tensors)
    zeros = accounting.count(one.shape for one in tensors if not one.ours)
    assert accounting.count(one.shape for one in tensors) - zeros == accounting.params(found)


# --- there and back


@pytest.mark.parametrize(
    "name, changes",
    [
        ("gpt2-small", {}),
        ("gpt2-small", {"model": {"activation": "relu", "inner": None}}),
        ("gpt", {}),
        ("gpt", {"model": {"activation": "silu"}}),
        ("bert-base", {}),
        ("bert-base", {"objective": {"next_sentence": False}, "model": {"segments": 1}}),
        ("xlnet-base", {}),
        ("xlnet-base", {"model": {"segments": 0}}),
        ("transformer-base", {}),
        ("transformer-base", {"model": {"attention_bias": True, "head_bias": True, "embedding_scale": False}}),
        ("transformer-base", TWO),
    ],
)
def test_there_and_back_to_the_bit(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    first = saved(small(name, **changes))
    write(first, tmp_path / "one")
    second = open_saved(tmp_path / "one")
    assert equal(first.weights, second.weights)
    lost = {"context"} if name.startswith("xlnet") else set()  # which only a tokenizer's settings tell
    assert first.recipe.model.model_dump(exclude=lost) == second.recipe.model.model_dump(exclude=lost)
    assert (first.recipe.objective, second.recipe.name) == (second.recipe.objective, "one")
    assert first.recipe.source_size == second.recipe.source_size
    write(second, tmp_path / "two")
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def halved(found: Saved, folder: Path) -> dict[str, np.ndarray]:
    import ml_dtypes

    weights = {name: value.astype(ml_dtypes.bfloat16) for name, value in found.weights.items()}
    write(found._replace(weights=weights), folder)
    return weights


def test_halved_precision_is_kept(tmp_path: Path) -> None:
    assert equal(halved(saved(small("gpt2-small")), tmp_path / "out"), open_saved(tmp_path / "out").weights)
    # Whoever loads it computes in float32, as `zoo.load` does.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


def test_a_tokenizer_goes_with_it(tmp_path: Path, zoo_home: Path) -> None:
    specials = {"eod": "<end>", "pad": "<p>", "cls": "<c>", "sep": "<s>", "mask": "<m>"}
    for name in (LIKE["gpt2"], LIKE["bert"], LIKE["xlnet"]):
        spec = {"kind": "bytes_bpe", "specials": specials, "lowercase": False}
        found = small(name, tokenizer=spec)
        (tmp_path / "t.json").write_text(train(found.tokenizer, ["the old dog ran home"]).json())
        write(saved(found, tmp_path / "t.json"), tmp_path / name)
        back = open_saved(tmp_path / name)
        assert back.recipe.tokenizer == found.tokenizer
        assert list(back.recipe.tokenizer.specials) == list(specials)
        assert back.recipe.model.context == 11
        assert back.tokenizer == tmp_path / name / "tokenizer.json"
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert [config[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [0, 0, 1]
        # Of the three, only XLNet's users expect a frame that its rows did not have in training.
        assert ("add_special_tokens=False" in (tmp_path / name / "README.md").read_text()) is name.startswith("xlnet")


@pytest.mark.parametrize("two", [False, True], ids=["one vocabulary", "two vocabularies"])
def test_the_tokenizers_of_a_marian(two: bool, tmp_path: Path) -> None:
    private = {"test": "/home/somebody/test.tsv"}
    found = small("transformer-base", tokenizer={"kind": "bytes"}, data=private, **(TWO if two else {}))
    files = {"tokenizer": tmp_path / "t.json"} | ({"source_tokenizer": tmp_path / "s.json"} if two else {})
    for section, file in files.items():
        file.write_text(train(getattr(found, section), []).json())
    write(saved(found)._replace(tokenizers=files), tmp_path / "one")

    names = {"tokenizer": "target_tokenizer.json" if two else "tokenizer.json"}
    names |= {"source_tokenizer": "tokenizer.json"} if two else {}
    for section, name in names.items():  # a text ends as it did in training; the rest is as it was
        text, specials = json.loads((tmp_path / "one" / name).read_text()), getattr(found, section).specials
        assert text.pop("post_processor")["single"][1]["SpecialToken"]["id"] == specials["eod"]
        assert text == {key: value for key, value in json.loads(files[section].read_text()).items() if key in text}
    assert (tmp_path / "one" / "target_tokenizer_config.json").exists() is two
    config, generation = (
        json.loads((tmp_path / "one" / name).read_text()) for name in ("config.json", "generation_config.json")
    )
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
    assert {key: config[key] for key in ids} == ids == {key: generation[key] for key in ids}
    assert config["forced_eos_token_id"] is None
    assert (config["vocab_size"], config["decoder_vocab_size"]) == (300 if two else 400, 400)
    assert (generation["suppress_tokens"], generation["max_length"]) == ([2, 0], 11)

    back = open_saved(tmp_path / "one")
    assert back.tokenizers == {section: tmp_path / "one" / name for section, name in names.items()}
    assert (back.recipe.tokenizer, back.recipe.source_tokenizer) == (found.tokenizer, found.source_tokenizer)
    write(back, tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        if file.name != "README.md":
            assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    card = (tmp_path / "one" / "README.md").read_text()
    assert "6 + 2 layers" in card
    assert ("target_tokenizer.json" in card) is two
    assert "somebody" not in card
    assert "add_special_tokens" not in card


def test_the_card_says_what_is_known_and_nothing_of_the_machine(tmp_path: Path) -> None:
    private = {"corpus": "/home/somebody/secret/books.txt", "valid": "/home/somebody/valid.txt"}
    found = small("gpt2-small", data=private)
    facts = {"step": 7, "tokens": 1234, "commit": None, "corpus": {"documents": 3, "tokens": 5678, "bytes": 9}}
    facts |= {"valid": {"step": 7, "split": "valid", "loss": 3.25, "bits_per_byte": 1.5}}
    write(saved(found, **facts), tmp_path / "card-of-mine")
    text = (tmp_path / "card-of-mine" / "README.md").read_text()
    for part in ("# card-of-mine", "books.txt (3 documents, 5,678 tokens, 9 bytes)", "1,234 tokens in 7 updates"):
        assert part in text
    assert "| validation: bits per byte | 1.5 |" in text
    assert "somebody" not in text
    assert "commit" not in text
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "transformers",
        "tags": ["objective-zoo", "causal"],
        "pipeline_tag": "text-generation",
    }
    block = body.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "again.yaml").write_text(block)
    again = recipe(tmp_path / "again.yaml").with_changes(data=private)
    assert to_yaml(again).partition("\n")[2] == to_yaml(found).partition("\n")[2]


def test_a_converted_card_claims_no_training(tmp_path: Path, zoo_home: Path) -> None:
    write(saved(small("bert-base")), tmp_path / "one")
    (tmp_path / "one" / "README.md").write_text("---\nlicense: mit\nlanguage:\n- de\n---\n# Ein BERT\n")
    write(open_saved(tmp_path / "one")._replace(facts={"origin": "hf:some/bert", "license": "mit"}), tmp_path / "two")
    text = (tmp_path / "two" / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n", 2)[1])["base_model"] == "some/bert"
    assert "## Training" not in text
    assert open_saved(tmp_path / "one").facts["license"] == "mit"
    headers = ("[", "license: [mit]\n---\n", "- list\n---\n", "", 9999 * "[" + "\n---\n")
    for broken in ("no header", *(f"---\n{header}" for header in headers)):
        (tmp_path / "one" / "README.md").write_text(broken)
        assert "license" not in open_saved(tmp_path / "one").facts


# --- what others wrote


def as_published_gpt2(arrays: dict[str, np.ndarray]) -> None:
    """openai-community/gpt2: no prefix, a buffer for each layer, the head once more."""
    for name in list(arrays):
        arrays[name.removeprefix("transformer.")] = arrays.pop(name)
    arrays["h.1.attn.bias"] = np.tril(np.ones((1, 1, 11, 11), np.float32))
    arrays["h.1.attn.masked_bias"] = np.array(-1e4, np.float32)
    arrays["lm_head.weight"] = arrays["wte.weight"].copy()


def as_published_gpt(arrays: dict[str, np.ndarray]) -> None:
    """openai-community/openai-gpt, and what transformers 4 saved beside its weights."""
    for name in list(arrays):
        arrays[name.removeprefix("transformer.")] = arrays.pop(name)
    arrays["h.0.attn.bias"] = np.tril(np.ones((1, 1, 11, 11), np.float32))
    arrays["position_ids"] = np.arange(11)
    arrays["lm_head.weight"] = arrays["tokens_embed.weight"].copy()


def as_published_bert(arrays: dict[str, np.ndarray]) -> None:
    """google-bert/bert-base-uncased: TensorFlow's names of norms, both tied arrays, numbered positions."""
    for name in list(arrays):
        arrays[name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")] = arrays.pop(name)
    arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"].copy()
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"].copy()
    arrays["bert.embeddings.position_ids"] = np.arange(11)[None]


def with_the_other_of_two(arrays: dict[str, np.ndarray]) -> None:
    """The head was kept and the embedding it is tied to was not."""
    arrays["lm_loss.weight"] = arrays.pop("transformer.word_embedding.weight")


def as_older_marian(arrays: dict[str, np.ndarray]) -> None:
    """As every name of the shared table was kept, and the sinusoids."""
    for name in ("lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens"):
        arrays[f"{name}.weight"] = arrays["model.shared.weight"].copy()
    arrays["model.encoder.embed_positions.weight"] = np.ones((11, 10), np.float32)


@pytest.mark.parametrize(
    "family, change",
    [
        ("gpt2", as_published_gpt2),
        ("openai-gpt", as_published_gpt),
        ("bert", as_published_bert),
        ("xlnet", with_the_other_of_two),
        ("marian", as_older_marian),
    ],
)
def test_older_names_are_understood(family: str, change: Any, tmp_path: Path) -> None:
    before = dict(open_saved(written(family, tmp_path / "out")).weights)
    rearranged(tmp_path / "out", change)
    after = open_saved(tmp_path / "out")
    assert equal(before, after.weights)
    assert after.absent == frozenset()


def test_an_encoder_without_its_heads(tmp_path: Path) -> None:
    for name, kept in (("pooled", ("pooler.",)), ("bare", ())):
        write(saved(small("bert-base")), tmp_path / name)
        gone = ("cls.", "bert.pooler.") if not kept else ("cls.",)

        def bare(arrays: dict[str, np.ndarray], gone: tuple[str, ...] = gone) -> None:
            for key in list(arrays):
                value = arrays.pop(key)
                if not key.startswith(gone):
                    arrays[key.removeprefix("bert.")] = value

        rearranged(tmp_path / name, bare)
        found = open_saved(tmp_path / name)
        assert found.recipe.objective["next_sentence"] is bool(kept)
        assert "head.bias" in found.absent
        assert ("objective.pooler.kernel" in found.weights) is bool(kept)
        assert write(found, tmp_path / f"{name} again") == "BertModel"
        again = tmp_path / f"{name} again" / "model.safetensors"
        assert equal(load_file(tmp_path / name / "model.safetensors"), load_file(again))


def test_a_pooler_that_nothing_classifies_with_is_left_out(tmp_path: Path) -> None:
    def drop(arrays: dict[str, np.ndarray]) -> None:
        del arrays["cls.seq_relationship.weight"], arrays["cls.seq_relationship.bias"]

    rearranged(written("bert", tmp_path / "out"), drop)
    assert open_saved(tmp_path / "out").recipe.objective["next_sentence"] is False


def in_two_files(folder: Path) -> dict[str, str]:
    """Cuts model.safetensors in two; returns which array is where."""
    arrays = load_file(folder / "model.safetensors")
    names = sorted(arrays)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: arrays[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return places


def test_weights_in_several_files(tmp_path: Path) -> None:
    before = dict(open_saved(written("xlnet", tmp_path / "out")).weights)
    places = in_two_files(tmp_path / "out")
    assert equal(before, open_saved(tmp_path / "out").weights)
    (tmp_path / "out" / places["lm_loss.bias"]).unlink()
    with pytest.raises(UserError, match=r"has no model-0000\d-of-00002.safetensors, which .*index.json names"):
        open_saved(tmp_path / "out")


def test_rows_of_a_longer_context_are_those_of_the_like(tmp_path: Path) -> None:
    edited(written("marian", tmp_path / "out"), max_position_embeddings=1024)
    found = open_saved(tmp_path / "out").recipe
    assert (found.model.context, found.row_tokens, found.train.tokens_per_update) == (1024, 256, 98 * 256)
    assert found.data.rows == "parallel"


def test_a_class_without_a_key_for_it_needs_the_usual_inner_width() -> None:
    family, changes = FAMILIES["openai-gpt"], {"inner": 14, "activation": "gelu"}
    assert family.mismatches(small("gpt")) == []
    assert family.mismatches(small("gpt", model={"head_positions": False})) == []  # a matter of the loss
    assert family.mismatches(small("gpt", model=changes)) == [
        "model.inner None (it is 14)",
        "model.activation 'gelu_tanh' or 'relu' or 'silu' (it is 'gelu')",
    ]


# --- what cannot be


@pytest.mark.parametrize(
    "name, changes, parts",
    [
        ("bert-base", {"objective": {"name": "causal"}}, ["BertForMaskedLM", "objective.name 'masked'", "'causal'"]),
        ("gpt2-small", {"model": {"positions": "sinusoidal"}}, ["GPT2LMHeadModel", "model.positions 'learned'"]),
        ("gpt2-small", {"model": {"norm": "post", "head_bias": True}}, ["model.norm 'pre'", "model.head_bias False"]),
        ("bert-base", {"model": {"segments": 0}}, ["BertForPreTraining", "model.segments 1 or more (it is 0)"]),
        ("gpt", {"model": {"inner": 14, "embedding_norm": True}}, ["GPT2LMHeadModel", "model.norm 'pre'"]),
        ("gpt", {"model": {"embedding_scale": True, "norm_epsilon": 1e-6}}, ["model.embedding_scale False"]),
        ("xlnet-base", {"model": {"attention_bias": True}}, ["XLNetLMHeadModel", "model.attention_bias False"]),
        ("gpt2-small", {"model": {"embedding_scale": True}}, ["GPT2LMHeadModel", "model.embedding_scale False"]),
        ("gpt2-small", {"model": {"cutoffs": [5]}}, ["GPT2LMHeadModel", "model.cutoffs () (it is (5,))"]),
        ("xlnet-base", {"model": {"tied_biases": True}}, ["XLNetLMHeadModel", "model.tied_biases False"]),
        ("transformer-base", {"model": {"norm": "pre"}}, ["MarianMTModel", "model.norm 'post' (it is 'pre')"]),
        ("transformer-base", {"model": {"norm_epsilon": 1e-6}}, ["model.norm_epsilon 1e-05 (it is 1e-06)"]),
        ("transformer-base", {"model": {"positions": "learned"}}, ["model.positions 'sinusoidal'"]),
        ("transformer-base", {"model": {"embedding_norm": True}}, ["model.embedding_norm False"]),
        ("transformer-base", {"model": {"head_transform": True}}, ["model.head_transform False"]),
        ("transformer-base", {"model": {"segments": 2}}, ["model.segments 0 (it is 2)"]),
    ],
)
def test_what_no_class_computes_is_named(name: str, changes: Any, parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        write(saved(small(name, **changes)), tmp_path / "out")
    for part in ("no class of transformers computes here", *parts):
        assert part in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "family, changes, parts",
    [
        ("gpt2", {"model_type": "gpt_2"}, ["model_type is 'gpt_2'", "did you mean 'gpt2'"]),
        ("gpt2", {"model_type": "llama"}, ["model_type is 'llama'", "allowed: bert, gpt2, marian, openai-gpt, xlnet"]),
        ("gpt2", {"model_type": None}, ["model_type is 'None'"]),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx is True"]),
        ("gpt2", {"activation_function": "mish"}, ["activation_function is 'mish'", "gelu_new"]),
        ("gpt2", {"tie_word_embeddings": False}, ["tie_word_embeddings is False"]),
        ("gpt2", {"auto_map": {"AutoModel": "code.Model"}}, ["auto_map is {'AutoModel': 'code.Model'}"]),
        ("gpt2", {"quantization_config": {"bits": 4}}, ["quantization_config"]),
        ("gpt2", {"n_embd": "ten"}, ["n_embd is 'ten'", "a whole number"]),
        ("gpt2", {"n_embd": 10**15, "n_head": 7}, ["n_embd is 1000000000000000", "up to"]),
        ("gpt2", {"n_layer": 10**7}, ["n_layer is 10000000", "28 arrays"]),
        ("gpt2", {"n_layer": 3}, ["missing transformer.h.2.attn.c_attn.bias", "4 more"]),
        ("gpt2", {"n_head": 3}, ["heads 3 do not divide width 10"]),
        ("gpt2", {"layer_norm_epsilon": float("inf")}, ["norm_epsilon is inf"]),
        ("gpt2", {"layer_norm_epsilon": 10**400}, ["norm_epsilon"]),
        ("gpt2", {"resid_pdrop": True}, ["resid_pdrop is True", "a number"]),
        ("openai-gpt", {"afn": "gelu_new"}, ["afn is 'gelu_new'; the zoo has gelu, relu, silu, swish"]),
        ("openai-gpt", {"n_layer": 3}, ["missing transformer.h.2.attn.c_attn.bias"]),
        ("bert", {"position_embedding_type": "relative_key"}, ["position_embedding_type is 'relative_key'"]),
        ("bert", {"is_decoder": True}, ["is_decoder is True"]),
        ("bert", {"vocab_size": 99}, ["bert.embeddings.word_embeddings.weight is [400, 10] and must be [99, 10]"]),
        ("xlnet", {"attn_type": "uni"}, ["attn_type is 'uni'", "'bi' alone"]),
        ("xlnet", {"clamp_len": 8}, ["clamp_len is 8"]),
        ("xlnet", {"d_model": 20, "n_head": 2}, ["must be [20, 2, 10]"]),
        ("marian", {"is_encoder_decoder": False}, ["is_encoder_decoder is False", "True alone"]),
        ("marian", {"activation_function": "quick_gelu"}, ["activation_function is 'quick_gelu'", "swish"]),
        ("marian", {"normalize_before": True}, ["normalize_before is True"]),
        ("marian", {"encoder_ffn_dim": 28}, ["encoder_ffn_dim is 28 and decoder_ffn_dim 14"]),
        ("marian", {"decoder_attention_heads": 1}, ["encoder_attention_heads is 2 and decoder_attention_heads 1"]),
        ("marian", {"encoder_layers": 10**7}, ["encoder_layers is 10000000", "arrays"]),
        ("marian", {"encoder_layers": 0}, ["model.encoder_layers is 0"]),
        ("marian", {"scale_embedding": 1}, ["scale_embedding is 1", "true or false"]),
        ("marian", {"share_encoder_decoder_embeddings": False}, ["missing model.decoder.embed_tokens.weight"]),
        ("marian", {"tie_word_embeddings": False}, ["tie_word_embeddings is False"]),
    ],
)
def test_a_config_that_is_not_computed_names_its_key(
    family: str, changes: Any, parts: list[str], tmp_path: Path
) -> None:
    edited(written(family, tmp_path / "out"), **changes)
    if changes.get("tie_word_embeddings") is False:
        rearranged(tmp_path / "out", lambda arrays: arrays.update({"lm_head.weight": np.ones((400, 10), np.float32)}))
    with pytest.raises(UserError) as refused:
        open_saved(tmp_path / "out")
    for part in parts:
        assert part in str(refused.value)


def test_arrays_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        del arrays["transformer.wpe.weight"]
        arrays["score.weight"] = np.ones((2, 10), np.float32)
        arrays["transformer.ln_f.bias"] = np.ones(9, np.float32)

    rearranged(written("gpt2", tmp_path / "out"), change)
    with pytest.raises(UserError) as refused:
        open_saved(tmp_path / "out")
    for part in (
        "missing transformer.wpe.weight",
        "extra score.weight",
        "ln_f.bias is [9] and must be [10]",
    ):
        assert part in str(refused.value)


def test_tied_arrays_must_be_equal(tmp_path: Path) -> None:
    rearranged(written("gpt2", tmp_path / "out"), as_published_gpt2)
    rearranged(tmp_path / "out", lambda arrays: arrays["lm_head.weight"].__setitem__((0, 0), 7))
    with pytest.raises(UserError, match=r"lm_head.weight differs from transformer.wte.weight"):
        open_saved(tmp_path / "out")


def test_an_array_under_two_names(tmp_path: Path) -> None:
    def twice(arrays: dict[str, np.ndarray]) -> None:
        arrays["wte.weight"] = arrays["transformer.wte.weight"] + 1

    rearranged(written("gpt2", tmp_path / "out"), twice)
    with pytest.raises(UserError, match=r"transformer.wte.weight twice: as transformer.wte.weight and as wte.weight"):
        open_saved(tmp_path / "out")


@pytest.mark.parametrize("place", ["../out/model-00001-of-00002.safetensors", "/etc/passwd", "..", "a/b", ""])
def test_names_in_an_index_cannot_leave_the_folder(place: str, tmp_path: Path) -> None:
    in_two_files(written("gpt2", tmp_path / "out"))
    index = tmp_path / "out" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"transformer.wte.weight": place}}))
    with pytest.raises(UserError, match="leads out of the folder"):
        open_saved(tmp_path / "out")


@pytest.mark.parametrize("place", ["elsewhere.safetensors", "a\0b", "\ud800", 300 * "x", "circle"])
def test_files_that_an_index_makes_up(place: str, tmp_path: Path) -> None:
    in_two_files(written("gpt2", tmp_path / "out"))
    (tmp_path / "out" / "circle").symlink_to("circle")
    index = tmp_path / "out" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"transformer.wte.weight": place}}))
    with pytest.raises(UserError, match=r"has no .*, which model.safetensors.index.json names"):
        open_saved(tmp_path / "out")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "README.md"])
def test_links_cannot_leave_the_folder(name: str, tmp_path: Path, zoo_home: Path) -> None:
    folder = written("gpt2", tmp_path / "out")
    (tmp_path / "elsewhere").write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../elsewhere")
    with pytest.raises(UserError, match=f"'{name}' leads out of the folder"):
        open_saved(folder)
    (tmp_path / "link").symlink_to(tmp_path / "out")  # the folder itself may be one
    (folder / name).unlink()
    (tmp_path / "elsewhere").rename(folder / "inside")
    (folder / name).symlink_to("inside")
    if name not in ("tokenizer.json", "vocab.txt"):  # which are no tokenizers here
        open_saved(tmp_path / "link")


def header(of: dict[str, Any], size: int | None = None) -> bytes:
    text = json.dumps(of).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not safetensors",
        header({}, size=2**62),
        header({"transformer.wte.weight": {"dtype": "F32", "shape": [2**40, 10], "data_offsets": [0, 2**40 * 40]}}),
        header({"transformer.wte.weight": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}) + b"1234",
        header({"transformer.wte.weight": {"dtype": "F32", "shape": [400, 10], "data_offsets": [-4, 15996]}}),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + b"12345678",
        header({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}) + b"1",
    ],
)
def test_sizes_that_a_header_makes_up(content: bytes, tmp_path: Path) -> None:
    written("gpt2", tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors cannot be read"):
        open_saved(tmp_path / "out")


@pytest.mark.parametrize(
    "content, told",
    [
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read: RecursionError"),
        (b"[1]", "is a list; it must be a JSON object"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_json_that_is_none(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    written("gpt2", tmp_path / "out")
    if name.startswith("model."):
        (tmp_path / "out" / "model.safetensors").unlink()
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        open_saved(tmp_path / "out")


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {}}])
def test_an_index_that_says_nothing(index: Any, tmp_path: Path) -> None:
    written("gpt2", tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    (tmp_path / "out" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"has no (weight_map|model.safetensors)"):
        open_saved(tmp_path / "out")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    written("gpt2", tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").rename(tmp_path / "out" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no model.safetensors but pytorch_model.bin: only safetensors is read"):
        open_saved(tmp_path / "out")


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    spec = recipe("gpt2-small").tokenizer.model_copy(update={"size": 401, "kind": "bytes"})
    extra = {f"x{n}": f"<{n}>" for n in range(144)}
    text = train(spec.model_copy(update={"specials": {**spec.specials, **extra}}), []).json()
    (written("gpt2", tmp_path / "out") / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"its tokenizer has 401 ids and vocab_size is 400"):
        open_saved(tmp_path / "out")
    (tmp_path / "out" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer.json is no tokenizer.json"):
        open_saved(tmp_path / "out")


@pytest.mark.parametrize(
    "files",
    [
        {"vocab.txt": b"\xff"},
        {"vocab.txt": b"a\nb\n"},  # no [UNK]
        {"vocab.json": b'{"a": "b"}', "merges.txt": b"a b\n"},
        {"vocab.json": b'{"a": 0}', "merges.txt": b"one\n"},
        {"vocab.json": b'{"a": 0}', "merges.txt": b"", "added_tokens.json": b'{"b": "c", "d": -1}'},
        {"tokenizer.json": b"\xff"},
        {"vocab.json": b'{"\\ud800": 0}', "merges.txt": b""},
    ],
)
def test_a_vocabulary_that_is_none(files: dict[str, bytes], tmp_path: Path, zoo_home: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError):
        tokenizer.find(tmp_path)


def test_tokenizers_that_only_code_reads_are_none(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x0b")
    assert tokenizer.find(tmp_path) is None


# --- the commands


def test_the_commands(tmp_path: Path, zoo_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = small("gpt2-small", tokenizer={"kind": "bytes"})
    (tmp_path / "t.json").write_text(train(found.tokenizer, []).json())
    write(saved(found, tmp_path / "t.json"), tmp_path / "one")

    def refused(*line: str) -> str:
        assert cli.run(list(line)) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    assert cli.run(["import", "one", "--name", "mine"]) == 0
    assert capsys.readouterr().out == f"{zoo_home}/checkpoints/mine\n"
    assert cli.run(["export", "mine", "new/two"]) == 0
    out, err = capsys.readouterr()
    assert out == "new/two\n"
    assert "transformers.GPT2LMHeadModel.from_pretrained('new/two')" in err
    assert equal(load_file("one/model.safetensors"), load_file("new/two/model.safetensors"))
    assert (tmp_path / "one/tokenizer.json").read_text() == (tmp_path / "new/two/tokenizer.json").read_text()

    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "t.json").chmod(0o644)
    for folder in ("one", "t.json", ".", ".."):
        assert f"'{folder}' is in use; give a new or an empty folder" in refused("export", "mine", folder)
    assert "'t.json/deep' cannot be written: Not a directory" in refused("export", "mine", "t.json/deep")
    assert "the name 'mine' is taken" in refused("import", "one", "--name", "mine")
    assert "'nowhere' is no Hugging Face folder: it has no config.json" in refused("import", "nowhere", "--name", "x")
    assert "t.json" in refused("import", "t.json", "--name", "x")
    assert "did you mean 'mine'?" in refused("export", "mien", "x")
    assert sorted(tmp_path.rglob("*")) == before


# --- the Hub


class FakeHub(BaseHTTPRequestHandler):
    """As much of the Hub's interface as fetching a model takes; writes down what was fetched."""

    files: dict[str, bytes] = {}  # noqa: RUF012 -- set by the test
    fetched: list[str] = []  # noqa: RUF012

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing: the test looks at `fetched`."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path, commit = self.path.partition("?")[0], "c" * 40
        names = sorted(self.files)
        if path.startswith("/api/models/some/model/tree/"):
            entries = [{"type": "file", "path": n, "size": len(self.files[n]), "oid": f"{n:x<40}"} for n in names]
            self.send(200, json.dumps(entries).encode(), body, commit)
        elif path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": name} for name in names]
            info = {"id": "some/model", "modelId": "some/model", "sha": commit, "siblings": siblings, "tags": []}
            self.send(200, json.dumps(info).encode(), body, commit)
        elif path.startswith("/some/model/resolve/") and (name := path.split("/", 5)[5]) in names:
            if body:
                self.fetched.append(name)
            self.send(200, self.files[name], body, commit)
        else:
            self.send(404, b"", body, commit)

    def send(self, status: int, content: bytes, body: bool, commit: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{abs(hash(content)):040x}"')
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serves a model's folder as some/model; yields what runs `zoo import` with it in a new Python."""
    FakeHub.fetched.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(*line: str, offline: str = "0", endpoint: str = f"http://127.0.0.1:{server.server_port}") -> str:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "ZOO_HOME": str(tmp_path / "home")}
        environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", "zoo", "import", *line]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode == 0) is (done.stdout != "")
        return done.stdout or done.stderr

    yield run
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_model_of_the_hub(hub: Callable[..., str], tmp_path: Path) -> None:
    found = small("gpt2-small", tokenizer={"kind": "bytes"})
    (tmp_path / "t.json").write_text(train(found.tokenizer, []).json())
    write(saved(found, tmp_path / "t.json"), tmp_path / "one")
    in_two_files(tmp_path / "one")
    FakeHub.files = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    others = ("pytorch_model.bin", "modeling_evil.py", "onnx/model.onnx", "model.fp16.safetensors")
    FakeHub.files |= dict.fromkeys(others, b"x")

    assert hub("hf:some/model", "--name", "mine").endswith("/checkpoints/mine\n")
    shards = {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    assert sorted(FakeHub.fetched) == sorted(
        {"config.json", "README.md", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"} | shards
    )
    back = open_saved(tmp_path / "home" / "checkpoints" / "mine")
    assert equal(saved(found).weights, back.weights)
    assert (back.recipe.name, back.facts["origin"]) == ("model", "hf:some/model")

    # A second time, and without a network, from the cache.
    FakeHub.fetched.clear()
    assert hub("hf:some/model", "--name", "again").endswith("/checkpoints/again\n")
    assert hub("hf:some/model", "--name", "third", offline="1").endswith("/checkpoints/third\n")
    assert FakeHub.fetched == []


@pytest.mark.slow
def test_a_model_that_the_hub_does_not_have_or_only_pickled(hub: Callable[..., str], tmp_path: Path) -> None:
    FakeHub.files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    for line, told in (
        ("hf:some/model", "hf:some/model has no model.safetensors but pytorch_model.bin: only safetensors is read"),
        ("hf:no/such", "hf:no/such: the Hub has no model 'no/such', or not for you (HF_TOKEN)"),
        ("hf:no such", "hf:no such: Repo id must"),
        ("hf:", "hf:: Repo id must"),
    ):
        err = hub(line, "--name", "mine")
        assert told in err
        assert err.count("\n") == 1
    assert FakeHub.fetched == []


@pytest.mark.slow
def test_no_network_is_one_line(hub: Callable[..., str]) -> None:
    for options in ({"offline": "1"}, {"endpoint": "http://127.0.0.1:9"}):
        err = hub("hf:some/model", "--name", "mine", **options)
        assert err.startswith("zoo: hf:some/model: the Hugging Face Hub cannot be reached (")
        assert err.count("\n") == 1


def test_neither_torch_nor_tensorflow_is_needed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from zoo.exchange.folder import write
from zoo.saved import open_saved
found = open_saved(Path(sys.argv[1]))
print(found.weights["head.bias"].dtype, write(found, Path(sys.argv[2])))
print({"torch", "transformers", "tensorflow", "keras"} & {*sys.modules})
"""
    halved(saved(small("bert-base")), tmp_path / "one")
    command = [sys.executable, "-c", code, str(tmp_path / "one"), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "bfloat16 BertForPreTraining\nset()\n"
