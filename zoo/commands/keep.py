"""The commands for checkpoints that have a name."""

from typing import Annotated

import typer

from zoo.commands.options import Checkpoint


def checkpoints() -> None:
    """All checkpoints that have a name.

    Yours were registered or imported, the zoo's come with it, and published ones are fetched from the Hub when they are
    first used. LOSS is that of the validation split, in nats a predicted token.
    """
    from zoo.report.checkpoints import checkpoints as listing

    print("\n".join(listing()))


def register(
    checkpoint: Checkpoint,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it will be called.")],
) -> None:
    """Give a trained model a name.

    It is copied to ZOO_HOME, so the run may go.

    \b
    Example:
      zoo register runs/gpt2-nano-1 --name mine
      zoo generate mine --prompt "We must"
    """
    from zoo.registered import register as keep
    from zoo.saved import open_saved

    print(keep(open_saved(checkpoint), name))
