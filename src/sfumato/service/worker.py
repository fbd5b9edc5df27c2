"""The process that segments: it takes one job after the other, with models that are loaded once.

It is a process of its own so that no image, however it is made, can take the server down.
"""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from sfumato.arrays import Image
from sfumato.errors import SfumatoError
from sfumato.image.geometry import Geometry
from sfumato.inference.ensemble import Ensemble
from sfumato.inference.predictor import InferenceSettings
from sfumato.inference.probability import ProbabilitySlab
from sfumato.model.trained import TrainedModel
from sfumato.service.inspection import Room, inspect
from sfumato.service.job_files import JobFiles, job_files, remove_folder
from sfumato.service.jobs import Job, JobList, Stage
from sfumato.service.logs import log, write_logs
from sfumato.service.results import Result, View
from sfumato.service.settings import ServiceSettings
from sfumato.workflow.segmented_case import (
    Computation,
    SegmentJob,
    SegmentRequest,
    choose_all,
    make_ensemble,
    tidying_of,
)
from sfumato.workflow.segmenting import segment_cases

_IDLE_SECONDS = 0.05
_DEFECT = "(this is a defect in sfumato)"


class _CancelledError(BaseException):
    """The job is no longer wanted, which nobody on the way shall take for a failure of the case."""


def work(settings: ServiceSettings, server: Connection) -> None:
    """Take jobs until told to stop, or until the server's process is gone.

    Args:
        settings: The server's.
        server: Told when all models are loaded; says when no further job shall be begun. A pipe
            of our own, since a process that is killed leaves no lock behind in it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which tells us.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_logs()
    _end_with_parent()
    ensembles = load_ensembles(settings)
    _limit_memory(settings.memory_bytes)
    jobs = JobList(settings.data / "jobs.sqlite")
    server.send("ready")
    log("worker_ready", pid=os.getpid(), models=len(ensembles))
    while not server.poll():
        job = jobs.take()
        if job is None:
            server.poll(_IDLE_SECONDS)
        else:
            run_job(job, jobs, ensembles[job.model], settings)
    jobs.close()


def load_ensembles(settings: ServiceSettings) -> dict[str, Ensemble]:
    """Load every model as `sfumato segment` does.

    Raises:
        ModelError: If one cannot be read.
        ConfigError: If this machine has not the device or the engine.
    """
    return {
        name: make_ensemble([TrainedModel.load(place)], _computation(settings, place))
        for name, place in settings.models.items()
    }


def _computation(settings: ServiceSettings, place: Path) -> Computation:
    return Computation(
        places=(place,),
        settings=InferenceSettings(),
        device=settings.device,
        precision="auto",
        engines=(settings.engine,),
    )


def run_job(job: Job, jobs: JobList, ensemble: Ensemble, settings: ServiceSettings) -> None:
    """Segment one image, and note how it ended."""
    files = job_files(settings.data, job.id)
    started = time.monotonic()
    outcome = "done"
    try:
        results = _segment(job, jobs, ensemble, files, settings)
        jobs.finish(job.id, results)
    except _CancelledError:
        outcome = "cancelled"
    except (SfumatoError, MemoryError, OSError) as error:
        outcome = "failed"
        jobs.fail(job.id, told(error, files.folder))
    except Exception as error:
        # The text of an error that nobody foresaw may quote the image's header.
        outcome = "failed"
        log("job_error", logging.ERROR, job=job.id, error=type(error).__name__)
        jobs.fail(job.id, "this image met a defect in sfumato; please report it")
    finally:
        remove_folder(files.input / "unpacked")
        jobs.let_go(job.id)
    log("job_ended", job=job.id, outcome=outcome, seconds=round(time.monotonic() - started, 3))


def _segment(
    job: Job, jobs: JobList, ensemble: Ensemble, files: JobFiles, settings: ServiceSettings
) -> tuple[Result, ...]:
    for folder in (files.output, files.view):  # What an interrupted attempt left.
        remove_folder(folder)
        folder.mkdir()
    room = Room(n_bytes=settings.unpacked_bytes, n_elements=settings.n_elements)
    record = inspect(files.input, job.name, job.options["file_names"], room)
    request = SegmentRequest(
        has_probabilities=job.options["probabilities"],
        has_uncertainty=job.options["uncertainty"],
        level=job.options["level"],
        has_postprocessing=job.options["postprocessing"],
        file_type=job.options["format"],
    )
    view = View(
        folder=files.view,
        classes=ensemble.model.classes,
        request=request,
        postprocessing=tidying_of(ensemble, request),
    )
    watch = _Watch(job, jobs, view)
    watched = Ensemble(ensemble.predictors, watch)
    computation = choose_all(_computation(settings, settings.models[job.model]), watched)
    work = SegmentJob(out=files.output, computation=computation, request=request)
    for failure in segment_cases(watched, [record], work).failures:
        raise SfumatoError(failure.reason)
    watch.report("writing", 1.0)
    return view.finish(files.output, record.id)


class _Watch:
    """Tells the list of jobs how far a case is, and stops when it is not wanted any more."""

    def __init__(self, job: Job, jobs: JobList, view: View) -> None:
        self._job, self._jobs, self._view = job, jobs, view

    def __call__(
        self, slabs: Iterator[ProbabilitySlab], image: Image, geometry: Geometry
    ) -> Iterator[ProbabilitySlab]:
        self.report("segmenting", 0.0)
        total, done = image[0].size, 0
        for slab in self._view.keep(slabs, image, geometry):
            done += slab.probability[0].size
            self.report("segmenting", done / total)
            yield slab
        self.report("writing", 1.0)

    def report(self, stage: Stage, progress: float) -> None:
        # The last percents are for writing.
        if not self._jobs.report(self._job.id, stage, round(0.95 * progress, 4)):
            raise _CancelledError


def told(error: Exception, folder: Path) -> str:
    """Return what is wrong with an image, without the server's paths or names from archives."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError):
        return "the server cannot read or write its files; ask its operator"
    if str(error).endswith(_DEFECT):
        log("job_defect", logging.ERROR, error=str(error).partition(":")[0])
        return "this image met a defect in sfumato; please report it"
    place = re.escape(str(folder))
    text = re.sub(rf"{place}(?:/.*?)?(?=: )", "the image", str(error), count=1)
    return " ".join(re.sub(rf"{place}[^\s:;,()]*", "the image", text).split())


def _end_with_parent() -> None:
    """End at once when the server's process is gone, so that no two work on one list."""
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _limit_memory(n_bytes: int | None) -> None:
    if n_bytes is not None and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))
