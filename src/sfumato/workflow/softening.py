"""Softening the labels of many cases, from files to files."""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.config import load_config, save_config
from sfumato.errors import DatasetError, SfumatoError
from sfumato.labels.softeners import SofteningSettings
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.settings import Settings
from sfumato.storage import check_output, claim_folder, write_text
from sfumato.training.fingerprint import (
    choose_superpixel_size,
    fingerprint_sample,
    measure_fingerprint,
)
from sfumato.workflow.archive import REPORT_NAME, SofteningJob, soften_record
from sfumato.workflow.failures import Failure
from sfumato.workflow.manifest import MANIFEST_NAME, Entry, Manifest
from sfumato.workflow.provenance import provenance
from sfumato.workflow.ray_cluster import work_on_ray
from sfumato.workflow.tracking import Track, silently
from sfumato.workflow.workers import Lost, n_cores, work_in_processes

CONFIG_NAME = "config.toml"
FLAT_CASES = 10_000
"""With more cases than these, their files are spread over 256 folders."""
TEMPORARY = re.compile(r"\.\d+-")
"""How the names of temporary files begin; see `atomic_path`."""


class SofteningConfig(Settings):
    """All settings of `sfumato soften`."""

    superpixels: SuperpixelSettings = SuperpixelSettings()
    softening: SofteningSettings = SofteningSettings()


@dataclass(frozen=True, kw_only=True)
class SofteningRequest:
    """Where cases are softened, and what is written.

    Attributes:
        n_workers: How many processes work side by side; None takes one a core.
        ray: Address of a Ray cluster that does the work instead; "auto" finds it.
        has_pictures: Whether a picture of each case is drawn.
        is_compact: Whether soft labels are encoded, instead of written as NIfTI.
        is_resumed: Whether to go on with what stands in the folder.
        is_overwritten: Whether a folder that exists may be emptied.
    """

    n_workers: int | None = None
    ray: str | None = None
    has_pictures: bool = True
    is_compact: bool = False
    is_resumed: bool = False
    is_overwritten: bool = False


def start_softening(
    dataset: Dataset,
    wishes: SofteningConfig,
    out: Path,
    request: SofteningRequest,
    track: Track = silently,
) -> SofteningConfig:
    """Plan, and claim the output folder, or go on with the one that is there.

    A folder that is gone on with keeps the size of superpixels it was begun with unless another
    is set: chosen anew, it might differ because a case was added, and all would be done again.

    Returns:
        All settings, nothing left open.

    Raises:
        SfumatoError: If data or folder cannot be used; the text says why.
    """
    if request.is_resumed and (out / MANIFEST_NAME).is_file():
        return plan_softening(dataset, _with_size_of(out / CONFIG_NAME, wishes), track)
    check_output(out, overwrite=request.is_overwritten, inputs=dataset.paths)
    chosen = plan_softening(dataset, wishes, track)
    claim_folder(out, overwrite=request.is_overwritten, inputs=dataset.paths)
    return chosen


def _with_size_of(path: Path, wishes: SofteningConfig) -> SofteningConfig:
    if wishes.superpixels.size_mm is not None or not path.is_file():
        return wishes
    size_mm = load_config(SofteningConfig, path).superpixels.size_mm
    superpixels = wishes.superpixels.model_copy(update={"size_mm": size_mm})
    return wishes.model_copy(update={"superpixels": superpixels})


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
    if superpixels.size_mm is None and wishes.softening.uses_superpixels:
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
    dataset: Dataset,
    config: SofteningConfig,
    out: Path,
    request: SofteningRequest | None = None,
    track: Track = silently,
) -> list[Failure]:
    """Write the soft label and a picture of every case of a data set.

    `case.nii.gz` holds the probability of each class, classes last, on the label's own
    grid (`case.sfsl` the same in far fewer bytes, if that is wanted); `case.png` shows image,
    superpixels, hard and soft label. More than `FLAT_CASES` cases are spread over 256 folders. A
    bad case does not stop the others, nor does a process that dies.

    Cases that the folder's manifest knows are left as they are, unless their files, the
    settings or sfumato's version changed. What is written does not depend on where and in
    which order cases are done.

    Args:
        dataset: Cases with labels.
        config: Which rule, and how superpixels are made.
        out: Folder that is filled.
        request: Where the work is done, and what is written.
        track: Told how far the job is.

    Returns:
        The cases that could not be softened.

    Raises:
        SfumatoError: If nothing can be written, or there is no such cluster.
    """
    request = request or SofteningRequest()
    started = time.monotonic()
    with Manifest(out / MANIFEST_NAME) as manifest:
        _remove_temporary_files(out)
        save_config(config, out / CONFIG_NAME)
        job = _make_job(dataset, config, out, request, manifest)
        versions = provenance()
        manifest.start(
            {
                **versions,
                "job": job.key,
                "dataset": dataset.name,
                "classes": dataset.classes.names,
                "is_sharded": job.is_sharded,
                "settings": config.model_dump(mode="json", exclude_none=True),
            }
        )
        failures = _soften_missing(dataset, job, request, manifest, track)
        failed = {failure.case_id for failure in failures}
        report = {
            **versions,
            "dataset": dataset.name,
            "classes": dataset.classes.names,
            "seconds": round(time.monotonic() - started, 3),
            "softened_share": {
                entry.case: entry.softened_share
                for entry in map(manifest.find, dataset.case_ids)
                if entry is not None and entry.case not in failed
            },
            "failures": {failure.case_id: failure.reason for failure in failures},
        }
    write_text(out / REPORT_NAME, json.dumps(report, indent=2))
    return failures


def _make_job(
    dataset: Dataset,
    config: SofteningConfig,
    out: Path,
    request: SofteningRequest,
    manifest: Manifest,
) -> SofteningJob:
    # A folder keeps its layout when cases are added later.
    begun = manifest.first_start or {"is_sharded": len(dataset) > FLAT_CASES}
    model_case = next(_readable(dataset, dataset.case_ids), None)
    return SofteningJob(
        out=out.absolute(),
        classes=dataset.classes,
        softening=config.softening,
        superpixels=config.superpixels,
        n_channels=None if model_case is None else len(model_case.image),
        model_case="" if model_case is None else model_case.id,
        has_pictures=request.has_pictures,
        is_compact=request.is_compact,
        is_sharded=begun["is_sharded"],
    )


def _soften_missing(
    dataset: Dataset,
    job: SofteningJob,
    request: SofteningRequest,
    manifest: Manifest,
    track: Track,
) -> list[Failure]:
    """Soften what the manifest does not know to be done, and note it there."""
    records = dataset.absolute().records
    missing = [r for r in records if not job.wanted(r).is_done(manifest.find(r.id))]
    tasks = ((record, manifest.find(record.id)) for record in missing)
    work = partial(soften_record, job)
    if request.ray is not None:
        results = work_on_ray(work, tasks, request.ray)
    else:
        results = work_in_processes(work, tasks, request.n_workers or n_cores())
    n_done = len(records) - len(missing)
    description = f"Softening labels, {n_done} are done" if n_done else "Softening labels"
    failures = []
    # Whatever stops the loop, workers are stopped before anything else happens.
    with closing(results):
        for (record, _), result in track(results, description, len(missing)):
            if isinstance(result, Entry):
                manifest.add(result)
            elif isinstance(result, Lost):
                failures.append(Failure(case_id=record.id, reason=result.reason))
            else:
                failures.append(result)
    return sorted(failures, key=lambda failure: failure.case_id)


def _remove_temporary_files(out: Path) -> None:
    """Remove what killed processes left half-written."""
    for folder in (out, *(path for path in out.glob("[0-9a-f][0-9a-f]") if path.is_dir())):
        for path in folder.iterdir():
            if TEMPORARY.match(path.name):
                path.unlink(missing_ok=True)
