"""`sfumato soften`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def soften(
    dataset: Annotated[
        Path,
        typer.Argument(help="A folder with images/ and labels/, a dataset.json or a cases.csv."),
    ],
    out: options.Out,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="superpixel, distance, uniform, gaussian, svls or none. [default: superpixel]",
        ),
    ] = None,
    config: options.Config = None,
    settings: options.Settings = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Turn hard labels into soft ones, and show them.

    For each case: the probability of every class (NIfTI, classes last, on the label's own
    grid) and a picture of image, superpixels, hard and soft label. Training does this by
    itself; use this command to look, or to take soft labels elsewhere.

    [dim]sfumato soften my_data --out soft --set superpixels.size_mm=4[/]
    """
    from sfumato.cases.dataset import Dataset
    from sfumato.cli.console import console, print_failures, track
    from sfumato.config import load_config
    from sfumato.storage import claim_folder
    from sfumato.workflow.softening import SofteningConfig, plan_softening, soften_cases

    overrides = [*(settings or []), *([f"softening.method={method}"] if method else [])]
    wishes = load_config(SofteningConfig, config, overrides)
    data = Dataset.open(dataset)
    claim_folder(out, overwrite=overwrite)
    chosen = plan_softening(data, wishes, track)
    if chosen.superpixels.size_mm is not None:
        console.print(f"Superpixels of {chosen.superpixels.size_mm:g} mm")
    failures = soften_cases(data, chosen, out, track)
    console.print(f"{len(data) - len(failures)} soft labels and pictures in {out}")
    if failures:
        print_failures([(f.case_id, f.reason) for f in failures], len(data))
        raise typer.Exit(1)
