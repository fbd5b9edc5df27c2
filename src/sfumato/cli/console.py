"""What the commands print: lines, tables, progress, and cases that could not be done.

Nothing that is printed is read as markup: names of classes and files may hold brackets.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sfumato.cli.exit_codes import SOME_FAILED, USERS_ERROR
from sfumato.errors import CaseError
from sfumato.workflow.failures import Failure

Item = TypeVar("Item")

console = Console(highlight=False, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)

FILE_WIDTH = 400
"""Columns of a table that goes to a file or another program: nothing is folded there."""


def say(text: str, style: str | None = None) -> None:
    """Print a line, however long, as one line."""
    console.print(text, style=style, soft_wrap=True)


def print_facts(facts: Mapping[str, str], title: str | None = None) -> None:
    """Print names with their values, one below the other."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    for name, value in facts.items():
        table.add_row(name, value)
    print_table(table, title)


def print_table(table: Table, title: str | None = None) -> None:
    """Print a table under a title, as wide as the terminal allows."""
    if title:
        say(title, style="bold")
    wide = Console(file=console.file, width=FILE_WIDTH, markup=False, emoji=False)
    (console if console.is_terminal else wide).print(table)


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Show a progress bar with count, rate, time spent and left while items are worked through."""
    if not total:
        return
    if not console.is_terminal:
        say(f"{description} ({total})")
        yield from items
        return
    columns = (
        TextColumn("{task.description:22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)


class _RateColumn(ProgressColumn):
    """How many items are done in a second, or in a minute where they take longer."""

    def render(self, task: Task) -> Text:
        """Write the rate; nothing before the first items are done."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.3g}/s" if speed >= 1 else f"{60 * speed:.3g}/min")


def end_with(failures: Sequence[Failure], total: int, noun: str = "cases") -> None:
    """List cases that could not be done, last, where they are seen; stop if there are any.

    Args:
        failures: The cases, and what is wrong with them.
        total: How many cases there were.
        noun: What they are, if they are no cases.

    Raises:
        CaseError: If there was only one case, and it failed.
        Exit: With 1 if other cases are done, with 2 if all failed.
    """
    if not failures:
        return
    if total == 1:
        raise CaseError(failures[0].case_id, failures[0].reason)
    errors.print(f"{len(failures)} of {total} {noun} failed:", style="bold red")
    for failure in failures:
        errors.print(f"  {failure.case_id}: {failure.reason}", soft_wrap=True)
    raise typer.Exit(SOME_FAILED if len(failures) < total else USERS_ERROR)
