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
        typer.Argument(help="A folder of label files with the same names, as segment writes."),
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
    from sfumato.cli.console import console, print_failures, track
    from sfumato.errors import CaseError
    from sfumato.storage import claim_folder
    from sfumato.workflow.evaluating import (
        PageFrame,
        choose_segmented,
        open_references,
        score_cases,
        segmentations_in,
        write_evaluation,
    )
    from sfumato.workflow.held_out import describe_run

    dataset = choose_segmented(open_references(references), segmentations)
    segment = segmentations_in(segmentations, dataset.classes)
    description = describe_run(run) if run else None
    claim_folder(out, overwrite=overwrite)
    scores, failures = score_cases(dataset, segment, track)
    if not scores:
        raise CaseError(failures[0].case_id, failures[0].reason)
    page = write_evaluation(
        dataset,
        scores,
        segment,
        out,
        PageFrame(
            title=f"{segmentations.resolve().name} against {dataset.name}",
            run=description,
            notes=[f"Case {f.case_id} could not be compared: {f.reason}" for f in failures],
        ),
    )
    console.print(f"Report on {len(scores)} cases in {page}")
    if failures:
        print_failures([(f.case_id, f.reason) for f in failures], len(dataset))
        raise typer.Exit(1)
