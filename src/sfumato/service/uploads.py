"""Uploads: a multipart body that goes to the disk as it comes, never into memory.

Names that a client gives to files are never names here: only their endings are kept.
"""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sfumato.image.dicom_files import starts_like_dicom
from sfumato.image.names import DICOM_SUFFIXES, IMAGE_SUFFIXES, file_stem, file_suffix

MOST_FILES = 20_000
_MOST_TEXT_BYTES = 2**16
_MOST_NAME_CHARACTERS = 80
_IN_TWO_FILES = (".mhd", ".nhdr")
_SHOWN_SUFFIXES = [s for s in IMAGE_SUFFIXES if s not in _IN_TWO_FILES]


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """How much and how slowly a client may send.

    Attributes:
        n_bytes: Size of the whole body.
        idle_seconds: How long nothing may come.
        total_seconds: How long all of it may take.
    """

    n_bytes: int
    idle_seconds: float
    total_seconds: float


@dataclass(kw_only=True)
class Upload:
    """What came.

    Attributes:
        files: Where each file lies, in the order in which they came.
        names: What the client calls them.
        texts: The other fields.
    """

    files: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


async def receive_form(
    content_type: str,
    body: AsyncIterator[bytes],
    folder: Path,
    limits: UploadLimits,
    file_field: str = "image",
    *,
    is_file_needed: bool = True,
) -> Upload:
    """Write the files of a form into a folder.

    Args:
        content_type: The header of that name.
        body: What comes, piece by piece.
        folder: Where files go.
        limits: How much and how slowly may come.
        file_field: The field that files come in.
        is_file_needed: Whether a form without a file is refused.

    Raises:
        HTTPException: 400 if it is no whole form, 408 if it is too slow, 413 if it is too large,
            415 if it is another kind of content, 422 if a file is none that can be read.
    """
    kind, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise HTTPException(415, "send a form (multipart/form-data) with the file as a part")
    form = _Form(folder, file_field, is_file_needed=is_file_needed)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for piece in limited(body, limits):
            await run_in_threadpool(parser.write, piece)
        parser.finalize()
        return await run_in_threadpool(form.finish)
    except (FormParserError, UnicodeDecodeError):
        raise HTTPException(400, "the form is malformed; send it again") from None
    finally:
        form.close()


async def limited(body: AsyncIterator[bytes], limits: UploadLimits) -> AsyncIterator[bytes]:
    """Pass a body through, as long as it is neither too large nor too slow.

    Raises:
        HTTPException: 400 if the client went away, 408 if it is too slow, 413 if too much comes.
    """
    n_bytes = 0
    try:
        async with asyncio.timeout(limits.total_seconds):
            while True:
                async with asyncio.timeout(limits.idle_seconds):
                    piece = await anext(body, None)
                if piece is None:
                    return
                n_bytes += len(piece)
                if n_bytes > limits.n_bytes:
                    raise HTTPException(413, f"more than {limits.n_bytes} bytes; send less")
                yield piece
    except TimeoutError:
        raise HTTPException(408, "the upload is too slow; try again") from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload was broken off") from None


class _Form:
    """Takes what the parser finds."""

    def __init__(self, folder: Path, file_field: str, *, is_file_needed: bool) -> None:
        self._folder, self._file_field = folder, file_field
        self._is_file_needed = is_file_needed
        self._upload = Upload()
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._file: BinaryIO | None = None
        self._text: list[bytes] | None = None
        self._text_name, self._text_bytes = "", 0
        self._is_whole = False

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finished,
        }

    def close(self) -> None:
        """Let go of a file that is open."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> Upload:
        """Return what came, if it is all."""
        if not self._is_whole:
            raise HTTPException(400, "the form ends too early; send it again")
        if self._is_file_needed and not self._upload.files:
            raise HTTPException(422, f"there is no file in the field {self._file_field!r}")
        for index, path in enumerate(self._upload.files):
            self._upload.files[index] = _known(path)
        return self._upload

    def _begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8")
        file_name = options.get(b"filename")
        if file_name is None and name != self._file_field:
            self._text, self._text_name = [], name
            return
        if name != self._file_field:
            raise HTTPException(422, f"a file came in another field than {self._file_field!r}")
        if len(self._upload.files) == MOST_FILES:
            raise HTTPException(413, f"more than {MOST_FILES} files; send a zip archive")
        # Browsers that send a folder put its path before the name.
        shown = (file_name or b"").decode("utf-8").replace("\\", "/").rpartition("/")[2]
        suffix = file_suffix(Path(shown)) if shown else ""
        path = self._folder / f"{len(self._upload.files):05}{suffix if _is_known(suffix) else ''}"
        self._upload.files.append(path)
        self._upload.names.append(shown)
        self._file = path.open("xb")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
        elif self._text is not None:
            self._text_bytes += end - start
            if self._text_bytes > _MOST_TEXT_BYTES:
                raise HTTPException(413, "the form's text is too long")
            self._text.append(data[start:end])

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._text is not None:
            self._upload.texts[self._text_name] = b"".join(self._text).decode("utf-8")
            self._text = None

    def _finished(self) -> None:
        self._is_whole = True


def _is_known(suffix: str) -> bool:
    return suffix in IMAGE_SUFFIXES and suffix not in _IN_TWO_FILES


def _known(path: Path) -> Path:
    """Give a file without a known ending that of DICOM, if it is that."""
    if file_suffix(path) in IMAGE_SUFFIXES:
        return path
    if starts_like_dicom(path):
        return path.rename(path.with_name(f"{path.name}.dcm"))
    raise HTTPException(422, f"a file is none of {', '.join(_SHOWN_SUFFIXES)}")


def case_name(upload: Upload) -> str:
    """Return what a case is called: what the client says, or else the name of the first file.

    Raises:
        HTTPException: 422 if what the client says can name no file.
    """
    asked = upload.texts.get("name")
    if asked is not None:
        if asked != clean_name(asked):
            raise HTTPException(422, "the name of a case must be one that a file may have")
        return asked
    is_slices = len(upload.files) > 1 and file_suffix(upload.files[0]) in DICOM_SUFFIXES
    return "series" if is_slices else clean_name(file_stem(Path(upload.names[0] or "image")))


def clean_name(text: str) -> str:
    """Return a name that can be a file's.

    Examples:
        >>> clean_name("../a" + chr(9) + "b"), clean_name("left hand"), clean_name("..")
        ('a_b', 'left hand', 'image')
    """
    normal = unicodedata.normalize("NFC", text)
    kept = "".join(c if c.isprintable() else "_" for c in re.split(r"[/\\]", normal)[-1])
    return kept.strip(" .")[:_MOST_NAME_CHARACTERS].strip(" .") or "image"
