"""The commands that use a trained model: it writes, fills in, shows where it looks."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.commands.options import Checkpoint, lines_of, number
from zoo.disk import write_whole
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


def translate(
    checkpoint: Checkpoint,
    source: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Texts, one a line. Default: standard input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the translations go. Default: standard output.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What was wanted, line by line: prints BLEU and chrF.")
    ] = None,
    beam: Annotated[int, typer.Option(metavar="N", parser=number(1), help="Hypotheses kept; 1 is greedy.")] = 4,
    length_penalty: Annotated[
        float, typer.Option(metavar="A", parser=number(0, float), help="0 prefers short texts; 1 long ones.")
    ] = 0.6,
) -> None:
    """Every line translated, by beam search.

    \b
    Examples:
      echo "A man is sleeping." | zoo translate runs/transformer-tiny-1
      zoo translate runs/transformer-tiny-1 --input test.en --output test.de --reference wanted.de
    """
    texts = lines_of(source)
    wanted = None if reference is None else lines_of(reference)
    if wanted is not None and len(wanted) != len(texts):
        raise UserError(f"{reference} has {len(wanted)} lines and the input {len(texts)}")
    _check_output(output)
    from zoo.use.loaded import load

    written = load(checkpoint).translate(texts, beam=beam, length_penalty=length_penalty)
    # A line is a line: what the model has learned to write between two of them must not shift all that follow.
    written = [" ".join(text.split("\n")) for text in written]
    _print(written, output)
    if wanted is not None:
        from zoo.report.translation import scores

        for line in scores(written, wanted):
            say(line) if output is None else print(line)


def parse(
    checkpoint: Checkpoint,
    sentences: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Sentences, one a line, words apart. Default: stdin.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the trees go. Default: stdout.")] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="TREES", help="The right trees; without --input their words are parsed.")
    ] = None,
    beam: Annotated[int, typer.Option(metavar="N", parser=number(1), help="Hypotheses kept; 1 is greedy.")] = 21,
) -> None:
    """The constituents of every sentence, in brackets.

    Where the right trees are given, labelled bracket F1 is told as EVALB counts it.

    \b
    Examples:
      echo "The cat sleeps ." | zoo parse runs/transformer-parse-1
      zoo parse runs/transformer-parse-1 --reference test.mrg --output parsed.mrg
    """
    from zoo.corpus.trees import plain, read_trees, words, write
    from zoo.report import brackets

    gold = None if reference is None else [plain(tree) for tree in read_trees(reference)]
    if gold is not None and sentences is None:
        texts = [" ".join(words(tree)) for tree in gold]
    else:
        texts = [line for line in lines_of(sentences) if line.strip()]
    if gold is not None and len(gold) != len(texts):
        raise UserError(f"{reference} has {len(gold)} trees and the input {len(texts)} sentences")
    _check_output(output)
    from zoo.use.loaded import load

    parses = load(checkpoint).parse(texts, beam=beam)
    _print([write(one.tree) for one in parses], output)
    say(f"{sum(one.repaired for one in parses)} of {len(parses)} trees had to be repaired")
    if gold is not None:
        found = brackets.score(gold, [one.tree for one in parses])
        line = f"F1 {found.f1:.2%}  precision {found.precision:.2%}  recall {found.recall:.2%}"
        line += f"  exact {found.exact} of {found.sentences}"
        say(line) if output is None else print(line)


def attention(
    checkpoint: Checkpoint,
    source: Annotated[str, typer.Option(metavar="TEXT", help="The text that is read.")],
    target: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What a decoder reads. Default: the model's own translation."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(metavar="L", parser=number(1), help="Counted from 1. Default: the last.")
    ] = None,
    head: Annotated[
        int | None, typer.Option(metavar="H", parser=number(1), help="Only this one, in large. Default: all.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="encoder, decoder or cross, where there is an encoder. Default: cross."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the picture goes.")] = Path("attention.png"),
) -> None:
    """A picture of what each token looks at.

    \b
    Examples:
      zoo attention gpt2-nano --source "The state of the Union is strong."
      zoo attention bert-nano --source "We must act." --layer 1 --head 2 --out look.png
    """
    from zoo.report.attention import attention_maps
    from zoo.report.attention_picture import draw
    from zoo.use.loaded import load

    draw(attention_maps(load(checkpoint), source, target), out, title=checkpoint, kind=kind, layer=layer, head=head)
    print(out)


def _check_output(output: Path | None) -> None:
    """Before the long work; UserError where nothing can be written."""
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"{str(output)!r} cannot be written: its folder is not there")


def _print(texts: list[str], output: Path | None) -> None:
    """One line each, to a file or to stdout."""
    if output is not None:
        write_whole(output, "".join(f"{text}\n" for text in texts))
    else:
        print("\n".join(map(printable, texts)))
