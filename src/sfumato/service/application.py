"""The web application, put together from its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from sfumato.cases.dataset import Dataset
from sfumato.errors import ConfigError, unknown_name
from sfumato.service import (
    monai_label,
    routes_cases,
    routes_dicomweb,
    routes_jobs,
    routes_operations,
)
from sfumato.service.dicomweb import ArchiveSettings, Exchange
from sfumato.service.jobs import JobList
from sfumato.service.metrics import Metrics
from sfumato.service.models import show_models
from sfumato.service.routes_page import PAGE_FILES, page_router
from sfumato.service.security import Guard
from sfumato.service.settings import ServiceSettings
from sfumato.service.state import Service
from sfumato.service.supervisor import Supervisor
from sfumato.service.training_cases import TrainingCases


def create_service(settings: ServiceSettings, archive: ArchiveSettings | None = None) -> Service:
    """Open the server's folder, without starting anything.

    Args:
        settings: How the server works.
        archive: The archive that it talks with, if any.

    Raises:
        ModelError: If a model is missing or damaged.
        ConfigError: If what arrives in the archive is to be segmented by a model that is not there.
        DatasetError: If the training cases cannot be understood.
        FileError: If the folder cannot be made.
    """
    models = show_models(settings.models)
    dataset = None if settings.dataset is None else Dataset.open(settings.dataset)
    cases = None if dataset is None else TrainingCases(dataset)
    if archive is not None and archive.watch_model not in (None, *settings.models):
        raise ConfigError(unknown_name("model", str(archive.watch_model), settings.models))
    (settings.data / "jobs").mkdir(parents=True, exist_ok=True)
    jobs = JobList(settings.data / "jobs.sqlite")
    supervisor = Supervisor(settings, jobs)
    metrics = Metrics(jobs.counts, lambda: supervisor.n_restarts, lambda: supervisor.is_ready)
    return Service(
        settings=settings,
        jobs=jobs,
        supervisor=supervisor,
        models=tuple(models),
        metrics=metrics,
        cases=cases,
        exchange=None if archive is None else Exchange(archive, settings, jobs),
    )


def create_app(service: Service) -> FastAPI:
    """Make the application of a server; the worker starts and stops with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.supervisor.start()
        if service.exchange is not None:
            service.exchange.start()
        yield
        if service.exchange is not None:
            service.exchange.stop()
        service.supervisor.stop()
        service.jobs.close()

    app = FastAPI(
        title="sfumato",
        summary="Segments medical images.",
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # It would load its program from elsewhere.
        redoc_url=None,
        lifespan=lifespan,
        # Guard asks for the token; this describes it.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if service.settings.token else [],
        redirect_slashes=False,
    )
    app.state.service = service
    routers = (
        routes_jobs.router,
        routes_cases.router,
        routes_operations.router,
        routes_dicomweb.router,
        monai_label.router,
        page_router(),
    )
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(RequestValidationError, _plain_problem)
    app.add_middleware(
        Guard,
        token=service.settings.token,
        hosts=service.settings.hosts,
        page_places=frozenset(PAGE_FILES),
        metrics=service.metrics,
    )
    return app


async def _plain_problem(_request: Request, error: Exception) -> JSONResponse:
    """Say in one line what is wrong with a request, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][:2])
    return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)
