"""Segmenting many images, from files to files, here or on a cluster."""

import glob
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.errors import DatasetError, FileError, ModelError, SfumatoError
from sfumato.image.dicom_seg import check_can_write_dicom
from sfumato.image.files import is_dicom, read_channels
from sfumato.image.names import FileType
from sfumato.inference.ensemble import Ensemble
from sfumato.storage import claim_folder, remove_leftovers, write_text
from sfumato.workflow.failures import Failure
from sfumato.workflow.manifest import Entry, Manifest, last_start
from sfumato.workflow.provenance import provenance
from sfumato.workflow.ray_cluster import work_on_ray
from sfumato.workflow.segmented_case import (
    Computation,
    ReadCase,
    SegmentJob,
    attempt,
    finish_case,
    read_case,
    segment_case,
    segment_record,
    tidying_of,
)
from sfumato.workflow.tracking import Track, silently
from sfumato.workflow.volumes import VOLUMES, CaseVolumes, reported_volumes, write_volumes
from sfumato.workflow.workers import Lost

CASES = "cases.jsonl"
"""File, beside the segmentations, with a line for each case that is done."""
REPORT = "run.json"
_MOST_LOOKED_AT = 5
"""Cases that are looked at for one that a model can take."""

Task = tuple[CaseRecord, Entry | None]


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where and from which beginning cases are segmented.

    Attributes:
        ray: Address of a Ray cluster that does the work; "auto" finds it, None works here.
        is_resumed: Whether to go on with what stands in the folder.
        is_overwritten: Whether a folder that exists may be emptied.
    """

    ray: str | None = None
    is_resumed: bool = False
    is_overwritten: bool = False


def open_inputs(inputs: Sequence[Path], n_channels: int) -> list[CaseRecord]:
    """List the cases of images, folders, tables and patterns such as `scans/*.nii.gz`.

    Args:
        inputs: What `Dataset.open` takes, or a pattern that names some of it.
        n_channels: How many channels a case has; files of one channel each are joined.

    Raises:
        DatasetError: If something is not there, or two cases would be written to the same file.
    """
    datasets = [Dataset.open(path) for path in _matching(inputs)]
    if n_channels > 1:
        datasets = [dataset.with_joined_channels(n_channels) for dataset in datasets]
    return gather_inputs(datasets)


def _matching(inputs: Iterable[Path]) -> Iterator[Path]:
    """Name what patterns stand for; a shell leaves them where they are quoted, or too long."""
    for path in inputs:
        if path.exists() or not glob.has_magic(str(path)):
            yield path
            continue
        found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not found:
            raise DatasetError(f"{path}: nothing has such a name; check the pattern")
        yield from found


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


def check_kind(records: Sequence[CaseRecord], ensemble: Ensemble) -> None:
    """Refuse to start with a model for images of another kind.

    Images that cannot be read have no say, and one that fits is enough: what is wrong with
    single cases is told when their turn comes.

    Raises:
        ModelError: If none of the first images that can be read has the model's channels and axes.
    """
    misfit = None
    for record in records[:_MOST_LOOKED_AT]:
        try:
            image, geometry = read_channels(record.image_paths)
            ensemble.predictors[0].check(image, geometry)
            return
        except ModelError as error:
            misfit = misfit or ModelError(f"case {record.id!r}: {error}")
        except (SfumatoError, MemoryError):
            continue
    if misfit:
        raise misfit


def known_engines(out: Path, computation: Computation) -> Computation:
    """Take the engines that a folder was begun with where any would do.

    Another one would be as good, but rounds otherwise, so all would have to be done again.
    """
    begun = (last_start(out / CASES) or {}).get("engines", [])
    if len(begun) != len(computation.engines) or {*computation.engines} != {"auto"}:
        return computation
    return replace(computation, engines=tuple(begun))


def claim_output(
    out: Path, places: Sequence[Path], records: Sequence[CaseRecord], workplace: Workplace
) -> None:
    """Make an output folder ours, or go on with the one that is there.

    Raises:
        FileError: If there is something else, and nobody said that it may go.
    """
    if workplace.is_resumed and (out / CASES).is_file():
        return
    paths = (path for record in records for path in record.image_paths)
    claim_folder(out, overwrite=workplace.is_overwritten, inputs=[*places, *paths])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How segmenting many cases went.

    Attributes:
        failures: The cases that could not be segmented.
        warnings: What somebody should know of others, by their names.
    """

    failures: list[Failure]
    warnings: dict[str, str]


def segment_cases(
    ensemble: Ensemble,
    records: Sequence[CaseRecord],
    job: SegmentJob,
    ray: str | None = None,
    track: Track = silently,
) -> Outcome:
    """Segment many cases into a folder.

    A segmentation has its input's name and file type, and the label values of the data the
    model was trained on; in DICOM, segments are numbered from 1 instead. A bad case does not
    stop the others. While one case is segmented, the next is read and the last written.

    Cases that the folder knows to be done are left as they are, unless model, settings or
    files changed; what had been made with others is removed before anything is made anew.

    Args:
        ensemble: The model, or several.
        records: Images to segment; labels they may have are not looked at.
        job: How, and what is written where.
        ray: Address of a Ray cluster that does the work, one core and, with CUDA, one GPU a
            case; "auto" finds it, None works here.
        track: Told how far the job is.

    Raises:
        SfumatoError: If nothing can be written, or there is no such cluster.
    """
    records, out = [record.absolute() for record in records], job.out
    with Manifest(out / CASES) as manifest:
        _forget_others(manifest, records, job, ensemble)
        manifest.start({**provenance(), **_about(ensemble, job), "job": job.key})
        failures = _segment_missing(ensemble, records, job, ray, manifest, track)
        failed = {failure.case_id for failure in failures}
        found = (manifest.find(record.id) for record in records if record.id not in failed)
        entries = [entry for entry in found if entry is not None]
    if job.request.has_uncertainty:
        volumes = [
            CaseVolumes(case_id=e.case, estimates=e.volumes, is_placed=e.is_placed) for e in entries
        ]
        write_volumes(volumes, ensemble, job.request.level, out)
    model, volumes_of = ensemble.model, {entry.case: entry.volumes for entry in entries}
    report = {
        **provenance(),
        **_about(ensemble, job),
        "seconds": {entry.case: entry.seconds for entry in entries},
        **reported_volumes(model.classes.foreground, volumes_of, len(model.window)),
        "warnings": {entry.case: entry.warning for entry in entries if entry.warning},
        "failures": {failure.case_id: failure.reason for failure in failures},
    }
    write_text(out / REPORT, json.dumps(report, indent=2))
    return Outcome(failures=failures, warnings=report["warnings"])


def _about(ensemble: Ensemble, job: SegmentJob) -> dict[str, Any]:
    """Say what segments, and how."""
    computation, predictors = job.computation, ensemble.predictors
    return {
        "model": predictors[0].model.about,
        "with": [predictor.model.about for predictor in predictors[1:]],
        "inference": computation.settings.model_dump(mode="json"),
        "device": computation.device,
        "precision": computation.precision,
        "engines": computation.engines,
        "postprocessing": tidying_of(ensemble, job.request).model_dump(
            mode="json", exclude_defaults=True
        ),
    }


def _forget_others(
    manifest: Manifest, records: Sequence[CaseRecord], job: SegmentJob, ensemble: Ensemble
) -> None:
    """Remove what other models or settings made, so that a folder never mixes two of them."""
    remove_leftovers(job.out)
    by_id = {record.id: record for record in records}
    stale = [e for c in manifest.case_ids if (e := manifest.find(c)) and e.job != job.key]
    if strange := next((entry.case for entry in stale if entry.case not in by_id), None):
        raise FileError(
            job.out,
            f"holds a segmentation of {strange!r}, which another model or other settings made and"
            " which is not to be segmented now; choose another --out or add --overwrite",
        )
    for entry in stale:
        job.wanted(by_id[entry.case], ensemble.model).clear(entry)
    for name in (REPORT, f"{VOLUMES}.csv", f"{VOLUMES}.json"):
        (job.out / name).unlink(missing_ok=True)


def _segment_missing(
    ensemble: Ensemble,
    records: Sequence[CaseRecord],
    job: SegmentJob,
    ray: str | None,
    manifest: Manifest,
    track: Track,
) -> list[Failure]:
    """Segment what the manifest does not know to be done, and note it there."""
    missing: list[Task] = [
        (record, known)
        for record in records
        if not job.wanted(record, ensemble.model).is_done(known := manifest.find(record.id))
    ]
    if ray is not None:
        n_gpus = int(job.computation.device.startswith("cuda"))
        results = work_on_ray(partial(segment_record, job), missing, ray, n_gpus)
    else:
        results = _segment_here(ensemble, job, missing)
    n_done = len(records) - len(missing)
    description = f"Segmenting, {n_done} are done" if n_done else "Segmenting"
    failures: dict[str, Failure] = {}
    # Whatever stops the loop, reading and writing end before anything else happens.
    with closing(results):
        for (record, _), result in track(results, description, len(missing)):
            if isinstance(result, Entry):
                manifest.add(result)
            elif isinstance(result, Lost):
                failures[record.id] = Failure(case_id=record.id, reason=result.reason)
            else:
                failures[record.id] = result
    return [failures[record.id] for record in records if record.id in failures]


def _segment_here(
    ensemble: Ensemble, job: SegmentJob, tasks: Sequence[Task]
) -> Generator[tuple[Task, Entry | Failure | Lost]]:
    """Segment case by case; meanwhile the next one is read and the last one written."""
    model, tidying = ensemble.model, tidying_of(ensemble, job.request)
    writing: tuple[Task, Future[Entry | Failure]] | None = None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        for task, reading in _read_ahead(reader, ensemble, job, tasks):
            case_id, read = task[0].id, reading.result()
            segmented = (
                attempt(case_id, partial(segment_case, ensemble, job, read))
                if isinstance(read, ReadCase)
                else read
            )
            # The image is large, and is not needed while its segmentation is written.
            del read, reading
            if writing is not None:
                yield writing[0], writing[1].result()
                writing = None
            if isinstance(segmented, Entry | Failure):
                yield task, segmented
            else:
                finish = partial(finish_case, model, tidying, job, segmented)
                writing = task, writer.submit(attempt, case_id, finish)
        if writing is not None:
            yield writing[0], writing[1].result()


def _read_ahead(
    reader: ThreadPoolExecutor, ensemble: Ensemble, job: SegmentJob, tasks: Sequence[Task]
) -> Iterator[tuple[Task, "Future[ReadCase | Entry | Failure]"]]:
    """Read every case while the one before is segmented; a failure shows where it is used."""
    readings = (
        reader.submit(
            attempt,
            record.id,
            partial(read_case, job.wanted(record, ensemble.model), record, known),
        )
        for record, known in tasks
    )
    upcoming = [*islice(readings, 1)]
    for task in tasks:
        upcoming += islice(readings, 1)
        # Nothing here keeps what is given on.
        yield task, upcoming.pop(0)
