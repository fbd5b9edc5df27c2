"""The page: a few files of the package, served as they are."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).parent / "page"
_VIEWER = Path(__file__).parents[1] / "report" / "viewer"
"""The viewer, which reports have too."""
_PAGE = "index.html"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}


def _page_files() -> dict[str, Path]:
    """Return what is served, by its place: compressed files under the name they unpack to."""
    if not _FOLDER.is_dir():
        return {}
    files = {
        f"/{path.name.removesuffix('.gz')}": path
        for path in (*_FOLDER.iterdir(), *_VIEWER.iterdir())
        if path.suffix in (*_MEDIA_TYPES, ".gz")
    }
    return {**files, "/": _FOLDER / _PAGE} if f"/{_PAGE}" in files else files


PAGE_FILES = _page_files()


def page_router() -> APIRouter:
    """Make a route for each file of the page."""
    router = APIRouter(include_in_schema=False)
    for place, path in PAGE_FILES.items():
        router.get(place)(_answer_with(path))
    return router


def _answer_with(path: Path) -> Callable[[], Awaitable[FileResponse]]:
    media_type = _MEDIA_TYPES[Path(path.name.removesuffix(".gz")).suffix]
    # Browsers ask whether it changed, by its ETag.
    headers = {"Cache-Control": "no-cache"}
    if path.suffix == ".gz":
        headers["Content-Encoding"] = "gzip"

    async def answer() -> FileResponse:
        return FileResponse(path, media_type=media_type, headers=headers)

    return answer
