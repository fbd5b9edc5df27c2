"""What the tab of labels asks for: training cases, and superpixels of an image that was sent."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.nifti import load_nifti, write_nifti
from sfumato.labels.softeners import SOFTENERS
from sfumato.labels.superpixels import (
    SuperpixelSettings,
    compute_superpixels,
    default_size_mm,
)
from sfumato.report.colours import class_colour
from sfumato.service.models import ShownClass
from sfumato.service.state import JobId, Service, TheService, problems
from sfumato.service.training_cases import (
    Sight,
    Softening,
    TrainingCases,
    What,
    as_png,
    shown_values,
)
from sfumato.service.worker import told

router = APIRouter(prefix="/v1", tags=["labels"])
Value = TypeVar("Value")
Millimetres = Annotated[float, Query(ge=0.01, le=1000)]
Compactness = Annotated[float, Query(ge=1e-4, le=1e4)]


class ShownCase(BaseModel):
    """A training case in the list."""

    id: str
    name: str


class Defaults(BaseModel):
    """Settings where nothing is set."""

    size: float
    compactness: float
    scale_mm: float


class CaseDetail(BaseModel):
    """A training case: its axes are in the order in which they are shown."""

    shape: list[int]
    spacing: list[float]
    classes: list[ShownClass]
    defaults: Defaults
    planes: int


@router.get("/cases", responses=problems())
def list_cases(service: TheService) -> list[ShownCase]:
    """List the training cases there are to look at."""
    if service.cases is None:
        return []
    return [ShownCase(id=name, name=name) for name in service.cases.dataset.case_ids]


@router.get("/cases/{case_id}", responses=problems(404))
async def get_case(case_id: str, service: TheService) -> CaseDetail:
    """Describe a training case."""
    cases = _cases(service, case_id)
    return await _computed(service, lambda: _detail(cases, case_id))


def _detail(cases: TrainingCases, case_id: str) -> CaseDetail:
    geometry = cases.case(case_id).geometry
    sight = Sight.of(geometry)
    shape = [int(n) for n in sight.numbers(geometry.shape)]
    numbered = list(zip(cases.classes.names, shown_values(cases.classes), strict=True))[1:]
    return CaseDetail(
        shape=shape,
        spacing=sight.numbers(geometry.spacing),
        classes=[
            ShownClass(value=value, name=name, colour=class_colour(index))
            for index, (name, value) in enumerate(numbered)
        ],
        defaults=Defaults(
            size=default_size_mm(geometry.spacing),
            compactness=SuperpixelSettings().compactness,
            scale_mm=min(geometry.spacing),
        ),
        planes=1 if len(shape) == 2 else shape[0],
    )


@router.get(
    "/cases/{case_id}/plane",
    response_class=Response,
    responses={**problems(404), 200: {"content": {"image/png": {}}}},
)
async def get_plane(  # noqa: PLR0913 - what to show, and how it is made
    case_id: str,
    service: TheService,
    *,
    what: What,
    axis: Annotated[int, Query(ge=0, le=2)] = 0,
    index: Annotated[int, Query(ge=0, le=100_000)] = 0,
    value: Annotated[int | None, Query(alias="class", ge=0, le=2**32)] = None,
    size: Millimetres | None = None,
    compactness: Compactness = 0.1,
    scale_mm: Millimetres | None = None,
    softener: Annotated[str, Query(max_length=40)] = "superpixel",
) -> Response:
    """Draw a plane of a training case: its image, label, superpixels or soft label."""
    cases = _cases(service, case_id)
    if softener not in SOFTENERS:
        raise HTTPException(422, f"softener must be one of {', '.join(SOFTENERS)}")
    asked = Softening(size_mm=size, compactness=compactness, scale_mm=scale_mm, softener=softener)

    def draw() -> Response:
        sight = Sight.of(cases.case(case_id).geometry)
        shape = sight.numbers(cases.case(case_id).geometry.shape)
        chosen = shown_values(cases.classes)[1] if value is None else value
        if axis >= len(shape) or (len(shape) == 3 and index >= shape[axis]):
            raise HTTPException(422, "there is no such plane")
        if chosen not in shown_values(cases.classes):
            raise HTTPException(422, "there is no class of that value")
        plane = sight.plane(cases.plane(case_id, what, chosen, asked), axis, index)
        headers = {}
        if what in ("soft", "superpixels"):
            softened = cases.soften(case_id, asked)
            headers = {
                "X-Softened-Share": f"{softened.share:.6g}",
                "X-Milliseconds": f"{softened.milliseconds:.3f}",
            }
        return Response(as_png(plane), media_type="image/png", headers=headers)

    return await _computed(service, draw)


@router.get(
    "/jobs/{job_id}/superpixels",
    response_class=Response,
    responses={**problems(404, 409), 200: {"content": {"application/gzip": {}}}},
)
async def get_superpixels(
    job_id: JobId, service: TheService, size: Millimetres = 8.0, compactness: Compactness = 0.1
) -> Response:
    """Compute superpixels of an image that was sent, and number them from 0 (NIfTI)."""
    job = await run_in_threadpool(service.job, job_id)
    names = sorted(result.name for result in job.results if result.kind == "image")
    if not names:
        raise HTTPException(409, "the job has no image yet; wait until it is done")
    # image.nii.gz is the first channel, image-2.nii.gz the second.
    paths = [service.files(job_id).view / name for name in sorted(names, key=len)]
    settings = SuperpixelSettings(size_mm=size, compactness=compactness)
    content = await _computed(service, lambda: _superpixels(paths, settings))
    headers = {"Content-Disposition": 'attachment; filename="superpixels.nii.gz"'}
    return Response(content, media_type="application/gzip", headers=headers)


def _superpixels(paths: list[Path], settings: SuperpixelSettings) -> bytes:
    loaded = [load_nifti(path) for path in paths]
    affine = loaded[0][1]
    image = np.stack([values for values, _ in loaded]).astype(np.float32)
    geometry = Geometry(shape=image.shape[1:], affine=affine)
    is_flat = image.shape[-1] == 1
    flat = image[..., 0] if is_flat else image
    superpixels = compute_superpixels(flat, geometry.spacing[: flat.ndim - 1], settings)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "superpixels.nii.gz"
        write_nifti(path, superpixels.reshape(geometry.shape), geometry)
        return path.read_bytes()


def _cases(service: Service, case_id: str) -> TrainingCases:
    if service.cases is None or case_id not in service.cases.dataset.case_ids:
        raise HTTPException(404, "there is no such training case")
    return service.cases


async def _computed(service: Service, compute: Callable[[], Value]) -> Value:
    """Compute in another thread, few at once; errors of a case are the asker's to know."""
    async with service.computing:
        try:
            return await run_in_threadpool(compute)
        except (CaseError, InputError, MemoryError) as error:
            folder = service.settings.dataset or service.settings.data
            raise HTTPException(422, told(error, folder)) from None
