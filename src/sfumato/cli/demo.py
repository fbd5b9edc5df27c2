"""`sfumato demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import options

if TYPE_CHECKING:
    from sfumato.cases.dataset import Dataset
    from sfumato.workflow.evaluating import Segment
    from sfumato.workflow.run import Run

STEPS_PER_MODEL = 200


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, models and report.")] = Path(
        "demo"
    ),
    open_report: Annotated[
        bool, typer.Option("--open", help="Show the report in the browser at the end.")
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Watch the whole job on real images, in about five minutes.

    Slices of the MNI152 brain template become superpixels, soft labels, two trained models
    (one on hard labels, to compare), segmentations and a report. One averaged brain proves no
    accuracy: this shows what sfumato does, not how good it is.
    """
    from sfumato.cli.console import say, track
    from sfumato.storage import claim_folder
    from sfumato.workflow.demo import model_section, soft_label_section, write_demo_data
    from sfumato.workflow.evaluating import PageFrame, score_cases, write_evaluation
    from sfumato.workflow.held_out import describe_run

    claim_folder(out, overwrite=overwrite)
    train, test = write_demo_data(out / "data")
    say(f"{len(train)} slices to train on, {len(test)} to test on, in {out / 'data'}")
    run, segment = _train(train, out / "run", "superpixel")
    _, segment_hard = _train(train, out / "run_hard", "none")
    scores, _ = score_cases(test, segment, track)
    truth = out / "data" / "test"
    models = {"trained on superpixel labels": segment, "trained on hard labels": segment_hard}
    report = write_evaluation(
        test,
        scores,
        segment,
        out,
        PageFrame(
            title="sfumato on the MNI152 brain template",
            run=describe_run(run.folder),
            notes=[
                "All slices come from one averaged brain, so this shows what sfumato does; it"
                " proves no accuracy.",
                "The hard labels were made from the probability maps, not drawn by a person.",
            ],
            extra_sections=[
                soft_label_section(test, truth, run.config.superpixels),
                model_section(test, truth, models),
            ],
        ),
    )
    say(f"Report: {report}", style="bold")
    if open_report:
        typer.launch(str(report))


def _train(dataset: "Dataset", out: Path, method: str) -> "tuple[Run, Segment]":
    from sfumato.cli.console import say, track
    from sfumato.cli.plan import print_plan
    from sfumato.cli.train import watch
    from sfumato.config import load_config
    from sfumato.inference.predictor import Predictor
    from sfumato.model.trained import TrainedModel
    from sfumato.workflow.held_out import segment_with
    from sfumato.workflow.run import RunRequest, start_run
    from sfumato.workflow.run_config import RunConfig
    from sfumato.workflow.training import run_training

    overrides = [f"softening.method={method}", f"training.steps={STEPS_PER_MODEL}"]
    wishes = load_config(RunConfig, None, overrides)
    run = start_run(dataset, out, wishes, RunRequest(fold="0/5"), track)
    say(f"\nTraining on {'hard' if method == 'none' else method} labels", style="bold")
    print_plan(run)
    watch(run_training(run))
    return run, segment_with(Predictor(TrainedModel.load(out), device=run.device))
