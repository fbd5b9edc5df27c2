"""What is written about an experiment: its numbers and a page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.cases.dataset import Dataset
from sfumato.evaluation.experiment import (
    Average,
    Contrast,
    Degradation,
    ExperimentSummary,
    summarise_experiment,
)
from sfumato.evaluation.runs import Condition, RunScores, run_scores_of
from sfumato.evaluation.spoilt import SpoiltSummary
from sfumato.evaluation.summary import nan_to_null
from sfumato.metrics.calibration import ReliabilityCurve, merge
from sfumato.model.trained import read_description
from sfumato.report.comparison_curves import LearningCurve
from sfumato.report.comparison_page import ExperimentPictures, comparison_page
from sfumato.report.comparison_tables import TrainingLength
from sfumato.report.comparison_words import (
    condition_words,
    degradation_sentences,
    difference_number,
    verdict_sentences,
)
from sfumato.report.evaluation_page import read_curve
from sfumato.report.figures import overlay_figure
from sfumato.report.page import Picture
from sfumato.report.viewed_case import view_case
from sfumato.storage import write_text
from sfumato.workflow.comparing import segment_by
from sfumato.workflow.experiment import Cell, ExperimentRequest, put_baseline_first
from sfumato.workflow.failures import Failure
from sfumato.workflow.history import read_history
from sfumato.workflow.provenance import provenance
from sfumato.workflow.spoiling import read_spoilt

MOST_VIEWED = 6
"""Pictures whose cases the page holds whole, at most: three cases, by both kinds of label."""
REGIONS = {"image": "whole image", "boundary": "boundary band"}
Done = Sequence[tuple[Cell, Mapping[str, Any]]]
"""Trainings that are done, each with its `metrics.json`."""


def write_comparison(
    dataset: Dataset,
    request: ExperimentRequest,
    cells: Sequence[Cell],
    failures: Sequence[Failure],
    out: Path,
) -> ExperimentSummary:
    """Write `comparison.json` and `report.html` on the trainings that are done.

    Args:
        dataset: The cases.
        request: What was to be compared.
        cells: All trainings of the experiment.
        failures: Those that could not be done.
        out: The experiment's folder.

    Returns:
        What was found.
    """
    done = [(cell, found) for cell in cells if (found := cell.metrics(out)) is not None]
    softeners = put_baseline_first(request.softeners)
    summary = summarise_experiment(
        [_scores(cell, found) for cell, found in done],
        softeners,
        request.conditions,
        dataset.classes.foreground,
    )
    origin: dict[str, Any] = {
        **provenance(),
        "dataset": dataset.name,
        "softeners": list(softeners),
        "seeds": request.n_seeds,
        "folds": request.folds,
        "train_cases": ["all" if n is None else n for n in request.train_cases],
        "noise": list(summary.noises),
        "settings": list(request.overrides),
    }
    spoilt = _spoilt(cells, out)
    runs = [_run_document(cell, out) for cell, _ in done]
    document = {
        **origin,
        "baseline": summary.baseline,
        "verdicts": [*verdict_sentences(summary), *degradation_sentences(summary)],
        "comparisons": [_flat(c) for c in summary.contrasts],
        "degradations": [_flat(d) for d in summary.degradations],
        "averages": [_flat(average) for average in summary.averages],
        "spoilt_labels": {noise: asdict(found) for noise, found in spoilt.items()},
        "runs": runs,
        "failures": {failure.case_id: failure.reason for failure in failures},
    }
    text = json.dumps(nan_to_null(document), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "comparison.json", text + "\n")
    page = comparison_page(
        summary,
        replace(
            _pictures(dataset, done, summary, out),
            spoilt=spoilt,
            lengths=_lengths(done, runs),
            temperatures=_temperatures(done, runs),
        ),
        title=f"Labels compared on {dataset.name}",
        notes=[f"{failure.case_id}: failed ({failure.reason})" for failure in failures],
        provenance={**origin, "training_seconds": sum(run["seconds"] for run in runs)},
    )
    write_text(out / "report.html", page)
    return summary


def _scores(cell: Cell, found: Mapping[str, Any]) -> RunScores:
    return RunScores(
        softener=cell.softener,
        condition=cell.condition,
        fold=cell.fold,
        seed=cell.seed,
        cases=run_scores_of(found),
    )


def _flat(entry: Average | Contrast | Degradation) -> dict[str, Any]:
    """Put an entry, its condition and its difference on one level."""
    content = asdict(entry)
    flat = {**content.pop("condition"), **content}
    if isinstance(entry, Average):
        return flat
    flat |= {**flat.pop("found"), "verdict": entry.found.verdict}
    if isinstance(entry, Degradation) and entry.beside_baseline is not None:
        flat["beside_baseline"] |= {"verdict": entry.beside_baseline.verdict}
    return flat


def _spoilt(cells: Sequence[Cell], out: Path) -> dict[str, SpoiltSummary]:
    """Tell of every noise how far it spoilt labels."""
    folders: dict[str, dict[Path, None]] = {}
    for cell in cells:
        if folder := cell.spoilt_folder(out):
            folders.setdefault(cell.condition.noise, {})[folder] = None
    found = {noise: read_spoilt(places) for noise, places in folders.items()}
    return {noise: summary for noise, summary in found.items() if summary}


def _lengths(
    done: Done, runs: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, Condition], TrainingLength]:
    """Average what trainings of each kind and condition took."""
    found: dict[tuple[str, Condition], list[tuple[float, float]]] = {}
    for (cell, _), run in zip(done, runs, strict=True):
        arm = found.setdefault((cell.softener, cell.condition), [])
        arm.append((run["steps"], run["seconds"] / 60))
    means = {arm: np.mean(lengths, axis=0).tolist() for arm, lengths in found.items()}
    return {arm: TrainingLength(steps=s, minutes=m) for arm, (s, m) in means.items()}


def _temperatures(
    done: Done, runs: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, Condition], list[float]]:
    """Gather the temperatures of models whose settings ask for one."""
    found: dict[tuple[str, Condition], list[float]] = {}
    for (cell, _), run in zip(done, runs, strict=True):
        if cell.config.calibration.cases:
            found.setdefault((cell.softener, cell.condition), []).append(run["temperature"])
    return found


def _run_document(cell: Cell, out: Path) -> dict[str, Any]:
    history = read_history(cell.folder(out) / "history.jsonl")
    last = history[-1] if history else {}
    return {
        "softener": cell.softener,
        **asdict(cell.condition),
        "fold": cell.fold,
        "seed": cell.seed,
        "folder": cell.folder(out).relative_to(out).as_posix(),
        "steps": last.get("step", 0),
        "seconds": last.get("elapsed_seconds", 0.0),
        "temperature": read_description(cell.folder(out)).temperature,
    }


def _pictures(
    dataset: Dataset, done: Done, summary: ExperimentSummary, out: Path
) -> ExperimentPictures:
    main = summary.main_condition
    learning = {
        condition: [
            curve
            for softener in summary.softeners
            if (curve := _learning_curve(softener, _cells(done, softener, condition), out))
        ]
        for condition in summary.conditions
    }
    reliability = {
        softener: _pooled([m for c, m in done if (c.softener, c.condition) == (softener, main)])
        for softener in summary.softeners
    }
    starts = [json.loads((c.folder(out) / "run.json").read_text("utf-8")) for c, _ in done]
    return ExperimentPictures(
        learning=learning,
        reliability=reliability,
        cases=_case_pictures(dataset, done, summary, out),
        most_cases=max((len(start["split"]["train"]) for start in starts), default=0),
    )


def _cells(done: Done, softener: str, condition: Condition) -> list[Cell]:
    return [c for c, _ in done if (c.softener, c.condition) == (softener, condition)]


def _learning_curve(softener: str, cells: Sequence[Cell], out: Path) -> LearningCurve | None:
    """Average the validations of several runs, the first with the first and so on."""
    runs = []
    for cell in cells:
        rows = [r for r in read_history(cell.folder(out) / "history.jsonl") if "mean_dice" in r]
        runs.append(
            [[r["step"], r["elapsed_seconds"] / 60, r["mean_dice"] or math.nan] for r in rows]
        )
    n_shared = min((len(run) for run in runs), default=0)
    if not n_shared:
        return None
    steps, minutes, dice = np.array([run[:n_shared] for run in runs]).mean(axis=0).T.tolist()
    return LearningCurve(softener=softener, steps=steps, minutes=minutes, dice=dice)


def _pooled(found: Sequence[Mapping[str, Any]]) -> dict[str, ReliabilityCurve]:
    return {
        words: merge(curves)
        for region, words in REGIONS.items()
        if (curves := [read_curve(m["reliability"][region]) for m in found if m["reliability"]])
    }


def _case_pictures(
    dataset: Dataset, done: Done, summary: ExperimentSummary, out: Path
) -> list[Picture]:
    """Draw the case that gained most and the one that lost most, by both kinds of label."""
    main = summary.main_condition
    drawn: list[Picture] = []
    for softener in summary.softeners[1:]:
        changes = summary.case_changes.get((softener, main), {})
        if not changes:
            continue
        for role, choose, sign in (("gained", max, 1), ("lost", min, -1)):
            case_id = choose(changes, key=lambda i: changes[i])
            if sign * changes[case_id] <= 0:
                continue
            change = f"{softener}: {role} most, Dice {difference_number('dice', changes[case_id])}"
            n_viewed = sum(picture.viewed is not None for picture in drawn)
            is_viewed = role == "lost" and n_viewed < MOST_VIEWED
            for name in (summary.baseline, softener):
                cells = _cells(done, name, main)
                drawn += _case_picture(dataset, case_id, cells, out, change, is_viewed)
    return drawn


def _case_picture(
    dataset: Dataset,
    case_id: str,
    cells: Sequence[Cell],
    out: Path,
    change: str,
    is_viewed: bool,
) -> list[Picture]:
    """Draw a case as the first seed's model of its fold segments it."""
    for cell in cells:
        start = json.loads((cell.folder(out) / "run.json").read_text("utf-8"))
        if case_id not in start["split"]["held_out"]:
            continue
        case = dataset.load(case_id)
        found = segment_by(cell.folder(out), cell, "cpu")(case)
        shown = (case, found.segmentation, dataset.classes)
        content = overlay_figure(*shown, probability=found.probability)
        viewed = view_case(*shown, found.probability) if is_viewed else None
        words = f"{cell.softener} labels, {condition_words(cell.condition)}, seed {cell.seed}"
        return [
            Picture(
                title=f"{case_id}, {words}",
                content=content,
                alt=f"Image, reference, segmentation and doubts of case {case_id}, {words}.",
                caption=change,
                viewed=viewed,
            )
        ]
    return []
