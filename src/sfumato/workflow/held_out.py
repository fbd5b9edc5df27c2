"""What a trained run is worth: its model on the cases that were held out."""

import json
import tomllib
from pathlib import Path

from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError, ConfigError
from sfumato.inference.predictor import Predictor
from sfumato.labels.postprocessing import PostprocessingSettings, postprocess
from sfumato.model.trained import TrainedModel
from sfumato.report.metric_words import counted
from sfumato.report.training_page import RunDescription, training_page
from sfumato.storage import write_text
from sfumato.training.loop import compute_dtype
from sfumato.workflow.evaluating import (
    PageFrame,
    Segment,
    Segmented,
    could_not_score,
    score_cases,
    write_evaluation,
)
from sfumato.workflow.failures import Failure
from sfumato.workflow.history import read_history
from sfumato.workflow.run import Run
from sfumato.workflow.tracking import Track, silently


def evaluate_held_out(
    run: Run, dataset: Dataset, track: Track = silently
) -> tuple[Path, list[Failure]]:
    """Segment and score the held-out cases of a run that has been trained.

    Args:
        run: A run whose model is written.
        dataset: The data set that the run was started with.
        track: Told how far the job is.

    Returns:
        The page, `RUN/evaluation/report.html`, with the metrics beside it; and the cases that
        are not in it, because they cannot be read or segmented any more.

    Raises:
        CaseError: If no held-out case can be segmented.
    """
    held_out = dataset.select(run.split.held_out_ids)
    model = TrainedModel.load(run.folder / "model")
    segment = segment_with(
        Predictor(
            model,
            device=run.device,
            dtype=compute_dtype(run.config.training.precision, run.device),
        )
    )
    scores, failures = score_cases(held_out, segment, track)
    if not scores:
        raise CaseError(failures[0].case_id, failures[0].reason)
    page = write_evaluation(
        held_out,
        scores,
        segment,
        run.folder / "evaluation",
        PageFrame(
            title=f"{dataset.name}: {len(held_out)} held-out cases",
            run=describe_run(run.folder),
            notes=[
                f"The model was trained on {len(run.split.train_ids)} other cases of the same data"
                " set. It is the one that stood at the end: these cases chose nothing.",
                *_start_notes(run),
                *_temperature_notes(run, model),
                *_postprocessing_notes(run, model),
                *map(could_not_score, failures),
            ],
        ),
    )
    return page, failures


def _start_notes(run: Run) -> list[str]:
    if run.start is None:
        return []
    return [
        f"Training started from the model {run.start.place}. If any of these cases had trained"
        " that model, they are not new to this one, and it looks better than it is."
    ]


def _temperature_notes(run: Run, model: TrainedModel) -> list[str]:
    if not run.split.calibration_ids:
        return []
    return [
        f"Logits are divided by {model.temperature:.3g}, the temperature that fits"
        f" {counted(len(run.split.calibration_ids), 'case')} that neither trained nor tested the"
        " model. It changes no segmentation, only how sure the model is."
    ]


def _postprocessing_notes(run: Run, model: TrainedModel) -> list[str]:
    if model.postprocessing == PostprocessingSettings():
        return []
    return [
        f"Segmentations are tidied up: {model.postprocessing.words}. That was better on"
        f" {counted(len(run.split.calibration_ids), 'case')} that neither trained nor tested the"
        " model."
    ]


def write_training_page(run: Run, dataset: Dataset) -> Path:
    """Write `RUN/report.html` for a run that held nothing out: how training went, and the plan."""
    page = training_page(
        describe_run(run.folder),
        title=f"{dataset.name}: trained on all {len(run.split.train_ids)} cases",
        class_names=run.classes.foreground,
        notes=["No case was held out, so nothing is known of how the model does on new ones."],
    )
    write_text(run.folder / "report.html", page)
    return run.folder / "report.html"


def segment_with(predictor: Predictor) -> Segment:
    """Make a predictor give what scoring takes, tidied up as its model asks for."""
    model = predictor.model

    def segment(case: Case) -> Segmented:
        found = predictor.predict(case.image, case.geometry)
        return Segmented(
            segmentation=postprocess(
                found.segmentation(),
                case.geometry.element_volume_mm3,
                model.classes.foreground,
                model.postprocessing,
            ),
            probability=found.probability,
            unscaled=found.unscaled,
        )

    return segment


def describe_run(folder: Path) -> RunDescription:
    """Read what a run wrote about itself: plan, history and origin.

    Raises:
        ConfigError: If the folder is no training run.
    """
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder}: is no training run (there is no run.json in it)")
    origin = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return RunDescription(
        plan=tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")),
        history=read_history(folder / "history.jsonl"),
        provenance={name: value for name, value in origin.items() if name != "split"},
    )
