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
            help="superpixel, distance, uniform, gaussian, svls or none.",
            show_default="superpixel",
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
    from sfumato.cli.console import end_with, say, track
    from sfumato.config import load_config
    from sfumato.report.metric_words import counted
    from sfumato.storage import check_output, claim_folder
    from sfumato.workflow.softening import SofteningConfig, plan_softening, soften_cases

    overrides = [*(settings or []), *([f"softening.method={method}"] if method else [])]
    wishes = load_config(SofteningConfig, config, overrides)
    data = Dataset.open(dataset)
    check_output(out, overwrite=overwrite, inputs=data.paths)
    chosen = plan_softening(data, wishes, track)
    claim_folder(out, overwrite=overwrite, inputs=data.paths)
    if chosen.superpixels.size_mm is not None:
        say(f"Superpixels of {chosen.superpixels.size_mm:g} mm")
    failures = soften_cases(data, chosen, out, track)
    if len(failures) < len(data):
        say(f"{counted(len(data) - len(failures), 'soft label')}, each with a picture, in {out}")
    end_with(failures, len(data))
