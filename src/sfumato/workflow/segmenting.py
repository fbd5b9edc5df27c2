"""Segmenting many images, from files to files."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.errors import DatasetError, SfumatoError
from sfumato.image.files import label_suffix, read_channels, write_label, write_probability
from sfumato.inference.predictor import Predictor
from sfumato.storage import write_text
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.tracking import Track, silently

PROBABILITIES = "probabilities"
"""Folder, beside the segmentations, that holds a probability file for each case."""


def gather_inputs(inputs: Sequence[Dataset]) -> list[CaseRecord]:
    """List the cases of several data sets together.

    Raises:
        DatasetError: If two cases would be written to the same file.
    """
    by_id: dict[str, CaseRecord] = {}
    for record in (record for dataset in inputs for record in dataset.records):
        if other := by_id.get(record.id):
            raise DatasetError(
                f"{other.image_paths[0]} and {record.image_paths[0]}: both are called"
                f" {record.id!r} and would be written to the same file; segment them into"
                " different folders"
            )
        by_id[record.id] = record
    return list(by_id.values())


def segment_cases(
    predictor: Predictor,
    records: Sequence[CaseRecord],
    out: Path,
    *,
    has_probabilities: bool = False,
    track: Track = silently,
) -> list[Failure]:
    """Segment many cases into a folder.

    A segmentation has its input's name and file type, and the label values of the data the
    model was trained on. A bad case does not stop the others.

    Args:
        predictor: The model.
        records: Images to segment; labels they may have are not looked at.
        out: Folder of the segmentations.
        has_probabilities: Whether the class probabilities are written too.
        track: Told how far the job is.

    Returns:
        The cases that could not be segmented.
    """
    failures, seconds = [], {}
    for record in track(records, "Segmenting", len(records)):
        started = time.monotonic()
        try:
            _segment_case(predictor, record, out, has_probabilities)
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(record.id, error))
        seconds[record.id] = round(time.monotonic() - started, 3)
    report = {
        **provenance(),
        "model": predictor.model.about,
        "inference": predictor.settings.model_dump(mode="json"),
        "seconds": seconds,
        "failures": {failure.case_id: failure.reason for failure in failures},
    }
    write_text(out / "run.json", json.dumps(report, indent=2))
    return failures


def _segment_case(
    predictor: Predictor, record: CaseRecord, out: Path, has_probabilities: bool
) -> None:
    image, geometry = read_channels(record.image_paths)
    probability_map = predictor.predict(image, geometry)
    classes = predictor.model.classes
    if has_probabilities:
        write_probability(
            out / PROBABILITIES / f"{record.id}.nii.gz",
            probability_map.probability,
            geometry,
            classes.names,
        )
    path = out / f"{record.id}{label_suffix(record.image_paths[0])}"
    write_label(path, classes.to_values(probability_map.segmentation()), geometry)
