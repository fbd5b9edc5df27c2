"""Series of an archive: ask for one to be segmented, and see how far they are."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from sfumato.service.dicomweb import Exchange
from sfumato.service.jobs import shown_time
from sfumato.service.state import Service, TheService, problems
from sfumato.service.transfers import Transfer, TransferState

router = APIRouter(prefix="/v1/dicomweb", tags=["dicomweb"])
Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=64)]


class Wanted(BaseModel):
    """A series to fetch, segment, and send back as DICOM SEG."""

    model_config = ConfigDict(extra="forbid")

    model: str
    study: Uid
    series: Uid


class ShownTransfer(BaseModel):
    """How far a series is."""

    study: str
    series: str
    model: str
    state: TransferState
    job: str | None
    message: str | None
    created: str


def _show(transfer: Transfer) -> ShownTransfer:
    return ShownTransfer(
        study=transfer.study,
        series=transfer.series,
        model=transfer.model,
        state=transfer.state,
        job=transfer.job_id,
        message=transfer.message,
        created=shown_time(transfer.created) or "",
    )


def _exchange(service: Service) -> Exchange:
    if service.exchange is None:
        raise HTTPException(404, "this server knows no archive; start it with --dicomweb URL")
    return service.exchange


@router.post("", status_code=202, responses=problems(400, 404))
def want_series(wanted: Wanted, service: TheService) -> ShownTransfer:
    """Fetch a series from the archive, segment it, and send the segmentation back."""
    exchange = _exchange(service)
    model = service.model(wanted.model)
    return _show(exchange.transfers.want(wanted.series, wanted.study, model.name))


@router.get("", responses=problems(404))
def list_series(
    service: TheService, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[ShownTransfer]:
    """List the series that were asked for or arrived, the newest first."""
    return [_show(transfer) for transfer in _exchange(service).transfers.newest(limit)]
