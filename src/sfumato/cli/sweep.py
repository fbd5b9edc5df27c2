"""`sfumato sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options
from sfumato.errors import ConfigError

Numbers = str | None


def sweep(
    dataset: Annotated[
        Path,
        typer.Argument(help="A folder with images/ and labels/, a dataset.json or a cases.csv."),
    ],
    out: options.Out,
    cases: Annotated[
        int | None,
        typer.Option(
            "--cases",
            help="Use so many cases, drawn at random, always the same.",
            show_default="all",
        ),
    ] = None,
    sizes: Annotated[
        Numbers,
        typer.Option(
            "--sizes",
            metavar="MM,MM,…",
            help="Edges of superpixels to try.",
            show_default="around what training would choose",
        ),
    ] = None,
    compactness: Annotated[
        Numbers,
        typer.Option(
            "--compactness",
            metavar="VALUE,VALUE,…",
            help="Weights of closeness against intensity to try; higher is rounder.",
            show_default="0.03,0.1,0.3",
        ),
    ] = None,
    scales: Annotated[
        Numbers,
        typer.Option(
            "--scales",
            metavar="MM,MM,…",
            help="Distances to the boundary with probability 3/4 to try (superpixel, distance).",
            show_default="0.5, 1, 2 and 4 times the spacing; 1 without raters",
        ),
    ] = None,
    sigmas: Annotated[
        Numbers,
        typer.Option(
            "--sigmas",
            metavar="MM,MM,…",
            help="Widths to try of the Gaussian that superpixels are compared with.",
            show_default="0.7 to 8 times the spacing",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Try superpixel settings and recommend one: report.html, sweep.json, config.toml.

    Where several people drew the same cases, the label of the first is softened
    in every way and compared with the mean of all, against the hard label, a
    Gaussian blur, distances alone, and a plain grid in the place of superpixels.
    Settings are chosen on one half of the cases and measured on the other.

    Where nobody drew twice, nothing tells right from wrong; then superpixels are
    chosen by how well they follow the annotated boundaries beyond chance, which
    is no proof. No model is trained.

    [dim]sfumato sweep my_data --out sweep --cases 40[/]
    [dim]sfumato train my_data --out run --config sweep/config.toml[/]
    """
    import time

    from sfumato.cases.dataset import Dataset
    from sfumato.cli.console import end_with, say, track
    from sfumato.report.metric_words import counted
    from sfumato.report.sweep_words import edge_words, headline, reason, verdict
    from sfumato.storage import check_output, claim_folder
    from sfumato.workflow.sweep_report import write_sweep
    from sfumato.workflow.sweeping import SweepWishes, choose_cases, plan_sweep, run_sweep

    wishes = SweepWishes(
        sizes_mm=_numbers("--sizes", sizes),
        compactness=_numbers("--compactness", compactness),
        scales_mm=_numbers("--scales", scales),
        sigmas_mm=_numbers("--sigmas", sigmas),
    )
    everything = Dataset.open(dataset)
    check_output(out, overwrite=overwrite, inputs=everything.paths)
    data = choose_cases(everything, cases)
    grid = plan_sweep(data, wishes, track)
    started = time.monotonic()
    measured, failures = run_sweep(data, grid, track)
    if not measured.case_ids:
        end_with(failures, len(data))
    claim_folder(out, overwrite=overwrite, inputs=everything.paths)
    found = write_sweep(data, measured, failures, out, time.monotonic() - started)
    say(headline(measured, found), style="bold")
    for line in filter(
        None, (reason(measured, found), verdict(found), edge_words(measured, found))
    ):
        say(line)
    n_settings, n_cases = len(measured.candidates), len(measured.case_ids)
    say(f"{counted(n_settings, 'setting')} on {counted(n_cases, 'case')}: {out / 'report.html'}")
    end_with(failures, len(data))


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Read numbers above 0, in the order of their size."""
    if text is None:
        return None
    try:
        numbers = sorted({float(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or not 0 < numbers[0] <= numbers[-1] < float("inf"):
        raise ConfigError(f"{option} takes numbers above 0, such as {option} 4,6,8; got {text!r}")
    return tuple(numbers)
