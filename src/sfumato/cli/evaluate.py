"""`sfumato evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def evaluate(
    references: Annotated[
        Path, typer.Argument(help="A data set with labels, or a folder of label files.")
    ],
    segmentations: Annotated[
        Path,
        typer.Argument(
            help="A folder of label files or DICOM SEG with the same names, as segment writes."
        ),
    ],
    out: options.Out,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="The training run, to show its plan and curves on the page."),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Compare segmentations with references: metrics.json, metrics.csv and report.html.

    Every segmentation that is there is compared with the reference of its name. Calibration
    is measured where there are probabilities (segment --probabilities).

    [dim]sfumato evaluate my_data segmentations --out evaluation[/]
    """
    from sfumato.cli.console import end_with, say, track
    from sfumato.cli.metrics import print_metrics
    from sfumato.storage import check_output, claim_folder
    from sfumato.workflow.evaluating import (
        PageFrame,
        choose_segmented,
        could_not_score,
        open_references,
        score_cases,
        segmentations_in,
        without_segmentation,
        write_evaluation,
    )
    from sfumato.workflow.held_out import describe_run

    everything = open_references(references)
    dataset = choose_segmented(everything, segmentations)
    segment = segmentations_in(segmentations, dataset.classes)
    description = describe_run(run) if run else None
    inputs = [*everything.paths, segmentations, *([run] if run else [])]
    check_output(out, overwrite=overwrite, inputs=inputs)
    scores, failures = score_cases(dataset, segment, track)
    if not scores:
        end_with(failures, len(dataset))
    claim_folder(out, overwrite=overwrite)
    page = write_evaluation(
        dataset,
        scores,
        segment,
        out,
        PageFrame(
            title=f"{segmentations.resolve().name} against {dataset.name}",
            run=description,
            notes=[*without_segmentation(everything, dataset), *map(could_not_score, failures)],
        ),
    )
    print_metrics(out)
    say(f"Report on {len(scores)} of {len(everything)} cases in {page}")
    end_with(failures, len(dataset))
