"""One case of an archive: softened in whichever process, and known again when it is done.

Everything here can be loaded without torch, so that starting many processes is quick.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from sfumato.arrays import Probability, Superpixels
from sfumato.cases.case import Case
from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.cases.record import Listing
from sfumato.errors import CaseError, SfumatoError
from sfumato.evaluation.softness import softened_share
from sfumato.image.files import write_probability
from sfumato.labels.band import compute_superpixels_near_boundaries
from sfumato.labels.classes import ClassList
from sfumato.labels.soft_label_file import SUFFIX, write_soft_label
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.storage import atomic_path
from sfumato.workflow.failures import Failure
from sfumato.workflow.manifest import Entry, Wanted, timed

FORMAT_VERSION = 2
"""Part of the key: raise it whenever the files of a case change."""
REPORT_NAME = "run.json"
"""File, beside the soft labels, that says how they were made."""


@dataclass(frozen=True, kw_only=True)
class SofteningJob:
    """What is the same for all cases of an archive.

    Attributes:
        out: Folder that is filled.
        classes: The classes of all labels.
        softening: The rule and its numbers.
        superpixels: How superpixels are made.
        n_channels: How many channels every image must have; None where no case can be read.
        model_case: The case that has so many, for messages.
        has_pictures: Whether a picture of each case is drawn.
        is_sharded: Whether cases are spread over 256 folders.
        is_compact: Whether soft labels are encoded, instead of written as NIfTI.
    """

    out: Path
    classes: ClassList
    softening: SofteningSettings
    superpixels: SuperpixelSettings
    n_channels: int | None = None
    model_case: str = ""
    has_pictures: bool = True
    is_sharded: bool = False
    is_compact: bool = False

    @cached_property
    def key(self) -> str:
        """What soft labels depend on, their inputs aside: a hash."""
        content = [
            FORMAT_VERSION,
            version("sfumato"),
            self.classes.names,
            self.classes.values,
            self.softening.model_dump(mode="json"),
            self.superpixels.model_dump(mode="json", include=self._superpixel_settings),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def _superpixel_settings(self) -> set[str] | None:
        """Name the settings of superpixels that the rule looks at; None for all."""
        if self.softening.uses_superpixels:
            return None
        # By which `geodesic` scales intensities as superpixels do.
        return {"is_photo"}

    def folder(self, case_id: str) -> Path:
        """Return where the files of a case are.

        Folders of millions of files are slow to list and to copy, so large archives are spread
        evenly by a hash of the case's name.
        """
        if not self.is_sharded:
            return self.out
        return self.out / hashlib.sha256(case_id.encode()).hexdigest()[:2]

    def outputs(self, case_id: str) -> list[Path]:
        """Return the files that are written for a case, the soft label first."""
        endings = [SUFFIX] if self.is_compact else [".nii.gz", ".json"]
        endings += [".png"] if self.has_pictures else []
        return [self.folder(case_id) / f"{case_id}{ending}" for ending in endings]

    def wanted(self, record: CaseRecord) -> Wanted:
        """Say what is to be made of a case."""
        return Wanted(
            case=record.id,
            job=self.key,
            folder=self.out,
            inputs=(*record.image_paths, *record.label_paths),
            outputs=self.outputs(record.id),
        )


def soften_record(job: SofteningJob, task: tuple[CaseRecord, Entry | None]) -> Entry | Failure:
    """Soften a case and write its files, unless what is known of it still holds.

    Args:
        job: How.
        task: Where the case's files are, and what the manifest knows of it.

    Returns:
        What the manifest is to know from now on, or why the case could not be softened.
    """
    record, known = task
    wanted, seconds = job.wanted(record), dict[str, float]()
    try:
        with timed(seconds, "read"):
            inputs = wanted.read_inputs()
        if known is not None and wanted.is_same(inputs, known):
            return known.model_copy(update={"inputs": inputs})
        wanted.clear(known)
        share = _soften(job, record, seconds)
        return wanted.entry(inputs, seconds).model_copy(update={"softened_share": share})
    except (SfumatoError, OSError, MemoryError) as error:
        return Failure.of(record.id, error)
    except Exception as error:  # One case that meets a defect does not stop a million others.
        return Failure.of_defect(record.id, error)


def _soften(job: SofteningJob, record: CaseRecord, seconds: dict[str, float]) -> float:
    """Write the files of a case, and return which share of its elements was softened."""
    with timed(seconds, "read"):
        case = _load(job, record)
    if case.label is None:
        raise CaseError(case.id, "it has no label to soften; add one or leave the case out")
    label_path = job.outputs(case.id)[0]
    if job.out / REPORT_NAME in job.outputs(case.id):
        raise CaseError(
            case.id, f"its class names and the report would both be {REPORT_NAME}; rename the case"
        )
    with timed(seconds, "soften"):
        soft_label = soften(
            case.image,
            case.label,
            case.geometry.spacing,
            len(job.classes),
            job.softening,
            job.superpixels,
            rater_labels=case.rater_labels,
        )
        share = softened_share(soft_label)
    with timed(seconds, "write"):
        if job.is_compact:
            scale_mm = job.softening.scale_mm
            write_soft_label(label_path, soft_label, case.geometry, job.classes.names, scale_mm)
        else:
            write_probability(label_path, soft_label, case.geometry, job.classes.names)
    if job.has_pictures:
        with timed(seconds, "draw"):
            _draw(job, case, soft_label)
    return share


def _load(job: SofteningJob, record: CaseRecord) -> Case:
    # A data set of this case alone: what a case is found to be must not depend on which other
    # cases the same process has read.
    alone = Dataset(record.id, Listing(records=(record,), classes=job.classes))
    case = alone.load(record.id)
    if job.n_channels is not None and len(case.image) != job.n_channels:
        raise CaseError(
            case.id,
            f"{record.image_paths[0]}: the image has {len(case.image)} channels, but case"
            f" {job.model_case!r} has {job.n_channels};"
            " every case of a data set must have the same channels",
        )
    return case


def guiding_superpixels(
    case: Case, softening: SofteningSettings, superpixels: SuperpixelSettings
) -> Superpixels | None:
    """Return the superpixels by which a case's label is softened; None by rules without any.

    `superpixel_ensemble` draws many; these are in their middle.
    """
    if case.label is None or not softening.uses_superpixels:
        return None
    return compute_superpixels_near_boundaries(
        case.image, case.label, case.geometry.spacing, superpixels
    )


def _draw(job: SofteningJob, case: Case, soft_label: Probability) -> None:
    # Only who draws waits for Matplotlib.
    from sfumato.report.figures import softening_figure

    picture = softening_figure(
        case,
        soft_label,
        job.classes,
        superpixels=guiding_superpixels(case, job.softening, job.superpixels),
        title=case.id,
    )
    with atomic_path(job.folder(case.id) / f"{case.id}.png") as temporary:
        temporary.write_bytes(picture)
