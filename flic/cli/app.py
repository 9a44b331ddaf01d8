"""The application: its commands, and how errors, Ctrl-C and closed pipes end it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import errno
import signal
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import FlicError, missing_extra
from . import code, common, dataset, evaluate, inspect, show, training


class _Group(TyperGroup):
    """Turns expected errors into one line on stderr and exit code 1."""

    def invoke(self, ctx):
        common.ignore_announcements()
        try:
            return super().invoke(ctx)
        except FlicError as error:
            raise _failed(error) from None
        except ImportError as error:  # an extra, or the native library is not built
            raise _failed(missing_extra(error)) from None
        except MemoryError:
            raise _failed("not enough memory") from None
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise _failed("not enough memory") from None
        except KeyboardInterrupt:
            typer.echo("flic: interrupted", err=True)
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise _failed(error) from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch could not allocate: a class of its own on GPUs, a plain one on CPUs."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _failed(message: object) -> typer.Exit:
    typer.echo("flic: " + " ".join(str(message).split()), err=True)
    return typer.Exit(1)


app = typer.Typer(
    name="flic",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,  # else what stands in brackets in a help text is taken for markup
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flic {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Compress photographs with FLIC, a learned image codec."""


app.command()(code.encode)
app.command()(code.decode)
app.command()(dataset.encode_dataset)
app.command()(inspect.info)
app.command()(inspect.verify)
app.command()(show.compare)
app.command()(inspect.models)
app.command()(inspect.convert)
app.command()(show.demo)
app.command(cls=training.Command)(training.train)
app.command("eval")(evaluate.evaluate)


def main() -> None:
    """Entry point of the `flic` program."""
    if hasattr(signal, "SIGTERM"):
        # an exception, so that a half-written temporary file is removed
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app(prog_name="flic")
