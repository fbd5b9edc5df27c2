"""Segmenting many images, from files to files."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.errors import DatasetError, SfumatoError
from sfumato.image.dicom_seg import check_can_write_dicom
from sfumato.image.files import is_dicom, read_channels
from sfumato.image.names import FileType
from sfumato.inference.predictor import Predictor
from sfumato.storage import write_text
from sfumato.workflow.case_files import CaseFiles
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.tracking import Track, silently


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


def check_file_type(records: Sequence[CaseRecord], file_type: FileType) -> None:
    """Refuse to start on images whose file type cannot be written here.

    Raises:
        ConfigError: If there is DICOM among them, and nothing installed that writes it.
    """
    if file_type == "same" and any(is_dicom(record.image_paths[0]) for record in records):
        check_can_write_dicom()


def segment_cases(
    predictor: Predictor,
    records: Sequence[CaseRecord],
    out: Path,
    *,
    has_probabilities: bool = False,
    file_type: FileType = "same",
    track: Track = silently,
) -> list[Failure]:
    """Segment many cases into a folder.

    A segmentation has its input's name and file type, and the label values of the data the
    model was trained on; in DICOM, segments are numbered from 1 instead. A bad case does not
    stop the others.

    Args:
        predictor: The model.
        records: Images to segment; labels they may have are not looked at.
        out: Folder of the segmentations.
        has_probabilities: Whether the class probabilities are written too.
        file_type: What segmentations are written as.
        track: Told how far the job is.

    Returns:
        The cases that could not be segmented.
    """
    failures, seconds = [], {}
    for record in track(records, "Segmenting", len(records)):
        started = time.monotonic()
        try:
            files = CaseFiles(record=record, out=out, model=predictor.model, file_type=file_type)
            _segment_case(predictor, files, has_probabilities)
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


def _segment_case(predictor: Predictor, files: CaseFiles, has_probabilities: bool) -> None:
    image, geometry = read_channels(files.record.image_paths)
    probability_map = predictor.predict(image, geometry)
    if has_probabilities:
        files.write_probability(probability_map)
    files.write_segmentation(probability_map.segmentation(), geometry)
