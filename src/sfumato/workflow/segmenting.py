"""Segmenting many images, from files to files."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from sfumato.arrays import Image, LabelValues
from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.errors import DatasetError, SfumatoError
from sfumato.image.files import label_suffix, probability_writer, read_channels, write_label
from sfumato.image.geometry import Geometry
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
    model was trained on. A bad case does not stop the others. While one case is segmented, the
    next is read and the last written.

    Args:
        predictor: The model.
        records: Images to segment; labels they may have are not looked at.
        out: Folder of the segmentations.
        has_probabilities: Whether the class probabilities are written too.
        track: Told how far the job is.

    Returns:
        The cases that could not be segmented.
    """
    failures: dict[str, Failure] = {}
    seconds: dict[str, float] = {}
    writings: list[tuple[str, Future[None]]] = []
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        readings = _read_ahead(reader, records)
        for record, reading in track(readings, "Segmenting", len(records)):
            started = time.monotonic()
            try:
                image, geometry = reading.result()
                label = _segment_case(predictor, image, geometry, record.id, out, has_probabilities)
                path = out / f"{record.id}{label_suffix(record.image_paths[0])}"
                wait([writing for _, writing in writings[-1:]])
                writings.append((record.id, writer.submit(write_label, path, label, geometry)))
            except (SfumatoError, MemoryError) as error:
                failures[record.id] = Failure.of(record.id, error)
            seconds[record.id] = round(time.monotonic() - started, 3)
    for case_id, writing in writings:
        try:
            writing.result()
        except (SfumatoError, MemoryError) as error:
            failures[case_id] = Failure.of(case_id, error)
    report = {
        **provenance(),
        "model": predictor.model.about,
        "inference": predictor.settings.model_dump(mode="json"),
        "engine": predictor.engine,
        "seconds": seconds,
        "failures": {failure.case_id: failure.reason for failure in failures.values()},
    }
    write_text(out / "run.json", json.dumps(report, indent=2))
    return [failures[record.id] for record in records if record.id in failures]


def _read_ahead(
    reader: ThreadPoolExecutor, records: Sequence[CaseRecord]
) -> Iterator[tuple[CaseRecord, "Future[tuple[Image, Geometry]]"]]:
    """Read every case while the one before is segmented; a failure shows where it is used."""
    readings = (reader.submit(read_channels, record.image_paths) for record in records)
    upcoming = next(readings, None)
    for record in records:
        assert upcoming is not None
        reading, upcoming = upcoming, next(readings, None)
        yield record, reading


def _segment_case(
    predictor: Predictor,
    image: Image,
    geometry: Geometry,
    case_id: str,
    out: Path,
    has_probabilities: bool,
) -> LabelValues:
    """Return the segmentation in the data set's own values; probabilities are written."""
    classes = predictor.model.classes
    path = out / PROBABILITIES / f"{case_id}.nii.gz"
    values = np.empty(geometry.shape, classes.to_values(np.zeros(0, np.uint8)).dtype)
    with (
        probability_writer(path, geometry, classes.names) if has_probabilities else nullcontext()
    ) as write:
        for slab in predictor.predict_slabs(image, geometry):
            values[slab.place] = classes.to_values(slab.segmentation())
            if write is not None:
                write(slab.place, slab.probability)
    return values
