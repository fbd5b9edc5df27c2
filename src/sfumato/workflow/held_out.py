"""What a trained run is worth: its model on the cases that were held out."""

import json
import tomllib
from pathlib import Path

from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError
from sfumato.inference.predictor import Predictor
from sfumato.model.trained import TrainedModel
from sfumato.report.training_page import RunDescription
from sfumato.training.loop import compute_dtype
from sfumato.workflow.evaluating import (
    PageFrame,
    Segment,
    Segmented,
    score_cases,
    write_evaluation,
)
from sfumato.workflow.history import read_history
from sfumato.workflow.tracking import Track, silently
from sfumato.workflow.training import Run


def evaluate_held_out(run: Run, dataset: Dataset, track: Track = silently) -> Path:
    """Segment and score the held-out cases of a run that has been trained.

    Args:
        run: A run whose model is written.
        dataset: The data set that the run was started with.
        track: Told how far the job is.

    Returns:
        The page, `RUN/evaluation/report.html`; the metrics stand beside it.

    Raises:
        CaseError: If a held-out case cannot be segmented.
    """
    held_out = dataset.select(run.split.held_out_ids)
    segment = segment_with(
        Predictor(
            TrainedModel.load(run.folder / "model"),
            device=run.device,
            dtype=compute_dtype(run.config.training.precision, run.device),
        )
    )
    scores, failures = score_cases(held_out, segment, track)
    if failures:
        raise CaseError(failures[0].case_id, failures[0].reason)
    return write_evaluation(
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
            ],
        ),
    )


def segment_with(predictor: Predictor) -> Segment:
    """Make a predictor give what scoring takes."""

    def segment(case: Case) -> Segmented:
        probability_map = predictor.predict(case.image, case.geometry)
        return probability_map.segmentation(), probability_map.probability

    return segment


def describe_run(folder: Path) -> RunDescription:
    """Read what a run wrote about itself: plan, history and origin."""
    origin = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return RunDescription(
        plan=tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")),
        history=read_history(folder / "history.jsonl"),
        provenance={name: value for name, value in origin.items() if name != "split"},
    )
