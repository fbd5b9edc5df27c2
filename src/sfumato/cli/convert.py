"""`sfumato convert`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(help="Soft labels or probabilities: .sfsl, .nii.gz, BIDS _probseg."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="compact (.sfsl), nifti (one file, classes last) or bids (one _probseg file a"
            " class).",
        ),
    ],
    out: options.Out,
    overwrite: options.Overwrite = False,
) -> None:
    """Turn soft labels and probabilities from one file format into another.

    Compact files hold a soft label in about as many bytes as its hard label, find every
    flipped bit and can be read in parts. NIfTI is for all other programs.

    [dim]sfumato convert soft/*.sfsl --to nifti --out soft_nifti[/]
    [dim]sfumato convert sub-1_label-WM_probseg.nii.gz --to compact --out soft[/]
    """
    from sfumato.cli.console import end_with, say, track
    from sfumato.errors import ConfigError, unknown_name
    from sfumato.report.metric_words import counted
    from sfumato.storage import claim_folder
    from sfumato.workflow.converting import Format, convert_probabilities

    if to not in (known := [target.value for target in Format]):
        raise ConfigError(f"--to: {unknown_name('format', to, known)}")
    claim_folder(out, overwrite=overwrite, inputs=files)
    failures = convert_probabilities(files, Format(to), out, track)
    if len(failures) < len(files):
        say(f"{counted(len(files) - len(failures), 'soft label')} in {out}")
    end_with(failures, len(files), "files")
