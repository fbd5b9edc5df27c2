"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Empty the output folder if sfumato wrote it before.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="GROUP.NAME=VALUE",
        help="Set one value, such as superpixels.size_mm=4; may be given several times.",
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file with settings; --set wins over it.")
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or mps; auto takes the fastest.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a running Ray cluster: auto for this machine's own, or host:port.",
    ),
]
