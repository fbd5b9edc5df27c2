"""The command `sfumato`: its commands, and what happens to errors.

Commands import what they need when they run, so that `--help` is quick.
"""

import sys

import typer

from sfumato.cli.audit import audit
from sfumato.cli.compare import ListOptions, compare
from sfumato.cli.convert import convert
from sfumato.cli.demo import demo
from sfumato.cli.evaluate import evaluate
from sfumato.cli.exit_codes import INTERRUPTED, OUR_ERROR, USERS_ERROR
from sfumato.cli.export import export
from sfumato.cli.info import info
from sfumato.cli.segment import segment
from sfumato.cli.serve import serve
from sfumato.cli.soften import soften
from sfumato.cli.sweep import sweep
from sfumato.cli.train import train
from sfumato.errors import SfumatoError
from sfumato.storage import os_reason

app = typer.Typer(
    name="sfumato",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Train medical image segmentation on the labels people really draw.

    Where an annotated boundary runs through a homogeneous region of the image, the label there
    becomes a probability; the model learns from hard and soft labels together.

    [bold]First time?[/]  sfumato demo --open
    [bold]Own data:[/]    sfumato train my_data --out run --time 20min
                 sfumato segment run new_images --out segmentations""",
)
for command in (
    demo, info, soften, sweep, audit, train, segment, evaluate, convert, export, serve
):  # fmt: skip
    app.command(no_args_is_help=command is not demo)(command)
app.command(no_args_is_help=True, cls=ListOptions)(compare)


def _print_version(is_wanted: bool) -> bool:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(version("sfumato"))
        raise typer.Exit
    return is_wanted


@app.callback()
def _options(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and stop.",
        callback=_print_version,
        is_eager=True,  # No command is needed with it.
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Take the options that stand before the command; `main` looks at --debug itself."""


def main() -> None:
    """Run the command line; exit with 2 for a user's error, 1 for ours or a failed case."""
    try:
        app(prog_name="sfumato")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        is_users = isinstance(error, SfumatoError | OSError)
        text = _one_line(error)
        hint = "" if is_users else " (this is a defect in sfumato; sfumato --debug … shows where)"
        typer.echo(f"error: {text}{hint}", err=True)
        sys.exit(USERS_ERROR if is_users else OUR_ERROR)


def _one_line(error: Exception) -> str:
    if isinstance(error, SfumatoError):
        text = str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {os_reason(error)}"
    elif isinstance(error, OSError):
        text = os_reason(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.splitlines())
