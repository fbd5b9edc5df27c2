"""Softening the labels of many cases, from files to files."""

import json
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.config import save_config
from sfumato.errors import CaseError, DatasetError, SfumatoError
from sfumato.image.files import write_probability
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels
from sfumato.report.figures import softening_figure
from sfumato.settings import Settings
from sfumato.storage import atomic_path, write_text
from sfumato.training.fingerprint import measure_fingerprint
from sfumato.training.plan import choose_superpixel_size
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.run import fingerprint_sample
from sfumato.workflow.tracking import Track, silently

REPORT_NAME = "run.json"
"""File, beside the soft labels, that says how they were made."""


class SofteningConfig(Settings):
    """All settings of `sfumato soften`."""

    superpixels: SuperpixelSettings = SuperpixelSettings()
    softening: SofteningSettings = SofteningSettings()


def plan_softening(
    dataset: Dataset, wishes: SofteningConfig, track: Track = silently
) -> SofteningConfig:
    """Choose the superpixels' size from the data as training does, unless it is set.

    Cases that cannot be read have no say; softening them tells what is wrong.

    Raises:
        DatasetError: If there are no labels at all.
    """
    if not any(record.label_paths for record in dataset.records):
        raise DatasetError(
            f"{dataset.name}: has no labels, so there is nothing to soften; put labels of the same"
            " names into labels/ beside images/"
        )
    superpixels = wishes.superpixels
    if superpixels.size_mm is None and wishes.softening.method == "superpixel":
        size_mm = _choose_size(dataset, track)
        superpixels = superpixels.model_copy(update={"size_mm": size_mm})
    if dataset.is_photo:
        superpixels = superpixels.model_copy(update={"is_photo": True})
    return wishes.model_copy(update={"superpixels": superpixels})


def _choose_size(dataset: Dataset, track: Track) -> float | None:
    ids = fingerprint_sample(dataset.case_ids)
    cases = _readable(dataset, track(ids, "Looking at the data", len(ids)))
    first = next(cases, None)
    if first is None:
        return None
    fingerprint = measure_fingerprint(chain([first], cases), dataset.classes)
    return choose_superpixel_size(fingerprint, fingerprint.spacing_mm)


def _readable(dataset: Dataset, case_ids: Iterable[str]) -> Iterator[Case]:
    for case_id in case_ids:
        try:
            case = dataset.load(case_id)
        except SfumatoError:
            continue
        if case.label is not None:
            yield case


def soften_cases(
    dataset: Dataset, config: SofteningConfig, out: Path, track: Track = silently
) -> list[Failure]:
    """Write the soft label and a picture of every case of a data set.

    `case.nii.gz` holds the probability of each class, classes last, on the label's own
    grid; `case.png` shows image, superpixels, hard and soft label. A bad case does not
    stop the others.

    Args:
        dataset: Cases with labels.
        config: Which rule, and how superpixels are made.
        out: Folder that is filled.
        track: Told how far the job is.

    Returns:
        The cases that could not be softened.
    """
    failures, softened_shares = [], {}
    save_config(config, out / "config.toml")
    started = time.monotonic()
    for case_id in track(dataset.case_ids, "Softening labels", len(dataset)):
        try:
            case = dataset.load(case_id)
            softened_shares[case_id] = _soften_case(case, dataset, config, out)
        except SfumatoError as error:
            failures.append(Failure.of(case_id, error))
    report = {
        **provenance(),
        "dataset": dataset.name,
        "classes": dataset.classes.names,
        "seconds": round(time.monotonic() - started, 3),
        "softened_share": softened_shares,
        "failures": {failure.case_id: failure.reason for failure in failures},
    }
    write_text(out / REPORT_NAME, json.dumps(report, indent=2))
    return failures


def _soften_case(case: Case, dataset: Dataset, config: SofteningConfig, out: Path) -> float:
    """Write one case, and return which share of its elements was softened."""
    if case.label is None:
        raise CaseError(case.id, "it has no label to soften; add one or leave the case out")
    if f"{case.id}.json" == REPORT_NAME:
        raise CaseError(
            case.id, f"its class names and the report would both be {REPORT_NAME}; rename the case"
        )
    spacing = case.geometry.spacing
    soft_label = soften(
        case.image,
        case.label,
        spacing,
        len(dataset.classes),
        config.softening,
        config.superpixels,
    )
    write_probability(out / f"{case.id}.nii.gz", soft_label, case.geometry, dataset.classes.names)
    superpixels = (
        compute_superpixels(case.image, spacing, config.superpixels)
        if config.softening.method == "superpixel"
        else None
    )
    picture = softening_figure(
        case, soft_label, dataset.classes, superpixels=superpixels, title=case.id
    )
    with atomic_path(out / f"{case.id}.png") as temporary:
        temporary.write_bytes(picture)
    return float(np.mean(soft_label.max(axis=0) < 1))
