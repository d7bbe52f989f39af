"""The tokenizer of a Hugging Face folder: tokenizer.json, and settings that say which special token has which role."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from zoo.corpus.tokenizer import Tokenizer, parsed
from zoo.disk import write_whole
from zoo.exchange import vocabulary
from zoo.exchange.family import Family
from zoo.exchange.files import inside, read_json
from zoo.home import home
from zoo.saved import Saved
from zoo.schema import Recipe
from zoo.sections import SPECIALS, TokenizerSpec

JSON, SETTINGS, ROLES_ALONE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TARGET = "target_"  # what the names of a second tokenizer's files begin with
OTHERS = (ROLES_ALONE, vocabulary.WORDPIECE, *vocabulary.BPE, vocabulary.ADDED)
FILES = (JSON, SETTINGS, *OTHERS, TARGET + JSON, TARGET + SETTINGS)
ROLES = ("unk", "pad", "cls", "sep", "mask", "bos", "eos")  # `ROLE_token` in the settings
UNLIMITED = 1 << 20  # tokens; settings have 1e30 where a model has no limit


class Found(NamedTuple):
    """A folder's tokenizer."""

    file: Path
    size: int  # ids 0 to size - 1 are in use
    section: dict[str, Any]  # a recipe's tokenizer section, but for its size
    context: int | None  # how many tokens a text may have


def _begins(sections: Collection[str]) -> dict[str, str]:
    """What the names of these tokenizers' files begin with; `AutoTokenizer` finds the one that texts are read with."""
    return {section: TARGET if len(sections) > 1 and section == "tokenizer" else "" for section in sections}


def find_all(folder: Path, sections: Collection[str], ends: str) -> dict[str, Found]:
    """Those of the tokenizers of these sections of a recipe that the folder has; arguments and errors as of `find`."""
    found = {section: find(folder, begins, ends) for section, begins in _begins(sections).items()}
    return {section: each for section, each in found.items() if each is not None}


def find(folder: Path, begins: str = "", ends: str = "eos") -> Found | None:
    """The folder's tokenizer; None where it has none, or one that only code could read (spiece.model).

    begins: what its files' names begin with; ends: the role of its eos_token. Raises UserError where it cannot be read.
    """
    settings = read_json(folder, begins + SETTINGS)
    if not begins:
        settings = read_json(folder, ROLES_ALONE) | settings
    named = {role: token for role in ROLES if (token := _content(settings.get(f"{role}_token")))}
    file = inside(folder, begins + JSON)
    if file is None:
        text = None if begins else vocabulary.converted(folder, settings, named)
        if text is None:
            return None
        file = _kept(text)
    tokenizer = parsed(file, TokenizerSpec(kind="bytes", size=1, specials={}))
    config = json.loads(tokenizer.json())
    section = {
        "kind": _kind(config),
        "lowercase": _lowers(config["normalizer"]),
        "specials": _roles(named, config, ends),
    }
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


def _roles(named: dict[str, str], config: dict[str, Any], ends: str) -> dict[str, str]:
    """Role -> token, in the order of the ids. A token has one role; one that both begins and ends a text is `eod`."""
    pieces, added = config["model"]["vocab"], config["added_tokens"]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)} if isinstance(pieces, list) else dict(pieces)
    ids |= {token["content"]: token["id"] for token in added}
    end = named.get("eos")
    if end and (ends == "eod" or named.get("bos", end) == end):
        named = {"eod": end} | {role: token for role, token in named.items() if token != end}
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
    """Writes a model's tokenizers, if it has any; returns what config.json says of the one that it writes text with."""
    ids: dict[str, int | None] = dict.fromkeys(f"{role}_token_id" for role in ("bos", "eos", "pad"))
    recipe = saved.recipe
    sections = ["tokenizer"] if recipe.source_tokenizer is None else ["source_tokenizer", "tokenizer"]
    for section, begins in _begins(sections).items():
        if section in saved.tokenizers:
            spec: TokenizerSpec = getattr(recipe, section)
            tokenizer = Tokenizer(saved.tokenizers[section].read_text(encoding="utf-8"), spec)
            found = _write(tokenizer, spec, recipe, family, folder, begins)
            if section == "tokenizer":
                ids |= {key: found.get(key) for key in ids}
    return ids


def _write(
    tokenizer: Tokenizer, spec: TokenizerSpec, recipe: Recipe, family: Family, folder: Path, begins: str
) -> dict[str, int]:
    """Writes one of them; returns the ids of its special tokens."""
    special = {role: spec.specials[role] for role in tokenizer.special}
    own = {role: role for role in ROLES} | {"eos": family.ends}
    tokens = {role: special[name] for role, name in own.items() if name in special}
    for role in ("bos", "eos"):
        if role not in tokens and "eod" in special:
            tokens[role] = special["eod"]  # a document's end is also what stands before the next one
    text, roles = tokenizer.json(), {role for role, _ in family.frame} - {"A", "B"}
    if roles and roles <= special.keys():
        frame = _frame(tokenizer, spec, family, one_segment=recipe.model.segments == 1)
        text = json.dumps(json.loads(text) | {"post_processor": frame}, ensure_ascii=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": recipe.model.context,
        "model_input_names": family.inputs,
        "padding_side": family.padding_side,
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": token for role, token in tokens.items()},
    }
    if others := [token for token in special.values() if token not in tokens.values()]:
        settings["extra_special_tokens"] = others
    (folder / (begins + JSON)).write_text(text, encoding="utf-8")
    (folder / (begins + SETTINGS)).write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")
    ids = {token: tokenizer.special[role] for role, token in special.items()}
    return {f"{role}_token_id": ids[token] for role, token in tokens.items()}


def _frame(tokenizer: Tokenizer, spec: TokenizerSpec, family: Family, *, one_segment: bool) -> dict[str, Any]:
    """What a family puts around one text and around two."""
    specials, pair = spec.specials, []
    for what, segment in family.frame:
        kind, name = ("Sequence", what) if what in ("A", "B") else ("SpecialToken", specials[what])
        pair.append({kind: {"id": name, "type_id": 0 if one_segment else segment}})
    single = [step for step, (_, segment) in zip(pair, family.frame, strict=True) if segment != 1]
    roles = {what for what, _ in family.frame if what in specials}
    ids = {specials[role]: tokenizer.special[role] for role in sorted(roles)}
    special = {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ids.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
