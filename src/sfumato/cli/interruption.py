"""What Ctrl-C does to commands that can go on later."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from sfumato.cli.exit_codes import INTERRUPTED
from sfumato.storage import hold_folder


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Keep others from working in a folder, and end after Ctrl-C with a word on how to go on.

    Raises:
        FileError: If another process works in the folder.
        Exit: After Ctrl-C.
    """
    try:
        with hold_folder(out):
            yield
    except KeyboardInterrupt:
        from sfumato.cli.console import say

        say(f"Stopped; {out} keeps what is done. The same command with --resume goes on.")
        raise typer.Exit(INTERRUPTED) from None
