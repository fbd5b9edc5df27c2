"""Segmenting many images, from files to files."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfumato.arrays import Image, Label
from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.errors import DatasetError, ModelError, SfumatoError
from sfumato.image.dicom_seg import check_can_write_dicom
from sfumato.image.files import is_dicom, read_channels
from sfumato.image.geometry import Geometry
from sfumato.image.names import FileType
from sfumato.image.probabilities import WritePart
from sfumato.inference.ensemble import Ensemble
from sfumato.inference.probability import ProbabilitySlab
from sfumato.inference.uncertainty import VolumeSums
from sfumato.labels.postprocessing import PostprocessingSettings, postprocess
from sfumato.model.trained import TrainedModel
from sfumato.storage import write_text
from sfumato.workflow.case_files import CaseFiles
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.tracking import Track, silently
from sfumato.workflow.volumes import CaseVolumes, write_volumes

Watch = Callable[[Iterator[ProbabilitySlab], Image, Geometry], Iterator[ProbabilitySlab]]
"""Passes the parts of a case's probabilities through, to look at them on the way."""


@dataclass(frozen=True, kw_only=True)
class SegmentRequest:
    """What is written of each case.

    Attributes:
        has_probabilities: Whether the class probabilities are.
        has_uncertainty: Whether nested contours of each structure are, and a table of volumes.
        level: How often an interval of a volume shall hold the true one.
        has_postprocessing: Whether segmentations are tidied up as the models ask for.
        file_type: What segmentations are written as.
    """

    has_probabilities: bool = False
    has_uncertainty: bool = False
    level: float = 0.9
    has_postprocessing: bool = True
    file_type: FileType = "same"


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


def load_models(places: Sequence[Path]) -> list[TrainedModel]:
    """Read models whose probabilities can be averaged.

    Raises:
        ModelError: If one is not there or damaged, or is of another kind than the first.
    """
    first, *others = [TrainedModel.load(place) for place in places]
    for place, other in zip(places[1:], others, strict=True):
        differences = other.differences(
            str(places[0]), first.classes, first.n_channels, len(first.window)
        )
        if listed := "; ".join(differences):
            raise ModelError(
                f"{place}: its probabilities cannot be averaged with others, since {listed};"
                " leave it out, or choose a model of the same kind"
            )
    return [first, *others]


def unwatched(
    slabs: Iterator[ProbabilitySlab], image: Image, geometry: Geometry
) -> Iterator[ProbabilitySlab]:
    """Pass parts through and tell nobody."""
    return slabs


def segment_cases(
    ensemble: Ensemble,
    records: Sequence[CaseRecord],
    out: Path,
    request: SegmentRequest | None = None,
    track: Track = silently,
    *,
    watch: Watch = unwatched,
) -> list[Failure]:
    """Segment many cases into a folder.

    A segmentation has its input's name and file type, and the label values of the data the
    model was trained on; in DICOM, segments are numbered from 1 instead. A bad case does not
    stop the others. While one case is segmented, the next is read and the last written.

    Args:
        ensemble: The model, or several.
        records: Images to segment; labels they may have are not looked at.
        out: Folder of the segmentations.
        request: What is written.
        track: Told how far the job is.
        watch: Sees every case while it is segmented; what it raises ends the job.

    Returns:
        The cases that could not be segmented.
    """
    request = request or SegmentRequest()
    failures: dict[str, Failure] = {}
    seconds: dict[str, float] = {}
    writings: list[tuple[str, Future[CaseVolumes]]] = []
    tidying = ensemble.postprocessing if request.has_postprocessing else PostprocessingSettings()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        readings = _read_ahead(reader, records)
        for record, reading in track(readings, "Segmenting", len(records)):
            started = time.monotonic()
            files = CaseFiles(
                record=record, out=out, model=ensemble.model, file_type=request.file_type
            )
            try:
                image, geometry = reading.result()
                slabs = watch(ensemble.predict_slabs(image, geometry), image, geometry)
                label, sums = _segment_case(slabs, geometry, files, request)
                wait([writing for _, writing in writings[-1:]])
                writing = writer.submit(_finish, label, sums, geometry, files, tidying)
                writings.append((record.id, writing))
            except (SfumatoError, MemoryError) as error:
                failures[record.id] = Failure.of(record.id, error)
            seconds[record.id] = round(time.monotonic() - started, 3)
    volumes: list[CaseVolumes] = []
    for case_id, writing in writings:
        try:
            volumes.append(writing.result())
        except (SfumatoError, MemoryError) as error:
            failures[case_id] = Failure.of(case_id, error)
    if request.has_uncertainty:
        write_volumes(volumes, ensemble, request.level, out)
    first, *others = ensemble.predictors
    report = {
        **provenance(),
        "model": first.model.about,
        "inference": first.settings.model_dump(mode="json"),
        "engine": first.engine,
        "postprocessing": tidying.model_dump(mode="json", exclude_defaults=True),
        "with": [{"model": p.model.about, "engine": p.engine} for p in others],
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
    slabs: Iterator[ProbabilitySlab],
    geometry: Geometry,
    files: CaseFiles,
    request: SegmentRequest,
) -> tuple[Label, VolumeSums]:
    """Return the segmentation and what its volumes need; all else is written."""
    segmentation = np.empty(geometry.shape, np.uint8)
    sums = VolumeSums(len(files.model.classes), geometry.element_volume_mm3)
    with ExitStack() as stack:
        writers: list[WritePart] = []
        if request.has_probabilities or request.has_uncertainty:
            writers.append(stack.enter_context(files.probability_writer(geometry)))
        if request.has_uncertainty:
            writers.append(stack.enter_context(files.contour_writer(geometry)))
        for slab in slabs:
            segmentation[slab.place] = slab.segmentation()
            if request.has_uncertainty:
                sums.add(slab.probability)
            for write in writers:
                write(slab.place, slab.probability)
    return segmentation, sums


def _finish(
    segmentation: Label,
    sums: VolumeSums,
    geometry: Geometry,
    files: CaseFiles,
    tidying: PostprocessingSettings,
) -> CaseVolumes:
    """Tidy up a segmentation and write it."""
    names, element_volume = files.model.classes.foreground, geometry.element_volume_mm3
    tidy = postprocess(segmentation, element_volume, names, tidying)
    files.write_segmentation(tidy, geometry)
    return CaseVolumes(
        case_id=files.record.id, estimates=sums.estimates(tidy), is_placed=geometry.is_placed
    )
