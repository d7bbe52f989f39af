"""The commands that tokenize a corpus in shares, before it is trained on."""

import re
from typing import Annotated

import typer

from zoo.commands.options import Corpus, Name, Settings, chosen_recipe
from zoo.errors import UserError
from zoo.progress import amount

Out = Annotated[str, typer.Option(metavar="FOLDER", help="Where the shares go: a folder, or s3://, gs://, hf://.")]


def prepare(
    name: Name,
    out: Out,
    data: Corpus = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Which of how many shares: 3/64.")] = "1/1",
    settings: Settings = None,
) -> None:
    """Tokenize a share of a corpus.

    All shares together are the corpus, in any order, on any machines, at any time: a Slurm array, a Job of Kubernetes,
    xargs. Share 1 trains the tokenizer, unless tokenizer.file names one, and the others wait for it. A share that is
    there already is not made again. The text may lie behind s3://, gs:// or hf://, and so may FOLDER.

    \b
    Examples:
      zoo data prepare bert-base --data s3://texts/books --out s3://tokens/books --shard 3/64
      seq 8 | xargs -P 2 -I% zoo data prepare gpt2-small --data 'books/*.txt' --out tokens --shard %/8
    """
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", shard)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise UserError(f"--shard {shard!r} is not I/N with I from 1 to N, such as 3/64")
    recipe = chosen_recipe(name, settings)
    from zoo.corpus.share import prepare_share
    from zoo.home import home

    print(prepare_share(recipe, data or recipe.data.corpus, out, number, of, home()))


def merge(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the shares are; also s3://, gs://, hf://.")],
) -> None:
    """Check the shares of a corpus and join them.

    Afterwards FOLDER is a corpus: zoo pretrain NAME --data FOLDER. The shares stay where they are; training reads the
    rows that it needs.

    \b
    Example:
      zoo data merge tokens
      zoo pretrain gpt2-small --data tokens
    """
    from zoo.corpus.share import merge as join
    from zoo.home import home

    made = join(folder, home())
    print(
        f"{folder}: {len(made['parts'])} shares, {amount(made['bytes'])}B of text, {made['tokens']:,} tokens,"
        f" {made['documents']:,} documents, exact duplicates {made['duplicates']:,}"
    )
