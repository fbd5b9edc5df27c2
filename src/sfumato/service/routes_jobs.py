"""Jobs: send an image, watch, fetch what became of it, cancel, delete."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from sfumato.image.names import FileType
from sfumato.service.job_files import job_files, remove_folder
from sfumato.service.jobs import Job, Stage, State, shown_time
from sfumato.service.results import Kind
from sfumato.service.state import JobId, Service, TheService, problems
from sfumato.service.uploads import Upload, UploadLimits, case_name, receive_form
from sfumato.workflow.segmenting import CASES

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_LOOK_SECONDS = 0.2
_QUIET_SECONDS = 15.0
_RETRY_SECONDS = 10
_DRAINED_SECONDS, _DRAINED_BYTES = 5.0, 2**26
_MEDIA_TYPES = {".gz": "application/gzip", ".json": "application/json", ".dcm": "application/dicom"}
_FILES: dict[str, object] = {
    kind: {} for kind in (*_MEDIA_TYPES.values(), "application/octet-stream")
}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["model", "image"],
                    "properties": {
                        "model": {"type": "string"},
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "options": {"type": "string", "contentMediaType": "application/json"},
                        "name": {"type": "string", "maxLength": 80},
                    },
                }
            }
        },
    }
}


class Options(BaseModel):
    """What is written of a case."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    probabilities: bool = True
    uncertainty: bool = True
    level: float = Field(default=0.9, gt=0, lt=1)
    postprocessing: bool = True
    format: FileType = "same"


class ShownResult(BaseModel):
    """A file to show or to keep."""

    name: str
    kind: Kind
    value: int | None = Field(serialization_alias="class")
    level: float | None
    bytes: int


class ShownJob(BaseModel):
    """A job, as far as clients are told of it."""

    id: str
    model: str
    name: str
    state: State
    stage: Stage | None
    progress: float
    seconds_left: float | None
    position: int | None
    created: str
    finished: str | None
    message: str | None
    results: list[ShownResult]


class OutputFile(BaseModel):
    """A file that `sfumato segment` writes."""

    name: str
    bytes: int


def show(job: Job, positions: dict[str, int]) -> ShownJob:
    """Return a job as clients see it."""
    seconds_left = job.seconds_left()
    return ShownJob(
        id=job.id,
        model=job.model,
        name=job.name,
        state=job.state,
        stage=job.stage,
        progress=job.progress,
        seconds_left=None if seconds_left is None else round(seconds_left, 1),
        position=positions.get(job.id),
        created=shown_time(job.created) or "",
        finished=shown_time(job.finished),
        message=job.message,
        results=[ShownResult.model_validate(vars(result)) for result in job.results],
    )


def show_now(service: Service, job_id: str) -> ShownJob:
    """Return a job as it is now.

    Raises:
        HTTPException: 404 if there is none.
    """
    return show(service.job(job_id), service.jobs.positions())


@router.post(
    "", status_code=202, openapi_extra=_FORM, responses=problems(400, 408, 413, 415, 429, 507)
)
async def send_image(request: Request, service: TheService) -> ShownJob:
    """Send an image to be segmented."""
    return await receive_job(request, service)


async def receive_job(request: Request, service: Service) -> ShownJob:
    """Take an upload and put it into the queue.

    Raises:
        HTTPException: If it cannot be taken.
    """
    async with receiving(request, service) as folder:
        upload = await receive(request, service, folder / "input")
        return await run_in_threadpool(_enqueue, service, folder, upload)


@contextlib.asynccontextmanager
async def receiving(request: Request, service: Service) -> AsyncIterator[Path]:
    """Give a folder for what comes, with a place for it in the queue; it goes in the end.

    Raises:
        HTTPException: 429 if there is no place, 507 if the disk is full.
    """
    try:
        await _reserve(service)
        folder = service.uploads_folder / secrets.token_hex(16)
        try:
            await run_in_threadpool((folder / "input").mkdir, parents=True)
            yield folder
        except OSError:
            raise HTTPException(507, "the server's disk is full; try again later") from None
        finally:
            service.n_uploads -= 1
            await run_in_threadpool(remove_folder, folder)
    except HTTPException as error:
        if error.status_code != 408:
            await _drain(request)
        raise


async def _drain(request: Request) -> None:
    """Let a client that is refused finish, within limits: it reads the answer only then."""
    n_bytes = 0
    # Starlette raises a RuntimeError where all has come already.
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DRAINED_SECONDS):
            async for piece in request.stream():
                n_bytes += len(piece)
                if n_bytes > _DRAINED_BYTES:
                    return


async def _reserve(service: Service) -> None:
    """Keep a place in the queue for what comes.

    Raises:
        HTTPException: 429 if there is none.
    """
    counts = await run_in_threadpool(service.jobs.counts)
    if counts.get("queued", 0) + service.n_uploads >= service.settings.queue_length:
        raise HTTPException(
            429, "too many jobs wait; try again later", {"Retry-After": str(_RETRY_SECONDS)}
        )
    service.n_uploads += 1


async def receive(
    request: Request,
    service: Service,
    folder: Path,
    file_field: str = "image",
    *,
    is_file_needed: bool = True,
) -> Upload:
    """Write the files of a form into a folder, within the limits of the server.

    Raises:
        HTTPException: As `receive_form`.
    """
    settings = service.settings
    limits = UploadLimits(
        n_bytes=settings.upload_bytes,
        idle_seconds=settings.idle_seconds,
        total_seconds=settings.upload_seconds,
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limits.n_bytes:
        raise HTTPException(413, f"more than {limits.n_bytes} bytes; send less")
    content_type = request.headers.get("content-type", "")

    async def counted() -> AsyncIterator[bytes]:
        async for piece in request.stream():
            service.metrics.received(len(piece))
            yield piece

    return await receive_form(
        content_type, counted(), folder, limits, file_field, is_file_needed=is_file_needed
    )


def _enqueue(service: Service, folder: Path, upload: Upload) -> ShownJob:
    if unknown := sorted(upload.texts.keys() - {"model", "options", "name"}):
        raise HTTPException(422, f"the form has {len(unknown)} unknown fields")
    model = service.model(upload.texts.get("model", ""))
    try:
        options = Options.model_validate_json(upload.texts.get("options") or "{}")
    except ValidationError:
        known = ", ".join(Options.model_fields)
        raise HTTPException(422, f"options must be JSON with {known}") from None
    entry = Entry(model=model.name, name=case_name(upload), file_names=upload.names)
    return show_now(service, enqueue(service, folder, entry, options))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a job is about.

    Attributes:
        model: Name of the model.
        name: What the case is called.
        file_names: What its files were called, in their order.
        origin: Where it came from.
    """

    model: str
    name: str
    file_names: Sequence[str] = ()
    origin: Mapping[str, str] = field(default_factory=lambda: {"kind": "upload"})


def enqueue(service: Service, folder: Path, entry: Entry, options: Options) -> str:
    """Put what came into the queue.

    Args:
        service: The server.
        folder: Holds the folder `input` with the files; it is moved.
        entry: What it is about.
        options: What is written of it.

    Returns:
        The id of the job.
    """
    job_id = secrets.token_hex(16)
    files = job_files(service.settings.data, job_id)
    files.folder.parent.mkdir(exist_ok=True)
    folder.rename(files.folder)
    kept = {**options.model_dump(), "file_names": list(entry.file_names)}
    service.jobs.add(job_id, entry.model, entry.name, kept, dict(entry.origin))
    return job_id


@router.get("", responses=problems())
def list_jobs(
    service: TheService, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[ShownJob]:
    """List jobs, the newest first."""
    positions = service.jobs.positions()
    return [show(job, positions) for job in service.jobs.newest(limit)]


@router.get("/{job_id}", responses=problems(404))
def get_job(job_id: JobId, service: TheService) -> ShownJob:
    """Tell how far a job is."""
    return show_now(service, job_id)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={**problems(404), 200: {"content": {"text/event-stream": {}}}},
)
async def watch_job(job_id: JobId, service: TheService) -> StreamingResponse:
    """Tell how far a job is whenever that changes, until it has ended."""
    await run_in_threadpool(service.job, job_id)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(job_id, service), media_type="text/event-stream", headers=headers
    )


async def _events(job_id: str, service: Service) -> AsyncIterator[str]:
    last, quiet_seconds = "", 0.0
    while not service.is_stopping.is_set():
        try:
            job = await run_in_threadpool(show_now, service, job_id)
        except HTTPException:  # It was deleted.
            return
        text = job.model_dump_json(by_alias=True)
        if text != last:
            yield f"event: job\ndata: {text}\n\n"
            last, quiet_seconds = text, 0.0
        if job.finished is not None:
            return
        if quiet_seconds > _QUIET_SECONDS:  # So that nobody between takes us for dead.
            yield ": still here\n\n"
            quiet_seconds = 0.0
        await asyncio.sleep(_LOOK_SECONDS)
        quiet_seconds += _LOOK_SECONDS


@router.get(
    "/{job_id}/results/{name}",
    response_class=FileResponse,
    responses={**problems(404), 200: {"content": _FILES}},
)
def get_result(job_id: JobId, name: str, service: TheService) -> FileResponse:
    """Fetch a file that a viewer shows."""
    job = service.job(job_id)
    if name not in {result.name for result in job.results}:
        raise HTTPException(404, "there is no such result")
    return _file(service.files(job_id).view / name)


@router.get("/{job_id}/output", responses=problems(404))
def list_output(job_id: JobId, service: TheService) -> list[OutputFile]:
    """List the files that `sfumato segment` writes."""
    if service.job(job_id).state != "done":
        return []
    folder = service.files(job_id).output
    # The list of what is done is for going on there, and names the server's folders.
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CASES)
    return [
        OutputFile(name=path.relative_to(folder).as_posix(), bytes=path.stat().st_size)
        for path in paths
    ]


@router.get(
    "/{job_id}/output/{name:path}",
    response_class=FileResponse,
    responses={**problems(404), 200: {"content": _FILES}},
)
def get_output(job_id: JobId, name: str, service: TheService) -> FileResponse:
    """Fetch a file that `sfumato segment` writes."""
    if name not in {file.name for file in list_output(job_id, service)}:
        raise HTTPException(404, "there is no such file")
    return _file(service.files(job_id).output / name)


def _file(path: Path) -> FileResponse:
    media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media_type, filename=path.name)


@router.post("/{job_id}/cancel", responses=problems(404))
def cancel_job(job_id: JobId, service: TheService) -> ShownJob:
    """Stop a job that waits or runs; one that has ended stays as it is."""
    service.job(job_id)
    service.jobs.cancel(job_id)
    return show_now(service, job_id)


@router.delete("/{job_id}", status_code=204, responses=problems(404))
def delete_job(job_id: JobId, service: TheService) -> Response:
    """Remove a job with all of its files, whether it has ended or not."""
    service.job(job_id)
    service.jobs.delete(job_id)
    service.supervisor.tidy()
    return Response(status_code=204)
