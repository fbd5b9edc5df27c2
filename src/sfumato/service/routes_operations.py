"""What monitors ask for, and the list of models."""

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel

from sfumato.service.models import ShownModel
from sfumato.service.state import TheService, problems

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """Whether all is well."""

    status: str


@router.get("/v1/models", responses=problems(), tags=["models"])
def list_models(service: TheService) -> list[ShownModel]:
    """List the models that segment here."""
    return list(service.models)


@router.get("/healthz", responses=problems())
async def is_alive() -> Health:
    """Tell that the server answers."""
    return Health(status="ok")


@router.get("/readyz", responses=problems(503))
def is_ready(service: TheService) -> Health:
    """Tell whether models are loaded and the list of jobs can be read."""
    service.jobs.counts()
    if not service.supervisor.is_ready:
        raise HTTPException(503, "models are still being loaded")
    return Health(status="ready")


@router.get(
    "/metrics",
    response_class=Response,
    responses={**problems(), 200: {"content": {"text/plain": {}}}},
)
def metrics(service: TheService) -> Response:
    """Give counters in Prometheus' text format."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
