"""Sentences to trees, by an encoder-decoder that writes brackets (Vaswani et al. 2017, section 6.3)."""

from typing import TYPE_CHECKING, Any

from zoo.corpus.trees import Parse, delinearised
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.use.loaded import Loaded

SEARCH = {"beam": 21, "length_penalty": 0.3, "longer": 300}  # as published


def parse(model: "Loaded", sentences: list[str], **settings: Any) -> list[Parse]:
    """Every sentence's tree, and whether what the model wrote had to be repaired to be one.

    sentences: words with spaces between them, none empty. settings: those of zoo.use.beam.Search.

    Raises UserError for a model that was not trained on trees, a sentence longer than its context, or an impossible
    setting.
    """
    if model.recipe.data.document != "tree":
        raise UserError(f"{model.recipe.name} was not trained on trees (data.document tree); it parses nothing")
    for number, sentence in enumerate(sentences, 1):
        if not sentence.split():
            raise UserError(f"sentence {number} has no words")
    written = model.translate(sentences, **{**SEARCH, **settings})
    return [delinearised(text, sentence.split()) for text, sentence in zip(written, sentences, strict=True)]
