"""What the commands print: progress, tables of failures, the line of a running training."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Show a progress bar with count, time spent and time left while items are worked through."""
    if not console.is_terminal:
        print(f"{description} ({total})", file=sys.stderr, flush=True)  # noqa: T201
        yield from items
        return
    columns = (
        TextColumn("{task.description:22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)


def print_failures(failures: Sequence[tuple[str, str]], total: int) -> None:
    """List cases that could not be done, last, where they are seen."""
    errors.print(f"[bold red]{len(failures)} of {total} cases failed:[/]")
    for case_id, reason in failures:
        errors.print(f"  {case_id}: {reason}", markup=False, soft_wrap=True)
