"""Text written left to right by a causal model."""

import numpy as np

from zoo.errors import UserError
from zoo.use.loaded import Loaded

SHORTEST = 64  # tokens that are read at once


def generate(model: Loaded, prompts: list[str], tokens: int = 64, temperature: float = 0.8, seed: int = 0) -> list[str]:
    """Every prompt continued by `tokens` sampled tokens, or up to an end of document.

    temperature 0 takes the likeliest token; the same seed gives the same text. Raises UserError for a model that is
    not causal, or a prompt longer than its context.
    """
    if model.learner.objective.visibility != "causal":
        raise UserError(f"{model.recipe.name} is not trained to continue text; only causal recipes are")
    return [
        _continued(model, prompt, tokens, temperature, np.random.default_rng([seed, n]))
        for n, prompt in enumerate(prompts)
    ]


def _continued(model: Loaded, prompt: str, tokens: int, temperature: float, draws: np.random.Generator) -> str:
    context, end = model.recipe.model.context, model.tokenizer.special.get("eod")
    # Text begins as a document does in training: after the end of another one.
    ids = ([] if end is None else [end]) + model.tokenizer.encode(prompt).tolist()
    if not ids:
        raise UserError("an empty prompt needs a tokenizer with an end-of-document token")
    if len(ids) > context:
        raise UserError(f"the prompt has {len(ids)} tokens; {model.recipe.name} reads at most {context}")
    for _ in range(tokens):
        read = min(len(ids), context)
        # Padded to few lengths: the kernels are compiled for every one.
        token = np.zeros((1, min(context, max(SHORTEST, 1 << (read - 1).bit_length()))), np.int32)
        token[0, :read] = ids[-read:]
        doc = (np.arange(token.shape[1]) < read).astype(np.int32)[None]
        scores = model.logits(token, doc, at=np.array([[read - 1]]))[0, 0, : model.tokenizer.size]
        chosen = int(np.argmax(scores if temperature == 0 else scores / temperature + draws.gumbel(size=len(scores))))
        if chosen == end:
            break
        ids.append(chosen)
    return model.tokenizer.decode(np.array(ids[0 if end is None else 1 :]))
