"""`sfumato compare`."""

import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sfumato.cli import options
from sfumato.cli.exit_codes import INTERRUPTED
from sfumato.cli.train import training_length
from sfumato.errors import ConfigError
from sfumato.storage import hold_folder

if TYPE_CHECKING:
    from sfumato.cases.dataset import Dataset
    from sfumato.workflow.comparing import Workplace
    from sfumato.workflow.experiment import Cell, ExperimentRequest
    from sfumato.workflow.failures import Failure

LISTS = ("--softeners", "--train-cases", "--noise")


class ListOptions(TyperCommand):
    """Lets options of several values stand as `--softeners none superpixel`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the values of such an option by commas."""
        joined: list[str] = []
        is_list = False
        for word in args:
            if is_list and not word.startswith("-"):
                is_first = joined[-1] in LISTS
                joined[-1:] = [joined[-1], word] if is_first else [f"{joined[-1]},{word}"]
                continue
            is_list = word in LISTS
            joined.append(word)
        return super().parse_args(ctx, joined)


def compare(
    dataset: Annotated[
        Path,
        typer.Argument(help="A folder with images/ and labels/, a dataset.json or a cases.csv."),
    ],
    out: options.Out,
    softeners: Annotated[
        str,
        typer.Option(
            "--softeners",
            metavar="NAME NAME …",
            help="Kinds of soft labels; none is what the others are compared with. A name may"
            " bring settings: superpixel:superpixels.size_mm=4.",
        ),
    ] = "none,superpixel",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="How many seeds each kind is trained with.")
    ] = 3,
    folds: Annotated[
        str, typer.Option("--folds", help="N for all of N folds, K/N for one of them.")
    ] = "5",
    train_cases: Annotated[
        str,
        typer.Option(
            "--train-cases", metavar="N N … all", help="On how many cases models are trained."
        ),
    ] = "all",
    noise: Annotated[
        str,
        typer.Option(
            "--noise",
            metavar="NAME:MM …",
            help="Train on labels spoilt on purpose as well: none erode:1mm dilate:1mm jitter:2mm"
            " shift:2mm.",
        ),
    ] = "none",
    time: Annotated[
        str | None, typer.Option("--time", help="Wall-clock time of each training: 10min, 2h.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Steps of each training: exact, whatever else runs."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Trainings at a time; they share the cores.",
            show_default="1",
        ),
    ] = None,
    ray: options.Ray = None,
    config: options.Config = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep the trainings that are done, go on with the others."),
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Train models that differ in their soft labels alone, and compare them in pairs.

    Every kind is trained with the same seeds, folds and batches. comparison.json and
    report.html say what changed, with intervals over cases and seeds; better or worse
    is said only where an interval does not hold 0. Ctrl-C stops; the same command with
    --resume goes on, also with more seeds, folds or softeners.

    [dim]sfumato compare my_data --softeners none superpixel --steps 800 --out compared[/]
    """
    from sfumato.cases.dataset import Dataset
    from sfumato.cli.console import say
    from sfumato.workflow.comparing import Workplace
    from sfumato.workflow.experiment import ExperimentRequest

    if workers is not None and ray is not None:
        raise ConfigError("--workers is for this machine, --ray for a cluster; give one of them")
    if resume and overwrite:
        raise ConfigError("--resume keeps what is done, --overwrite removes it; give one of them")
    if time is None and steps is None:
        raise ConfigError(
            "each training needs a length: --time, such as --time 10min, or --steps, such as"
            " --steps 800"
        )
    request = ExperimentRequest(
        softeners=tuple(_split(softeners)),
        n_seeds=seeds,
        folds=folds,
        train_cases=tuple(_case_number(word) for word in _split(train_cases)),
        noises=tuple(_split(noise)),
        config_path=config,
        overrides=(*(settings or []), *training_length(time, steps)),
    )
    try:
        data = Dataset.open(dataset)
        workplace = Workplace(device=device, n_workers=workers or 1, ray=ray)
        with hold_folder(out):
            cells = _start(data, out, request, is_resumed=resume, overwrite=overwrite)
            failures = _train(data, cells, out, workplace)
            _report(data, request, cells, failures, out)
    except KeyboardInterrupt:
        say(f"Stopped; {out} keeps what is done. The same command with --resume goes on.")
        raise typer.Exit(INTERRUPTED) from None


def _start(
    data: "Dataset", out: Path, request: "ExperimentRequest", *, is_resumed: bool, overwrite: bool
) -> "list[Cell]":
    from sfumato.cli.console import track
    from sfumato.storage import MARK, check_output, claim_folder
    from sfumato.workflow.experiment import list_cells

    is_kept = is_resumed and (out / MARK).exists()
    if not is_kept:
        check_output(out, overwrite=overwrite, inputs=data.paths)
    cells = list_cells(data, request, track)
    if not is_kept:
        claim_folder(out, overwrite=overwrite, inputs=data.paths)
    return cells


def _train(
    data: "Dataset", cells: "Sequence[Cell]", out: Path, workplace: "Workplace"
) -> "list[Failure]":
    """Train what is not done, with a line for each training."""
    from sfumato.cli.console import say
    from sfumato.report.metric_words import counted
    from sfumato.report.page import duration
    from sfumato.workflow.comparing import train_cells

    n_before = sum(cell.metrics(out) is not None for cell in cells)
    say(f"{counted(len(cells), 'training')}, {n_before} of them done before")
    started, failures = clock.monotonic(), []
    results = train_cells(data, cells, out, workplace)
    for place, (cell, failure) in enumerate(results, start=n_before + 1):
        failures += [failure] if failure else []
        spent = clock.monotonic() - started
        left = spent / (place - n_before) * (len(cells) - place)
        how = "failed" if failure else _outcome(cell, out)
        say(f"{place} of {len(cells)}: {cell.words}: {how}; about {duration(left)} left")
    return failures


def _outcome(cell: "Cell", out: Path) -> str:
    from sfumato.evaluation.summary import MEAN
    from sfumato.report.metric_words import metric_number

    found = cell.metrics(out)
    dice = found["summary"][MEAN]["dice"] if found else None
    return f"Dice {metric_number('dice', float('nan') if dice is None else dice)}"


def _report(
    data: "Dataset",
    request: "ExperimentRequest",
    cells: "Sequence[Cell]",
    failures: "Sequence[Failure]",
    out: Path,
) -> None:
    from sfumato.cli.console import end_with, say
    from sfumato.report.comparison_words import (
        degradation_sentences,
        headline,
        verdict_sentences,
    )
    from sfumato.workflow.comparison_report import write_comparison

    if len(failures) < len(cells):
        summary = write_comparison(data, request, cells, failures, out)
        say(headline(summary), style="bold")
        for sentence in (*verdict_sentences(summary), *degradation_sentences(summary)):
            say(sentence)
        say(f"Report in {out / 'report.html'}")
    end_with(failures, len(cells), "trainings")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _case_number(word: str) -> int | None:
    if word == "all":
        return None
    if not word.isdigit() or int(word) < 1:
        raise ConfigError(f"--train-cases takes numbers above 0 and all, got {word!r}")
    return int(word)
