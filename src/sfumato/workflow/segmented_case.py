"""One case on its way from image files to a segmentation, in whichever process."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from sfumato.arrays import Image, Label
from sfumato.cases.case import Case
from sfumato.cases.record import CaseRecord
from sfumato.errors import ModelError, SfumatoError
from sfumato.image.files import read_channels
from sfumato.image.geometry import Geometry
from sfumato.image.names import FileType, Overlay
from sfumato.image.probabilities import WritePart
from sfumato.inference.ensemble import Ensemble
from sfumato.inference.predictor import InferenceSettings, Predictor
from sfumato.inference.uncertainty import VolumeSums
from sfumato.labels.postprocessing import PostprocessingSettings, postprocess
from sfumato.model.trained import DESCRIPTION, WEIGHTS, TrainedModel, model_folder
from sfumato.settings import Precision
from sfumato.training.loop import compute_dtype
from sfumato.workflow.case_files import CaseFiles
from sfumato.workflow.devices import choose_device
from sfumato.workflow.failures import Failure
from sfumato.workflow.manifest import Entry, FileState, Wanted, file_state, timed

FORMAT_VERSION = 1
"""Part of the key: raise it whenever the files of a case change."""

Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class SegmentRequest:
    """What is written of each case.

    Attributes:
        has_probabilities: Whether the class probabilities are.
        has_uncertainty: Whether nested contours of each structure are, and a table of volumes.
        level: How often an interval of a volume shall hold the true one.
        has_postprocessing: Whether segmentations are tidied up as the models ask for.
        file_type: What segmentations are written as.
        overlay: As what a preview of each case is drawn; None draws none.
    """

    has_probabilities: bool = False
    has_uncertainty: bool = False
    level: float = 0.9
    has_postprocessing: bool = True
    file_type: FileType = "same"
    overlay: Overlay | None = None


@dataclass(frozen=True, kw_only=True)
class Computation:
    """Which models compute probabilities, and how.

    Attributes:
        places: Folders of the models.
        settings: How windows slide over an image.
        device: "auto", "cpu", "cuda" or "mps".
        precision: The number type of convolutions; "auto" takes the one that is fast here.
        engines: What computes each model; "auto" is not known before it was tried.
    """

    places: tuple[Path, ...]
    settings: InferenceSettings
    device: str
    precision: Precision
    engines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SegmentJob:
    """What is the same for all cases that are segmented together.

    Attributes:
        out: Folder that is filled.
        computation: Which models segment, and how, with nothing left to be chosen.
        request: What is written.
    """

    out: Path
    computation: Computation
    request: SegmentRequest = field(default_factory=SegmentRequest)

    @cached_property
    def key(self) -> str:
        """What a segmentation depends on, its image aside: a hash."""
        computation = self.computation
        content = [
            FORMAT_VERSION,
            version("sfumato"),
            [[_sha256_of(place, name) for name in (DESCRIPTION, WEIGHTS)]
             for place in computation.places],
            computation.settings.model_dump(mode="json"),
            computation.device,
            computation.precision,
            computation.engines,
            self.request.has_postprocessing,
            self.request.file_type,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def files(self, record: CaseRecord, model: TrainedModel) -> CaseFiles:
        """Say which files become of a case."""
        return CaseFiles(record=record, out=self.out, model=model, file_type=self.request.file_type)

    def wanted(self, record: CaseRecord, model: TrainedModel) -> Wanted:
        """Say what is to be made of a case."""
        request, files = self.request, self.files(record, model)
        outputs = [files.segmentation_path]
        if request.has_probabilities or request.has_uncertainty:
            outputs += files.probability_paths
        if request.has_uncertainty:
            outputs += files.contour_paths
        if request.overlay is not None:
            outputs.append(files.overlay_path(request.overlay))
        return Wanted(
            case=record.id,
            job=self.key,
            folder=self.out,
            inputs=record.image_paths,
            outputs=outputs,
        )


def _sha256_of(place: Path, name: str) -> str:
    return file_state(model_folder(place) / name).sha256


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


def make_ensemble(models: Sequence[TrainedModel], computation: Computation) -> Ensemble:
    """Make models ready to segment.

    Raises:
        ConfigError: If this machine lacks the device or an engine.
    """
    device = choose_device(computation.device)
    dtype = compute_dtype(computation.precision, device)
    predictors = [
        Predictor(model, computation.settings, device, dtype, engine)
        for model, engine in zip(models, computation.engines, strict=True)
    ]
    return Ensemble(predictors)


def choose_all(computation: Computation, ensemble: Ensemble) -> Computation:
    """Say what was chosen wherever something was left open, so that all cases get the same."""
    first = ensemble.predictors[0]
    return Computation(
        places=tuple(place.absolute() for place in computation.places),
        settings=computation.settings,
        device=str(first.device),
        precision="bfloat16" if first.dtype == torch.bfloat16 else "float32",
        engines=tuple(predictor.engine for predictor in ensemble.predictors),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadCase:
    """A case as it was read.

    Attributes:
        record: Where its files lie.
        inputs: What these were then.
        image: Intensities; None when they are not needed any more.
        geometry: Their grid.
        seconds: How long each stage took so far.
    """

    record: CaseRecord
    inputs: dict[str, FileState]
    image: Image | None
    geometry: Geometry
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedCase:
    """A case with its segmentation, before that is tidied up and written.

    Attributes:
        read: What was segmented.
        segmentation: The most probable class of every element.
        sums: What the volumes need.
        warning: What somebody should know of the case.
    """

    read: ReadCase
    segmentation: Label
    sums: VolumeSums
    warning: str | None


def read_case(wanted: Wanted, record: CaseRecord, known: Entry | None) -> ReadCase | Entry:
    """Read a case's image, unless its content and all else is as it was.

    Returns:
        The image; or what is known of the case, with the present dates of its files.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        inputs = wanted.read_inputs()
        if known is not None and wanted.is_same(inputs, known):
            return known.model_copy(update={"inputs": inputs})
        wanted.clear(known)
        image, geometry = read_channels(record.image_paths)
    return ReadCase(record=record, inputs=inputs, image=image, geometry=geometry, seconds=seconds)


def segment_case(ensemble: Ensemble, job: SegmentJob, read: ReadCase) -> SegmentedCase:
    """Segment a case; what is written part by part is written."""
    request, files = job.request, job.files(read.record, ensemble.model)
    assert read.image is not None
    segmentation = np.empty(read.geometry.shape, np.uint8)
    sums = VolumeSums(len(ensemble.model.classes), read.geometry.element_volume_mm3)
    with timed(read.seconds, "segment"), ExitStack() as stack:
        writers: list[WritePart] = []
        if request.has_probabilities or request.has_uncertainty:
            writers.append(stack.enter_context(files.probability_writer(read.geometry)))
        if request.has_uncertainty:
            writers.append(stack.enter_context(files.contour_writer(read.geometry)))
        for slab in ensemble.predict_slabs(read.image, read.geometry):
            segmentation[slab.place] = slab.segmentation()
            if request.has_uncertainty:
                sums.add(slab.probability)
            for write in writers:
                write(slab.place, slab.probability)
    if request.overlay is None:
        # While this one is written, the image of the next needs the room.
        read = replace(read, image=None)
    warning = ensemble.predictors[0].far_spacing(read.geometry)
    return SegmentedCase(read=read, segmentation=segmentation, sums=sums, warning=warning)


def finish_case(model: TrainedModel, tidying: PostprocessingSettings, job: SegmentJob,
                segmented: SegmentedCase) -> Entry:  # fmt: skip
    """Tidy up a segmentation and write it.

    Returns:
        What is to be known of the case from now on.
    """
    read, names = segmented.read, model.classes.foreground
    files, seconds = job.files(read.record, model), read.seconds
    with timed(seconds, "tidy"):
        volume = read.geometry.element_volume_mm3
        tidy = postprocess(segmented.segmentation, volume, names, tidying)
        volumes = tuple(segmented.sums.estimates(tidy))
    with timed(seconds, "write"):
        files.write_segmentation(tidy, read.geometry)
    if job.request.overlay is not None:
        with timed(seconds, "draw"):
            # It draws, and Matplotlib takes its time to load.
            from sfumato.workflow.preview import write_preview

            assert read.image is not None
            case = Case(id=read.record.id, image=read.image, geometry=read.geometry)
            write_preview(files.overlay_path(job.request.overlay), case, tidy, model.classes)
    known = {
        "volumes": volumes,
        "is_placed": read.geometry.is_placed,
        "warning": segmented.warning,
    }
    return job.wanted(read.record, model).entry(read.inputs, seconds).model_copy(update=known)


def attempt(case_id: str, do: Callable[[], Done]) -> Done | Failure:
    """Do something with a case; what goes wrong must not stop the others."""
    try:
        return do()
    except (SfumatoError, OSError, MemoryError) as error:
        return Failure.of(case_id, error)
    except Exception as error:
        return Failure.of_defect(case_id, error)


def segment_record(job: SegmentJob, task: tuple[CaseRecord, Entry | None]) -> Entry | Failure:
    """Segment a case and write its files, unless what is known of it still holds.

    Args:
        job: How.
        task: Where the case's files are, and what the manifest knows of it.

    Returns:
        What the manifest is to know from now on, or why the case could not be segmented.
    """
    record, known = task

    def do() -> Entry:
        # A process of a cluster works on one core, whatever its machine has.
        torch.set_num_threads(1)
        ensemble = _ensemble_of(job.computation)
        read = read_case(job.wanted(record, ensemble.model), record, known)
        if isinstance(read, Entry):
            return read
        segmented = segment_case(ensemble, job, read)
        return finish_case(ensemble.model, tidying_of(ensemble, job.request), job, segmented)

    return attempt(record.id, do)


def tidying_of(ensemble: Ensemble, request: SegmentRequest) -> PostprocessingSettings:
    """Return what segmentations are tidied up with."""
    return ensemble.postprocessing if request.has_postprocessing else PostprocessingSettings()


@lru_cache(maxsize=1)
def _ensemble_of(computation: Computation) -> Ensemble:
    """Load models once for all cases that a process works on."""
    return make_ensemble(load_models(computation.places), computation)
