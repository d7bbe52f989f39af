"""The tokenizer of a Hugging Face folder: tokenizer.json, and settings that say which special token has which role."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from zoo.corpus.tokenizer import Tokenizer, parsed
from zoo.disk import write_whole
from zoo.exchange import vocabulary
from zoo.exchange.family import Family
from zoo.exchange.files import inside, read_json
from zoo.home import home
from zoo.saved import Saved
from zoo.schema import SPECIALS, TokenizerSpec

JSON, SETTINGS, ROLES_ALONE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
FILES = (JSON, SETTINGS, ROLES_ALONE, vocabulary.WORDPIECE, *vocabulary.BPE, vocabulary.ADDED)
ROLES = ("unk", "pad", "cls", "sep", "mask", "bos", "eos")  # `ROLE_token` in the settings
UNLIMITED = 1 << 20  # tokens; settings have 1e30 where a model has no limit


class Found(NamedTuple):
    """A folder's tokenizer."""

    file: Path
    size: int  # ids 0 to size - 1 are in use
    section: dict[str, Any]  # a recipe's tokenizer section, but for its size
    context: int | None  # how many tokens a text may have


def find(folder: Path) -> Found | None:
    """The folder's tokenizer; None where it has none, or one that only code could read (spiece.model).

    Raises UserError where it cannot be read.
    """
    settings = read_json(folder, ROLES_ALONE) | read_json(folder, SETTINGS)
    named = {role: token for role in ROLES if (token := _content(settings.get(f"{role}_token")))}
    file = inside(folder, JSON)
    if file is None:
        text = vocabulary.converted(folder, settings, named)
        if text is None:
            return None
        file = _kept(text)
    tokenizer = parsed(file, TokenizerSpec(kind="bytes", size=1, specials={}))
    config = json.loads(tokenizer.json())
    section = {"kind": _kind(config), "lowercase": _lowers(config["normalizer"]), "specials": _roles(named, config)}
    longest = settings.get("model_max_length")
    context = longest if isinstance(longest, int) and 0 < longest < UNLIMITED else None
    return Found(file, tokenizer.size, section, context)


def _kind(config: dict[str, Any]) -> str:
    model = config["model"]
    if isinstance(model["vocab"], list):
        return "unigram"
    if "merges" not in model:
        return "wordpiece"
    if model["merges"]:
        return "bytes_bpe"
    return "bytes" if "ByteLevel" in json.dumps(config["pre_tokenizer"]) else "characters"


def _lowers(step: dict[str, Any] | None) -> bool:
    if not step:
        return False
    if step["type"] == "Sequence":
        return any(map(_lowers, step["normalizers"]))
    return step["type"] == "Lowercase" or bool(step.get("lowercase"))


def _roles(named: dict[str, str], config: dict[str, Any]) -> dict[str, str]:
    """Role -> token, in the order of the ids. A token has one role; one that both begins and ends a text is `eod`."""
    pieces, added = config["model"]["vocab"], config["added_tokens"]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)} if isinstance(pieces, list) else dict(pieces)
    ids |= {token["content"]: token["id"] for token in added}
    if "eos" in named and named.get("bos", named["eos"]) == named["eos"]:
        named = {"eod": named["eos"]} | {role: named[role] for role in named if role not in ("bos", "eos")}
    usual = {token: role for tokens in SPECIALS.values() for role, token in tokens.items()}
    special = [token["content"] for token in added if token["special"]]
    also = [(usual[token], token) for token in special if token in usual]
    role_of: dict[str, str] = {}
    for role, token in [*named.items(), *also]:
        if role not in role_of.values():
            role_of.setdefault(token, role)
    return {role_of[token]: token for token in sorted(role_of.keys() & ids.keys(), key=ids.__getitem__)}


def _content(token: Any) -> str | None:
    """A special token, as text or with its properties."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _kept(text: str) -> Path:
    """A tokenizer.json in ZOO_HOME: the folder it was made of is not ours to write to."""
    file = home() / "tokenizers" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    file.parent.mkdir(exist_ok=True)
    write_whole(file, text)
    return file


def write(saved: Saved, family: Family, folder: Path) -> dict[str, int | None]:
    """Writes a model's tokenizer, if it has one; returns what config.json says of it."""
    if saved.tokenizer is None:
        return dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    spec = saved.recipe.tokenizer
    tokenizer = Tokenizer(saved.tokenizer.read_text(encoding="utf-8"), spec)
    special = {role: spec.specials[role] for role in tokenizer.special}
    tokens = {role: special[role] for role in ROLES if role in special}
    for role in ("bos", "eos"):
        if role not in tokens and "eod" in special:
            tokens[role] = special["eod"]  # a document's end is also what stands before the next one
    text, roles = tokenizer.json(), {role for role, _ in family.frame} - {"A", "B"}
    if roles and roles <= special.keys():
        text = json.dumps(json.loads(text) | {"post_processor": _frame(saved, family, tokenizer)}, ensure_ascii=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": saved.recipe.model.context,
        "model_input_names": family.inputs,
        "padding_side": family.padding_side,
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": token for role, token in tokens.items()},
    }
    if others := [token for token in special.values() if token not in tokens.values()]:
        settings["extra_special_tokens"] = others
    (folder / JSON).write_text(text, encoding="utf-8")
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")
    ids = {token: tokenizer.special[role] for role, token in special.items()}
    return {f"{role}_token_id": ids[tokens[role]] if role in tokens else None for role in ("bos", "eos", "pad")}


def _frame(saved: Saved, family: Family, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a family puts around one text and around two."""
    specials, one_segment = saved.recipe.tokenizer.specials, saved.recipe.model.segments == 1
    pair = []
    for what, segment in family.frame:
        kind, name = ("Sequence", what) if what in ("A", "B") else ("SpecialToken", specials[what])
        pair.append({kind: {"id": name, "type_id": 0 if one_segment else segment}})
    single = [step for step, (_, segment) in zip(pair, family.frame, strict=True) if segment != 1]
    roles = {what for what, _ in family.frame if what in specials}
    ids = {specials[role]: tokenizer.special[role] for role in sorted(roles)}
    special = {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ids.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
