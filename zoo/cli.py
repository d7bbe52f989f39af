"""The command line. Results go to stdout, progress and errors to stderr; heavy imports happen inside the commands.

Exit codes: 0 done, 1 the run failed, 2 the user's input, 128 + n after signal n (130 Ctrl-C, 143 SIGTERM).
"""

import errno
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from zoo import __version__
from zoo.commands import data, exchange, keep, look, make, measure, tune, use
from zoo.errors import Interrupted, RunFailed, UserError, nearest
from zoo.kernels import startup
from zoo.progress import into_nothing, say


class _Commands(TyperGroup):
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = self.list_commands(ctx)
        if cmd_name not in known and not cmd_name.startswith("-"):
            raise UserError(f"there is no command {cmd_name!r}{nearest(cmd_name, known)}")
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """The entry point of `zoo` and of `python -m zoo`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start (`zoo list >&-`)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 -- for as long as the process lives
        # A token that the terminal cannot show must not end a command.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    startup.alone = True
    sys.exit(run(sys.argv[1:]))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does: what is half done is taken away."""
    raise Interrupted(number)


def run(arguments: list[str]) -> int:
    """Runs one command; returns its exit code. Only a fault of the zoo itself leaves as an exception."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except UserError as error:
        return _end(2, str(error))
    except typer.TyperException as error:
        where = getattr(error, "ctx", None)
        return _end(
            error.exit_code, error.format_message(), f"zoo {where.info_name}" if where and where.parent else "zoo"
        )
    except RunFailed as error:
        return _end(1, str(error))
    except Interrupted as error:
        return _end(128 + error.signal, str(error))
    except KeyboardInterrupt:
        return _end(128 + signal.SIGINT, "interrupted")
    except BrokenPipeError:
        into_nothing(sys.stdout)  # the reader had enough (`zoo list | head -1`); Python flushes once more at exit
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        into_nothing(sys.stdout)
        return _end(1, f"what was to be printed could not be written: {error.strerror}")
    return code


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("zoo", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _end(code: int, message: str, command: str | None = None) -> int:
    hint = f" (see {command} --help)" if command else ""
    say(f"zoo: {' '.join(message.splitlines())}{hint}")
    return code


@app.callback(invoke_without_command=True)
def zoo(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="The version.")] = False
) -> None:
    """Every classic pretraining objective, as published, from one set of Transformer blocks.

    \b
    To begin:
      zoo list                                 what can be trained
      zoo pretrain gpt2-nano                   trains a small GPT-2 in a few minutes
      zoo pretrain bert-nano --data my.txt     the same on your own text, as a BERT
      zoo show xlnet-base --visibility         what a recipe says and costs, and who sees whom
      zoo generate gpt2-nano --prompt "We"     text by a model that comes with the zoo

    `zoo COMMAND --help` explains a command.
    """
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


app.command("list")(look.list_recipes)
app.command()(look.show)
app.command()(make.pretrain)
corpora = typer.Typer(cls=_Commands, help="Tokenize a corpus in shares, on any number of machines.")
corpora.command()(data.prepare)
corpora.command()(data.merge)
app.add_typer(corpora, name="data")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(make.launch)
app.command()(look.batch)
app.command()(look.watch)
app.command()(look.curves)
app.command()(make.bench)
app.command()(make.new)
app.command()(keep.checkpoints)
app.command()(keep.register)
app.command()(exchange.export)
app.command("import")(exchange.import_)
app.command()(use.generate)
app.command()(use.fill)
app.command()(measure.score)
app.command("eval")(measure.evaluate)
app.command()(measure.compare)
app.command()(tune.probe)
app.command()(tune.finetune)
app.command()(tune.predict)
app.command()(use.translate)
app.command()(use.parse)
app.command()(use.attention)
app.command()(look.report)
app.command()(look.doctor)
