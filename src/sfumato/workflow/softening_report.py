"""The page on a folder of soft labels: what softening did to them."""

import json
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from sfumato.arrays import Probability
from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError, SfumatoError
from sfumato.evaluation.softness import Softness, measure_softness
from sfumato.evaluation.summary import nan_to_null
from sfumato.image.files import read_probability
from sfumato.labels.annotators import raters_mean
from sfumato.labels.classes import ClassList
from sfumato.labels.soft_label_file import SUFFIX, read_soft_label
from sfumato.report.figures import softening_figure
from sfumato.report.softening_page import example_ids, softening_page
from sfumato.storage import write_text
from sfumato.workflow.archive import SofteningJob, guiding_superpixels
from sfumato.workflow.describing import SPACING_NOTE
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.softening import SofteningConfig
from sfumato.workflow.tracking import Track, silently

PAGE_NAME, FIGURES_NAME = "report.html", "softness.json"


def write_softening_report(
    dataset: Dataset, config: SofteningConfig, out: Path, track: Track = silently
) -> Path | None:
    """Write `softness.json` and `report.html` beside the soft labels of a folder.

    Soft labels are read back, so that the page tells of what was written, by how many processes
    and in how many goes whatsoever. Cases without a soft label are left out, and said to be.

    Args:
        dataset: The cases whose labels were softened.
        config: How that was done.
        out: The folder that holds `case.nii.gz` or `case.sfsl` for each case.
        track: Told how far the job is.

    Returns:
        The page; None if the folder holds no soft label that can be read.
    """
    cases, failures, is_placed, is_flat = [], [], True, False
    for case_id in track(dataset.case_ids, "Measuring soft labels", len(dataset)):
        try:
            case = dataset.load(case_id)
            cases.append(_measure(case, out, dataset.classes, config))
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(case_id, error))
            continue
        is_placed = is_placed and case.geometry.is_placed
        is_flat = len(case.geometry.shape) == 2
    if not cases:
        return None
    document = nan_to_null({"cases": [asdict(case) for case in cases]})
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / FIGURES_NAME, text + "\n")
    page = softening_page(
        cases,
        title=f"Soft labels of {dataset.name}",
        pictures={
            case_id: _draw(dataset.load(case_id), out, dataset.classes, config)
            for case_id in example_ids(cases)
        },
        volume_unit="mm²" if is_flat else "mm³",
        settings=config.model_dump(exclude_none=True),
        notes=[
            *([] if is_placed else [SPACING_NOTE]),
            *(f"Case {f.case_id} is left out: {f.reason}" for f in failures),
        ],
        provenance={**provenance(), "dataset": dataset.name},
    )
    write_text(out / PAGE_NAME, page)
    return out / PAGE_NAME


def _read(case: Case, out: Path, classes: ClassList, config: SofteningConfig) -> Probability:
    job = SofteningJob(
        out=out, classes=classes, softening=config.softening, superpixels=config.superpixels
    )
    # Whether cases are spread over folders depends on how many there were at the beginning.
    places = [
        replace(job, is_sharded=is_sharded, is_compact=is_compact).outputs(case.id)[0]
        for is_sharded, is_compact in product((False, True), repeat=2)
    ]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise CaseError(case.id, f"{places[0]}: there is no such soft label")
    if path.suffix == SUFFIX:
        found = read_soft_label(path)
        soft_label, geometry = found.probability, found.geometry
    else:
        soft_label, geometry = read_probability(path)
    if difference := case.geometry.difference(geometry):
        raise CaseError(case.id, f"{path}: the soft label is not on the image's grid: {difference}")
    return soft_label


def _measure(case: Case, out: Path, classes: ClassList, config: SofteningConfig) -> Softness:
    if case.label is None:
        raise CaseError(case.id, "it has no label to compare with")
    return measure_softness(
        case.label,
        _read(case, out, classes, config),
        case.geometry.spacing,
        classes,
        superpixels=guiding_superpixels(case, config.softening, config.superpixels),
        # A label that was made from all raters is not judged by them.
        rater_labels=() if config.softening.method == "raters" else case.rater_labels,
        case_id=case.id,
    )


def _draw(case: Case, out: Path, classes: ClassList, config: SofteningConfig) -> bytes:
    has_raters = len(case.rater_labels) > 1
    return softening_figure(
        case,
        _read(case, out, classes, config),
        classes,
        superpixels=guiding_superpixels(case, config.softening, config.superpixels),
        raters_mean=raters_mean(case.rater_labels, len(classes)) if has_raters else None,
        title=case.id,
    )
