"""What was sent, looked at before it is read: nothing may unpack to more than there is room for.

This runs in the process that segments, so that files made to do harm meet it and not the server.
"""

import gzip
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
import tifffile
from PIL import Image as Picture
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from sfumato.cases.folder import join_channels
from sfumato.cases.record import CaseRecord
from sfumato.errors import FileError
from sfumato.image.dicom_files import MAGIC, MAGIC_AT, quietly
from sfumato.image.names import (
    IMAGE_SUFFIXES,
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    PICTURE_SUFFIXES,
    TIFF_SUFFIXES,
    file_stem,
    file_suffix,
)

_PIECE = 1 << 20
_NIFTI_HEADER_BYTES = 540
_MOST_MEMBERS = 20_000
_LONGEST_HEADER = 1 << 20
_DETACHED = re.compile(rb"^\s*(element\s*data\s*file|data\s*file)\s*[:=]\s*(.*)$", re.I | re.M)
_ITK_STARTS = {".nrrd": b"NRRD", ".mha": b""}
_ITK_ENDS = {".nrrd": (b"\n\n", b"\r\n\r\n"), ".mha": (b"ElementDataFile",)}
_IMAGE_IOS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}


@dataclass(frozen=True, kw_only=True)
class Room:
    """How large an image may be.

    Attributes:
        n_bytes: All of its files, unpacked.
        n_elements: All of its channels.
    """

    n_bytes: int
    n_elements: int


def inspect(folder: Path, case_id: str, names: Sequence[str], room: Room) -> CaseRecord:
    """Find out what was sent, and refuse what is too large or leads elsewhere.

    Args:
        folder: The files, under names of our own, in the order in which they came.
        case_id: What the case is called.
        names: What the client calls the files, for channels that are numbered.
        room: How large it may be.

    Raises:
        FileError: If it is too large, damaged, or not the image of one case.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    if len(paths) == 1 and paths[0].suffix == ".zip":
        paths, names = unpack(paths[0], folder / "unpacked", room)
    budget = _Budget(room)
    kinds = {file_suffix(path) == ".dcm" for path in paths}
    if len(kinds) > 1:
        raise FileError(folder, "DICOM and other files came together; send one image")
    for path in paths:
        _inspect_file(path, budget)
    if kinds == {True}:
        place = paths[0] if len(paths) == 1 else paths[0].parent
        return CaseRecord(id=case_id, group=case_id, image_paths=(place,))
    return CaseRecord(id=case_id, group=case_id, image_paths=_in_channel_order(paths, names))


def _in_channel_order(paths: Sequence[Path], names: Sequence[str]) -> tuple[Path, ...]:
    """Sort files that are numbered as channels are; others stay in the order in which they came."""
    if len(paths) < 2 or len(names) != len(paths):
        return tuple(paths)
    stems = [file_stem(Path(name)) for name in names]
    records = [
        CaseRecord(id=stem, group=stem, image_paths=(path,))
        for stem, path in zip(stems, paths, strict=True)
    ]
    joined = join_channels(records, len(paths)) if len(set(stems)) == len(stems) else None
    return joined[0].image_paths if joined else tuple(paths)


class _Budget:
    """What is left of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes, self._elements = 0, 0

    def add_bytes(self, path: Path, n: int) -> None:
        self._bytes += n
        if self._bytes > self._room.n_bytes:
            limit = self._room.n_bytes / 2**30
            raise FileError(path, f"unpacks to more than the {limit:.3g} GiB allowed here")

    def add_elements(self, path: Path, n: int) -> None:
        self._elements += n
        if self._elements > self._room.n_elements:
            raise FileError(
                path, f"has more than the {self._room.n_elements} elements allowed here"
            )


def unpack(archive_path: Path, folder: Path, room: Room) -> tuple[list[Path], list[str]]:
    """Unpack the images of a zip archive under names of our own.

    Names in the archive decide the order and the endings, and lead nowhere.

    Returns:
        Where the files lie, and what they are called in the archive.

    Raises:
        FileError: If it is damaged, locked, too large, or holds no images.
    """
    folder.mkdir(exist_ok=True)
    budget = _Budget(room)
    paths: list[Path] = []
    names: list[str] = []
    try:
        with zipfile.ZipFile(archive_path) as archive:
            for member in _members(archive_path, archive):
                suffix = _suffix_of(archive, member)
                if suffix is None:
                    continue
                path = folder / f"{len(paths):05}{suffix}"
                with archive.open(member) as source, path.open("wb") as target:
                    while piece := source.read(_PIECE):
                        budget.add_bytes(archive_path, len(piece))
                        target.write(piece)
                paths.append(path)
                names.append(member.filename.replace("\\", "/").rpartition("/")[2])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise FileError(archive_path, "is damaged, or no zip archive; pack it again") from error
    if not paths:
        raise FileError(archive_path, "holds no images; pack the files of one image")
    return paths, names


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > _MOST_MEMBERS:
        raise FileError(path, f"holds more than {_MOST_MEMBERS} files; pack those of one image")
    if any(member.flag_bits & 1 for member in members):
        raise FileError(path, "is locked by a password; pack it without one")
    return sorted(members, key=lambda member: member.filename)


def _suffix_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """Return the ending of an image in an archive, or None for anything else."""
    parts = member.filename.replace("\\", "/").split("/")
    if any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts):
        return None
    suffix = file_suffix(Path(parts[-1]))
    if suffix in IMAGE_SUFFIXES:
        return suffix if suffix not in (".zip", ".mhd", ".nhdr") else None
    with archive.open(member) as stream:
        is_dicom = stream.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    return ".dcm" if is_dicom else None


def _inspect_file(path: Path, budget: _Budget) -> None:
    suffix = file_suffix(path)
    if suffix == ".nii.gz":
        for n in _unzipped(path):
            budget.add_bytes(path, n)
    else:
        budget.add_bytes(path, path.stat().st_size)
    _INSPECTIONS[suffix](path, budget)


def _unzipped(path: Path) -> Iterator[int]:
    """Yield how many bytes come next as a file is unzipped; a damaged one just ends."""
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(_PIECE):
                yield len(piece)
    except (OSError, EOFError, zlib.error):  # Who reads it says what is wrong.
        return


def _inspect_nifti(path: Path, budget: _Budget) -> None:
    """Refuse headers that promise more than there may be."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            start = stream.read(_NIFTI_HEADER_BYTES)
    except (OSError, EOFError, zlib.error):  # Who reads it says what is wrong.
        return
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        for order in "<>":
            template = kind.template_dtype.newbyteorder(order)
            if len(start) < template.itemsize:
                continue
            header = np.frombuffer(start, template, 1)[0]
            if int(header["sizeof_hdr"]) == template.itemsize:
                n_axes = int(header["dim"][0])
                sizes = header["dim"][1 : 1 + max(0, min(n_axes, 7))]
                budget.add_elements(path, prod(max(1, int(n)) for n in sizes))


def _inspect_dicom(path: Path, budget: _Budget) -> None:
    with quietly(path):
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == DeflatedExplicitVRLittleEndian:
            raise FileError(path, "is deflated DICOM, which is not taken; export it otherwise")
        header = pydicom.dcmread(
            path,
            stop_before_pixels=True,
            specific_tags=["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"],
            force=True,
        )
        sizes = [int(header.get(name) or 1) for name in ("Rows", "Columns", "NumberOfFrames",
                 "SamplesPerPixel")]  # fmt: skip
    budget.add_elements(path, prod(max(1, n) for n in sizes))


def _inspect_itk(path: Path, budget: _Budget) -> None:
    """Refuse headers that name other files, or promise more than there may be."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER)
    is_whole = any(end in start for end in _ITK_ENDS[suffix])
    if not (start.startswith(_ITK_STARTS[suffix]) and is_whole):
        raise FileError(path, "is damaged or of another format; copy or export it again")
    for key, value in _DETACHED.findall(start):
        is_local = key.lower().startswith(b"element") and value.strip() == b"LOCAL"
        if not is_local:
            raise FileError(path, "keeps its elements in another file; save it as one")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IMAGE_IOS[suffix])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise FileError(path, "is damaged or of another format; export it again") from None
    budget.add_elements(path, prod(reader.GetSize()) * reader.GetNumberOfComponents())


def _inspect_picture(path: Path, budget: _Budget) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Picture.DecompressionBombWarning)  # Our limit counts.
            with Picture.open(path, formats=("PNG", "JPEG")) as picture:
                n = picture.width * picture.height * len(picture.getbands())
    except (Picture.DecompressionBombError, OSError, SyntaxError, ValueError):
        return  # Who reads it says what is wrong.
    budget.add_elements(path, n)


def _inspect_tiff(path: Path, budget: _Budget) -> None:
    try:
        with tifffile.TiffFile(path) as tiff:
            n = sum(prod(series.shape) for series in tiff.series)
    except (OSError, ValueError, LookupError):
        return
    budget.add_elements(path, n)


def _refuse_zip(path: Path, budget: _Budget) -> None:
    raise FileError(path, "a zip archive must come alone")


_INSPECTIONS: dict[str, Callable[[Path, _Budget], None]] = {
    ".dcm": _inspect_dicom,
    ".zip": _refuse_zip,
    **dict.fromkeys(NIFTI_SUFFIXES, _inspect_nifti),
    **dict.fromkeys(ITK_SUFFIXES, _inspect_itk),
    **dict.fromkeys(PICTURE_SUFFIXES, _inspect_picture),
    **dict.fromkeys(TIFF_SUFFIXES, _inspect_tiff),
}
