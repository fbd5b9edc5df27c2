"""`sfumato soften`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import options
from sfumato.cli.interruption import resumable
from sfumato.errors import ConfigError

if TYPE_CHECKING:
    from sfumato.workflow.softening import SofteningConfig, SofteningRequest


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
            help="superpixel, superpixel_ensemble, distance, uniform, boundary, gaussian, svls,"
            " dilation, geodesic, raters or none.",
            show_default="superpixel",
        ),
    ] = None,
    config: options.Config = None,
    settings: options.Settings = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Cases softened side by side.", show_default="one a core"
        ),
    ] = None,
    ray: options.Ray = None,
    no_pictures: Annotated[
        bool,
        typer.Option("--no-pictures", help="Draw no pictures: two to seven times as fast."),
    ] = False,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Write small files (.sfsl) instead of NIfTI; sfumato convert turns one into"
            " the other.",
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Write report.html: how far softening went, case by case and in all."
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Leave what is done; do what is missing or changed."),
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Turn hard labels into soft ones, and show them.

    For each case: the probability of every class (NIfTI, classes last, on the label's own
    grid) and a picture of image, superpixels, hard and soft label. Training does this by
    itself; use this command to look, or to take soft labels elsewhere. Stopped by Ctrl-C or
    killed, the same command with --resume goes on.

    [dim]sfumato soften my_data --out soft --set superpixels.size_mm=4[/]
    [dim]sfumato soften archive --out soft --compact --no-pictures --workers 16 --resume[/]
    """
    from sfumato.config import load_config
    from sfumato.workflow.softening import SofteningConfig, SofteningRequest

    if workers is not None and ray is not None:
        raise ConfigError("--workers is for this machine, --ray for a cluster; give one of them")
    if resume and overwrite:
        raise ConfigError("--resume keeps what is done, --overwrite removes it; give one of them")
    overrides = [*(settings or []), *([f"softening.method={method}"] if method else [])]
    wishes = load_config(SofteningConfig, config, overrides)
    request = SofteningRequest(
        n_workers=workers,
        ray=ray,
        has_pictures=not no_pictures,
        is_compact=compact,
        is_resumed=resume,
        is_overwritten=overwrite,
    )
    with resumable(out):
        _soften(dataset, out, wishes, request, has_report=report)


def _soften(
    dataset: Path,
    out: Path,
    wishes: "SofteningConfig",
    request: "SofteningRequest",
    *,
    has_report: bool,
) -> None:
    from sfumato.cases.dataset import Dataset
    from sfumato.cli.console import end_with, say, track
    from sfumato.report.metric_words import counted
    from sfumato.workflow.softening import soften_cases, start_softening

    data = Dataset.open(dataset)
    chosen = start_softening(data, wishes, out, request, track)
    if chosen.superpixels.size_mm is not None:
        say(f"Superpixels of {chosen.superpixels.size_mm:g} mm")
    failures = soften_cases(data, chosen, out, request, track)
    if len(failures) < len(data):
        pictures = ", each with a picture," if request.has_pictures else ""
        say(f"{counted(len(data) - len(failures), 'soft label')}{pictures} in {out}")
    if has_report:
        # It draws, and Matplotlib takes its time to load.
        from sfumato.workflow.softening_report import write_softening_report

        if page := write_softening_report(data, chosen, out, track):
            say(f"Report in {page}")
    end_with(failures, len(data))
