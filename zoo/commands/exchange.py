"""The commands that read and write folders of Hugging Face's transformers."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.commands.options import Checkpoint
from zoo.progress import say


def export(
    checkpoint: Checkpoint,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    words: Annotated[
        bool, typer.Option("--words", help="A run's checkpoints at word budgets, each in DIR/chck_1M, DIR/chck_2M, ...")
    ] = False,
) -> None:
    """A trained model as transformers loads it.

    Writes config.json, model.safetensors, the tokenizer and a model card. A recipe that no class of transformers
    computes is refused, with the fields that do not fit. With --words it writes all checkpoints that the recipe's
    train.save_at_words has left, under BabyLM's names for them.

    \b
    Examples:
      zoo export runs/gpt2-nano-1 my-gpt2
      zoo export bert-nano my-bert
      zoo export runs/baby baby --words
    """
    from zoo.exchange.folder import write, write_named
    from zoo.saved import open_saved

    if words:
        for exported in write_named(checkpoint, folder):
            print(exported)
        return
    architecture = write(open_saved(checkpoint), folder)
    print(folder)
    say(f"to load it in Python: transformers.{architecture}.from_pretrained({str(folder)!r})")


def import_(
    place: Annotated[str, typer.Argument(metavar="DIR|hf:ORG/NAME", help="A folder, or a model of the Hub.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it will be called.")],
) -> None:
    """A GPT, BERT, XLNet or Marian of transformers, under a name.

    It is copied, so the folder may go. Only config.json, safetensors and the tokenizer's files are read.

    \b
    Examples:
      zoo import my-gpt2 --name mine
      zoo import hf:google-bert/bert-base-uncased --name bert
      zoo fill bert "The [MASK] of the Union."
    """
    from zoo.exchange.folder import read
    from zoo.registered import register
    from zoo.saved import open_saved

    saved = open_saved(place) if place.startswith("hf:") else read(Path(place))
    print(register(saved, name))
    if saved.tokenizer is None:
        say(f"{place} has no tokenizer that can be read here; {name} reads token ids, not text")
    if saved.absent:
        say(f"{place} has no head: {name} gives hidden states")
