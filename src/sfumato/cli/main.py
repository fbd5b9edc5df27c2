"""The command `sfumato`: its commands, and what happens to errors.

Commands import what they need when they run, so that `--help` is quick.
"""

import sys

import typer

from sfumato.cli.demo import demo
from sfumato.cli.evaluate import evaluate
from sfumato.cli.info import info
from sfumato.cli.segment import segment
from sfumato.cli.soften import soften
from sfumato.cli.train import train
from sfumato.errors import SfumatoError

USERS_ERROR, OUR_ERROR, INTERRUPTED = 2, 1, 130

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
for command in (demo, info, soften, train, segment, evaluate):
    app.command(no_args_is_help=command is not demo)(command)


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("sfumato"))
        raise typer.Exit


def main() -> None:
    """Run the command line; exit with 2 for a user's error, 1 for ours or a failed case."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        is_users = isinstance(error, SfumatoError)
        text = str(error) if is_users else f"{type(error).__name__}: {error}"
        hint = "" if is_users else " (this is a defect in sfumato; --debug shows where)"
        typer.echo(f"error: {text}{hint}", err=True)
        sys.exit(USERS_ERROR if is_users else OUR_ERROR)
