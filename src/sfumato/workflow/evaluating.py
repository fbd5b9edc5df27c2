"""Comparing segmentations with references: numbers, pictures and a page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.arrays import Label, Probability
from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError, DatasetError, SfumatoError
from sfumato.evaluation.rater_scores import score_raters
from sfumato.evaluation.scores import CaseScore, add_unscaled, score_case
from sfumato.evaluation.summary import summarise, write_metrics
from sfumato.image.dicom_seg_reading import (
    is_dicom_segmentation,
    read_dicom_label,
    read_dicom_probability,
)
from sfumato.image.files import (
    IMAGE_SUFFIXES,
    file_stem,
    file_suffix,
    read_label,
    read_probability,
)
from sfumato.labels.classes import ClassList
from sfumato.report.evaluation_page import ShownCase, evaluation_page
from sfumato.report.evaluation_words import example_cases
from sfumato.report.figures import overlay_figure
from sfumato.report.page import Section
from sfumato.report.training_page import RunDescription
from sfumato.report.viewed_case import view_case
from sfumato.storage import write_text
from sfumato.workflow.case_files import PROBABILITIES
from sfumato.workflow.describing import SPACING_NOTE
from sfumato.workflow.failures import Failure
from sfumato.workflow.tracking import Track, silently


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmented:
    """What was found in a case.

    Attributes:
        segmentation: The class of every element.
        probability: The probability of every class, if it is known.
        unscaled: What it was before the model's temperature, if it has one.
    """

    segmentation: Label
    probability: Probability | None = None
    unscaled: Probability | None = None


Segment = Callable[[Case], Segmented]
"""Finds the segmentation of a case, and its probabilities if there are any."""


@dataclass(frozen=True, kw_only=True)
class PageFrame:
    """What a page says besides the numbers.

    Attributes:
        title: The heading.
        run: The plan and the course of the training, if they are known.
        notes: What a reader must know, in plain words.
        extra_sections: More for the page.
    """

    title: str
    run: RunDescription | None = None
    notes: Sequence[str] = ()
    extra_sections: Sequence[Section] = ()


def score_cases(
    dataset: Dataset, segment: Segment, track: Track = silently
) -> tuple[list[CaseScore], list[Failure]]:
    """Score the segmentation of every case; a bad case does not stop the others."""
    scores, failures = [], []
    for case_id in track(dataset.case_ids, "Scoring", len(dataset)):
        try:
            case = dataset.load(case_id)
            scores.append(_score(case, segment(case), dataset.classes))
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(case_id, error))
    return scores, failures


def _score(case: Case, found: Segmented, classes: ClassList) -> CaseScore:
    if case.label is None:
        raise CaseError(case.id, "it has no reference label to compare with")
    spacing = case.geometry.spacing
    score = score_case(case.label, found.segmentation, spacing, classes, found.probability, case.id)
    if found.unscaled is not None:
        score = add_unscaled(score, case.label, spacing, found.unscaled)
    raters = score_raters(case.rater_labels, found.segmentation, found.probability, classes)
    return replace(score, overall={**score.overall, **raters})


def write_evaluation(
    dataset: Dataset,
    scores: Sequence[CaseScore],
    segment: Segment,
    out: Path,
    frame: PageFrame,
) -> Path:
    """Write `metrics.json`, `metrics.csv` and `report.html` into a folder.

    Args:
        dataset: Images and references.
        scores: What each case scored.
        segment: Gives the segmentations that are shown again as pictures.
        out: The folder.
        frame: What else the page says.

    Returns:
        The page.
    """
    write_metrics(summarise(scores, dataset.classes), out)
    evaluation = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    shown, is_placed = {}, True
    for example in example_cases(evaluation):
        case = dataset.load(example.case_id)
        is_placed = is_placed and case.geometry.is_placed
        found = segment(case)
        drawn = (case, found.segmentation, dataset.classes)
        shown[example.case_id] = ShownCase(
            overlay=overlay_figure(*drawn, probability=found.probability),
            viewed=view_case(*drawn, found.probability) if example.is_bad else None,
        )
    page = evaluation_page(
        evaluation,
        title=frame.title,
        shown=shown,
        run=frame.run,
        notes=[*frame.notes, *([] if is_placed else [SPACING_NOTE])],
        extra_sections=frame.extra_sections,
    )
    write_text(out / "report.html", page)
    return out / "report.html"


def open_references(path: Path) -> Dataset:
    """Open references: a data set with labels, or a folder that holds nothing but labels.

    In the second case there are no images, so the labels stand in for them in pictures.
    """
    dataset = Dataset.open(path)
    if dataset.has_labels:
        return dataset
    if any(record.label_paths for record in dataset.records):
        missing = next(record.id for record in dataset.records if not record.label_paths)
        raise DatasetError(f"{path}: case {missing!r} has no reference label")
    return dataset.as_labels()


def choose_segmented(dataset: Dataset, folder: Path) -> Dataset:
    """Keep the cases that have a segmentation.

    Raises:
        DatasetError: If a segmentation has no reference, or there is none at all.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder that holds segmentations")
    found = {file_stem(p) for p in folder.iterdir() if file_suffix(p) in IMAGE_SUFFIXES}
    if not found:
        raise DatasetError(f"{folder}: holds no segmentations; check the path")
    if unknown := found - set(dataset.case_ids):
        raise DatasetError(
            f"{folder}: there is no reference for {min(unknown)!r}; segmentations and references"
            " must have the same names"
        )
    return dataset.select(sorted(found))


def could_not_score(failure: Failure) -> str:
    """Say on the page which case is not in its numbers."""
    return f"Case {failure.case_id} could not be compared: {failure.reason}"


def without_segmentation(references: Dataset, compared: Dataset) -> list[str]:
    """Say on the page that references were left out, if any were."""
    left_out = len(references) - len(compared)
    if not left_out:
        return []
    return [f"{left_out} of {len(references)} references have no segmentation and are left out."]


def segmentations_in(folder: Path, classes: ClassList) -> Segment:
    """Look segmentations up in a folder, by the name of their case.

    Probabilities are taken from its subfolder `probabilities`, where it has one. DICOM
    segmentations are laid on the grid of the reference.

    Args:
        folder: What `sfumato segment` wrote, or any folder of label files.
        classes: The references' classes; segmentations use the same values.
    """

    def segment(case: Case) -> Segmented:
        path = _find(folder, case.id)
        if is_dicom_segmentation(path):
            segmentation = read_dicom_label(path, case.geometry, classes.names)
            probability = _read_probability(folder, case, classes)
            return Segmented(segmentation=segmentation, probability=probability)
        values, geometry = read_label(path)
        if difference := case.geometry.difference(geometry):
            raise CaseError(
                case.id, f"{path}: the segmentation is not on the reference's grid: {difference}"
            )
        try:
            segmentation = classes.to_indices(values)
        except SfumatoError as error:
            raise CaseError(case.id, f"{path}: {error}") from error
        probability = _read_probability(folder, case, classes)
        return Segmented(segmentation=segmentation, probability=probability)

    return segment


def _find(folder: Path, case_id: str) -> Path:
    found = [p for s in IMAGE_SUFFIXES if (p := folder / f"{case_id}{s}").is_file()]
    if not found:
        raise CaseError(case_id, f"{folder} has no segmentation of that name")
    if len(found) > 1:
        raise CaseError(
            case_id, f"{folder} has two segmentations: {found[0].name}, {found[1].name}"
        )
    return found[0]


def _read_probability(folder: Path, case: Case, classes: ClassList) -> Probability | None:
    dicom = folder / PROBABILITIES / f"{case.id}.dcm"
    if is_dicom_segmentation(dicom):
        return read_dicom_probability(dicom, case.geometry, classes.names)
    path = folder / PROBABILITIES / f"{case.id}.nii.gz"
    if not path.is_file():
        return None
    probability, geometry = read_probability(path)
    if difference := case.geometry.difference(geometry):
        raise CaseError(
            case.id, f"{path}: the probabilities are not on the reference's grid: {difference}"
        )
    if len(probability) != len(classes):
        raise CaseError(
            case.id, f"{path}: it has {len(probability)} classes, but the references {len(classes)}"
        )
    return probability
