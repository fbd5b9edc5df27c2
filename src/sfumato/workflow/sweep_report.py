"""What is written about a sweep: its numbers, the recommended settings, a page."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.config import save_config
from sfumato.evaluation.recommendation import Recommendation, edges, recommend
from sfumato.evaluation.summary import nan_to_null
from sfumato.evaluation.sweep import FIGURES, Candidate, PerCase, Sweep, soften_by
from sfumato.labels.annotators import raters_mean
from sfumato.labels.classes import ClassList
from sfumato.report.figures import softening_figure
from sfumato.report.sweep_page import SweepExample, sweep_page
from sfumato.report.sweep_words import reason, verdict
from sfumato.storage import write_text
from sfumato.workflow.archive import guiding_superpixels
from sfumato.workflow.describing import SPACING_NOTE
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.softening import SofteningConfig


def write_sweep(
    dataset: Dataset,
    sweep: Sweep,
    failures: Sequence[Failure],
    out: Path,
    seconds: float,
) -> Recommendation:
    """Write `sweep.json`, `config.toml` with the recommended settings, and `report.html`.

    Args:
        dataset: The cases.
        sweep: What was measured on them.
        failures: The cases that could not be measured.
        out: The folder.
        seconds: How long measuring took.

    Returns:
        What is recommended.
    """
    found = recommend(sweep)
    chosen = sweep.candidates[found.chosen]
    config = SofteningConfig(superpixels=chosen.superpixels, softening=chosen.softening)
    save_config(config, out / "config.toml")
    origin = {**provenance(), "dataset": dataset.name, "seconds": round(seconds, 1)}
    document = {**origin, **_document(sweep, found, failures)}
    text = json.dumps(nan_to_null(document), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "sweep.json", text + "\n")
    examples, is_placed = _examples(dataset, sweep, found)
    page = sweep_page(
        sweep,
        found,
        title=f"Superpixels for {dataset.name}",
        examples=examples,
        notes=[
            *([] if is_placed else [SPACING_NOTE]),
            *(f"Case {f.case_id} could not be measured: {f.reason}" for f in failures),
        ],
        provenance=origin,
    )
    write_text(out / "report.html", page)
    return found


def _document(sweep: Sweep, found: Recommendation, failures: Sequence[Failure]) -> dict[str, Any]:
    means = {figure: sweep.chosen_by(figure) for figure in FIGURES}
    split = [
        [i for i, is_out in zip(sweep.case_ids, sweep.is_held_out, strict=True) if is_out == part]
        for part in (False, True)
    ]
    return {
        "cases": {"choosing": split[0], "held_out": split[1]},
        "recommended": _numbers_of(sweep.candidates[found.chosen]),
        "criterion": found.criterion,
        "reason": reason(sweep, found),
        "verdict": verdict(found),
        "at_edge": edges(sweep, found),
        "best": {
            method: {
                **_numbers_of(sweep.candidates[index]),
                "held_out": {f: asdict(e) for f, e in found.estimates[method].items()},
            }
            for method, index in found.best.items()
        },
        "differences": {
            method: {f: {**asdict(d), "verdict": d.verdict} for f, d in by_figure.items()}
            for method, by_figure in found.differences.items()
        },
        "candidates": [
            {
                **_numbers_of(candidate),
                "choosing": {figure: float(means[figure][i]) for figure in FIGURES},
            }
            for i, candidate in enumerate(sweep.candidates)
        ],
        "failures": {failure.case_id: failure.reason for failure in failures},
    }


def _numbers_of(candidate: Candidate) -> dict[str, Any]:
    return {"method": candidate.method, **candidate.numbers}


def _examples(
    dataset: Dataset, sweep: Sweep, found: Recommendation
) -> tuple[list[SweepExample], bool]:
    """Draw the held-out cases that gain most, least and as the median does.

    Returns:
        The pictures, and whether files say how large these cases' elements are.
    """
    gain = _gain(sweep, found)
    ranked = [i for i in np.argsort(-gain) if sweep.is_held_out[i] and math.isfinite(gain[i])]
    if not ranked:
        return [], True
    over = "over the hard label" if found.differences else "over a grid"
    roles = {0: "most gain", len(ranked) // 2: "median gain", len(ranked) - 1: "least gain"}
    examples, is_placed = [], True
    for place, role in sorted(roles.items()):
        case = dataset.load(sweep.case_ids[ranked[place]])
        is_placed = is_placed and case.geometry.is_placed
        picture = _draw(case, dataset.classes, sweep.candidates[found.chosen])
        words = f"{role} {over}"
        examples.append(SweepExample(case_id=case.id, role=words, picture=picture))
    return examples, is_placed


def _gain(sweep: Sweep, found: Recommendation) -> PerCase:
    if found.criterion == "accuracy_gain":
        return sweep.figures["accuracy_gain"][found.chosen]
    error = sweep.figures["brier"]
    return error[found.best["none"]] - error[found.chosen]


def _draw(case: Case, classes: ClassList, candidate: Candidate) -> bytes:
    has_raters = len(case.rater_labels) > 1
    return softening_figure(
        case,
        soften_by(candidate, case, len(classes)),
        classes,
        superpixels=guiding_superpixels(case, candidate.softening, candidate.superpixels),
        raters_mean=raters_mean(case.rater_labels, len(classes)) if has_raters else None,
        title=case.id,
    )
