"""What the routes of one server share."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel

from sfumato.service.dicomweb import Exchange
from sfumato.service.job_files import JobFiles, job_files
from sfumato.service.jobs import Job, JobList
from sfumato.service.metrics import Metrics
from sfumato.service.models import ShownModel
from sfumato.service.settings import ServiceSettings
from sfumato.service.supervisor import Supervisor
from sfumato.service.training_cases import TrainingCases

_MOST_COMPUTING = 2


@dataclass(kw_only=True)
class Service:
    """One server.

    Attributes:
        settings: How it works.
        jobs: The list of jobs.
        supervisor: Who keeps the worker alive.
        models: What is offered.
        metrics: What is counted.
        cases: The training cases to look at, if any.
        exchange: Who talks with the archive, if there is one.
        is_stopping: Set when the server was told to stop; streams end then.
        n_uploads: How many uploads are coming in.
        computing: Keeps what is computed at once, in this process, to a few.
    """

    settings: ServiceSettings
    jobs: JobList
    supervisor: Supervisor
    models: tuple[ShownModel, ...]
    metrics: Metrics
    cases: TrainingCases | None = None
    exchange: Exchange | None = None
    is_stopping: asyncio.Event = field(default_factory=asyncio.Event)
    n_uploads: int = 0
    computing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST_COMPUTING))

    def model(self, name: str) -> ShownModel:
        """Return a model by name.

        Raises:
            HTTPException: 422 if there is none of that name.
        """
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise HTTPException(422, f"there is no model of that name; there is {known}")

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            HTTPException: 404 if there is none.
        """
        job = self.jobs.find(job_id)
        if job is None:
            raise HTTPException(404, "there is no such job")
        return job

    def files(self, job_id: str) -> JobFiles:
        """Return where a job's files lie."""
        return job_files(self.settings.data, job_id)

    @property
    def uploads_folder(self) -> Path:
        """Where files lie until all of an upload is there."""
        return self.settings.data / "uploads"


def service_of(request: Request) -> Service:
    """Return the server that a request came to."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(service_of)]
JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$")]


class Problem(BaseModel):
    """What an answer says when something is wrong: one plain line."""

    detail: str


def problems(*codes: int) -> dict[int | str, dict[str, object]]:
    """Describe the errors of a route, beside those that every one may have."""
    return {code: {"model": Problem} for code in (*codes, 401, 403, 421, 422)}
