"""The commands that use a trained model: it writes, fills in, scores."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.commands.options import Checkpoint, number
from zoo.errors import UserError
from zoo.progress import printable, say


def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[list[str], typer.Option(metavar="TEXT", help="What to continue. Repeatable.")],
    tokens: Annotated[int, typer.Option(metavar="N", parser=number(1), help="At most so many new tokens.")] = 64,
    temperature: Annotated[
        float, typer.Option(metavar="T", parser=number(0, float), help="0 takes the likeliest token every time.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", parser=number(1), help="Only among the K likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="P", parser=number(0, float), help="Only among the likeliest of chance P together."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", parser=number(0), help="The same seed, the same text.")] = 0,
) -> None:
    """Text continued by a causal model.

    \b
    Examples:
      zoo generate gpt2-nano --prompt "The state of the Union"
      zoo generate runs/gpt2-nano-1 --prompt "We must" --tokens 200 --temperature 0.9 --top-p 0.95
    """
    from zoo.use.loaded import load

    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    written = load(checkpoint).generate(prompt, tokens, **settings)
    print("\n\n".join(map(printable, written)))


def fill(
    checkpoint: Checkpoint,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts with [MASK] for every missing token.")],
    best: Annotated[int, typer.Option(metavar="K", parser=number(1), help="Guesses shown for each blank.")] = 5,
) -> None:
    """Blanks filled in by a model that sees both sides of them.

    \b
    Example:
      zoo fill bert-nano "The [MASK] of the Union"
    """
    from zoo.use.loaded import load

    for filled in load(checkpoint).fill(texts, best):
        print(printable(filled.text))
        for guesses in filled.blanks:
            print("  " + "  ".join(f"{guess.token!r} {guess.chance:.1%}" for guess in guesses))


def score(
    checkpoint: Checkpoint,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text file; every line that is not empty is scored.")],
) -> None:
    """How likely a model finds each line of a file.

    In nats: the log-likelihood by a causal model, the pseudo-log-likelihood by any other (every token hidden in turn).
    A line of output has the score, a tab, and the text.

    \b
    Example:
      zoo score gpt2-nano sentences.txt
    """
    try:
        content = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{str(file)!r} is no UTF-8 text: {error}") from None
    texts = [line for line in content.splitlines() if line.strip()]
    if not texts:
        raise UserError(f"{str(file)!r} has no line with text")
    from zoo.use.loaded import load

    model = load(checkpoint)
    nats = model.score(texts)
    for value, text in zip(nats, texts, strict=True):
        print(f"{value:.4f}\t{text}")
    tokens = sum(len(model.tokenizer.encode(text)) for text in texts)
    say(f"{len(texts)} texts, {tokens} tokens: {nats.sum():.2f} nats, {nats.sum() / max(tokens, 1):.3f} a token")
