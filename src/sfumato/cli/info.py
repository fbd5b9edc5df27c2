"""`sfumato info`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.workflow.describing import Facts


def info(
    path: Annotated[Path, typer.Argument(help="An image, a data set, a trained model or a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what an image, a data set or a model is, as sfumato understands it.

    For a data set every file is read, so this is also the way to find bad cases before
    training; it then exits with 1.

    [dim]sfumato info my_data[/]
    """
    import json

    from sfumato.workflow.describing import describe

    facts = describe(path)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)
    if facts.get("problems"):
        raise typer.Exit(1)


def _print(facts: "Facts") -> None:
    from rich.table import Table

    from sfumato.cli.console import console, print_failures

    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        if name != "problems":
            table.add_row(f"[bold]{name.replace('_', ' ')}[/]", _text(value))
    console.print(table)
    if problems := facts.get("problems"):
        print_failures(list(problems.items()), facts["cases"])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_text(v)}" for name, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n".join(_text(row) for row in value)
    if isinstance(value, list):
        return " × ".join(_text(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
