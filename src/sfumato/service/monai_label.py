"""MONAI Label's requests, as its module in 3D Slicer sends them.

A server that does not train can answer a part of them, and says so of the others.

Source: the client in MONAI Label's module for 3D Slicer, release 0.8.5, by its requests.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from sfumato.service.job_files import remove_folder
from sfumato.service.jobs import Job
from sfumato.service.models import ShownModel
from sfumato.service.results import LABEL
from sfumato.service.routes_jobs import Entry, Options, enqueue, receive, receiving
from sfumato.service.sessions import (
    Session,
    copy_input,
    find_session,
    keep_session,
    list_sessions,
    named_session_id,
    new_session_id,
)
from sfumato.service.state import Service, TheService
from sfumato.service.token import is_token
from sfumato.service.uploads import Upload, clean_name

router = APIRouter(include_in_schema=False)
_LOOK_SECONDS = 0.1
_PIECE = 1 << 20
_MOST_LOGIN_BYTES = 4096
_WANTED = Options(probabilities=False, uncertainty=False, format="nifti")


@router.get("/info/")
def info(service: TheService) -> dict[str, Any]:
    """Say what there is: models, and nothing to train."""
    models = {model.name: _model_info(model) for model in service.models}
    labels = sorted({name for model in models.values() for name in model["labels"]})
    return {
        "name": "sfumato",
        "description": "Segmentation with probabilities that mean what they say near boundaries",
        "version": "1",
        "labels": labels,
        "models": models,
        "trainers": {},
        "strategies": {},
        "scoring": {},
        "train_stats": {},
        "datastore": {},
    }


def _model_info(model: ShownModel) -> dict[str, Any]:
    return {
        "type": "segmentation",
        "labels": {shown.name: shown.value for shown in model.classes},
        "dimension": model.dimensions,
        "description": f"Trained with sfumato ({model.hash})",
        "config": {},
    }


@router.get("/auth/")
async def auth(service: TheService) -> dict[str, Any]:
    """Say whether a password is asked for: the server's token, under any name."""
    return {"enabled": service.settings.token is not None, "realm": "sfumato", "client_id": ""}


@router.post("/auth/token")
async def log_in(request: Request, service: TheService) -> dict[str, Any]:
    """Give back the token to who knows it."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_LOGIN_BYTES:
            raise HTTPException(413, "this is no name and password")
    fields = parse_qs(body.decode("utf-8", errors="replace"))
    shown = fields.get("password", [""])[0]
    token = service.settings.token
    if token is None or not is_token(token, f"Bearer {shown}"):
        raise HTTPException(401, "the password must be the server's token")
    return {"access_token": token, "token_type": "bearer"}


@router.put("/session/")
async def create_session(request: Request, service: TheService) -> dict[str, Any]:
    """Take an image that is to be segmented later."""
    session = await _keep(request, service, new_session_id(), "files")
    return {"session_id": session.id, "session": _session_info(session)}


@router.get("/session/{session_id}")
def get_session(session_id: str, service: TheService) -> dict[str, Any]:
    """Tell that an image is still there."""
    return _session_info(_session(service, session_id))


@router.delete("/session/{session_id}")
def remove_session(session_id: str, service: TheService) -> dict[str, Any]:
    """Forget an image that was sent."""
    remove_folder(_session(service, session_id).folder)
    return {}


@router.put("/datastore/")
@router.put("/datastore/image")
async def put_image(request: Request, service: TheService, image: str) -> dict[str, str]:
    """Take an image under a name of the client's."""
    await _keep(request, service, named_session_id(image), "file", image)
    return {"image": image}


@router.get("/datastore/")
def list_datastore() -> dict[str, Any]:
    """Say that no labelled cases are kept here."""
    return {"objects": {}}


@router.get("/train/")
def is_training() -> None:
    """Say that no training runs."""
    raise HTTPException(404, "nothing is trained here")


@router.post("/train/")
@router.post("/train/{model}")
@router.delete("/train/")
def refuse_training() -> None:
    """Refuse to train."""
    raise HTTPException(404, "models are trained with: sfumato train")


@router.post("/activelearning/{strategy}")
def refuse_samples(strategy: str) -> None:
    """Refuse to choose the next image to draw."""
    raise HTTPException(404, "there are no cases to choose from; load an image")


@router.put("/datastore/label")
def refuse_labels() -> None:
    """Refuse labels, which are not kept here."""
    raise HTTPException(404, "labels are not kept here; save them in your own files")


@router.post("/infer/{model}")
async def infer(
    model: str,
    request: Request,
    service: TheService,
    *,
    image: str = "",
    session_id: str = "",
    output: str = Query(default="all", pattern="^(all|image|json)$"),
) -> StreamingResponse:
    """Segment an image that was sent ahead, or comes along, and wait for it."""
    known = service.model(model)
    async with receiving(request, service) as folder:
        place = folder / "input"
        upload = await receive(request, service, place, "file", is_file_needed=False)
        name, file_names = clean_name(image or "image"), upload.names
        if not upload.files:
            session = _session(service, session_id or named_session_id(image))
            name, file_names = session.name, list(session.file_names)
            await run_in_threadpool(copy_input, session, place)
        entry = Entry(
            model=known.name, name=name, file_names=file_names, origin={"kind": "monai_label"}
        )
        job_id = await run_in_threadpool(enqueue, service, folder, entry, _WANTED)
    job = await _ended(service, job_id)
    if job.state != "done":
        raise HTTPException(500, job.message or "it was cancelled")
    path = service.files(job_id).view / LABEL
    return _answer(known, job, None if output == "json" else path)


async def _ended(service: Service, job_id: str) -> Job:
    while True:
        job = await run_in_threadpool(service.job, job_id)
        if job.is_finished:
            return job
        if service.is_stopping.is_set():
            raise HTTPException(503, "the server is being stopped")
        await asyncio.sleep(_LOOK_SECONDS)


def _answer(model: ShownModel, job: Job, path: Path | None) -> StreamingResponse:
    """Answer with a form, as MONAI Label does: what was found in words, and the label's file."""
    boundary = secrets.token_hex(16)
    seconds = (job.finished or 0.0) - (job.started or 0.0)
    words = {
        "label_names": {shown.name: shown.value for shown in model.classes},
        "latencies": {"total": round(seconds, 3)},
    }
    start = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(words)}\r\n"
    )
    end = f"--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        yield start.encode()
        if path is not None:
            yield (
                f'--{boundary}\r\nContent-Disposition: form-data; name="image";'
                f' filename="{LABEL}"\r\nContent-Type: application/octet-stream\r\n\r\n'
            ).encode()
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
            yield b"\r\n"
        yield end

    return StreamingResponse(pieces(), media_type=f"multipart/form-data; boundary={boundary}")


async def _keep(
    request: Request, service: Service, session_id: str, file_field: str, name: str = ""
) -> Session:
    sessions = await run_in_threadpool(list_sessions, service.settings.data)
    if len(sessions) >= service.settings.queue_length:
        raise HTTPException(429, "too many images were sent ahead", {"Retry-After": "60"})
    async with receiving(request, service) as folder:
        upload: Upload = await receive(request, service, folder / "input", file_field)
        return await run_in_threadpool(
            keep_session,
            service.settings.data,
            session_id,
            folder,
            upload.names,
            clean_name(name or "image"),
        )


def _session(service: Service, session_id: str) -> Session:
    session = find_session(service.settings.data, session_id)
    if session is None:
        raise HTTPException(404, "there is no such image, or it was sent long ago; send it again")
    return session


def _session_info(session: Session) -> dict[str, Any]:
    return {"name": session.name, "expiry": 3600}
