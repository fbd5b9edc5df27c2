"""DICOM files, in folders, in a zip archive or by themselves, and the series that they form.

Messages say of a file only where it lies, and of a series its number, UID and kind: no header
text that may tell who the patient is, so what pydicom says of an error is not repeated either.
"""

import logging
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import pydicom
from pydicom.uid import UID

from sfumato.errors import FileError
from sfumato.storage import os_reason

# Warnings of both quote values of the header. They are silenced for good, as catching them block
# by block would not be safe among threads.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
for _name in ("pydicom", "highdicom"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=_name)

MAGIC_AT, MAGIC = 128, b"DICM"
_LARGEST_ARCHIVE_BYTES = 32 * 2**30
_MOST_SERIES_SHOWN = 3
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label map segmentation
    "1.2.840.10008.5.1.4.1.1.481.2",  # Dose
    "1.2.840.10008.1.3.10",  # DICOMDIR
}
_HEADER = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "ImageType",
    "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PixelSpacing",
    "ImagerPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "AcquisitionNumber", "EchoTime", "TriggerTime",
    "TemporalPositionIdentifier", "DiffusionBValue",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomFile:
    """One DICOM file.

    Attributes:
        path: The file, or the zip archive that it lies in.
        member: Its name in the archive, or None.
        header: What tells where and what the image is; no pixels and no patient.
        syntax: The transfer syntax.
    """

    path: Path
    member: str | None
    header: pydicom.Dataset
    syntax: UID

    @property
    def place(self) -> Path:
        """Where the file lies, for messages."""
        return _place(self.path, self.member)


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What may be told of a series without telling who the patient is."""

    uid: str
    number: int | None
    modality: str
    kind: str
    files: int
    images: int
    transfer_syntax: str


def split_place(path: Path) -> tuple[Path, str | None]:
    """Tell the folder or archive from the series that a path names in it, as if it were a file.

    Examples:
        >>> split_place(Path("study/1.2.840.9"))[1] # there is no such folder
        >>> split_place(Path(".") / "1.2.840.9")
        (PosixPath('.'), '1.2.840.9')
    """
    container = path.parent
    is_choice = not path.exists() and container.exists() and _UID.fullmatch(path.name)
    if is_choice and (container.is_dir() or container.suffix.lower() == ".zip"):
        return container, path.name
    return path, None


def starts_like_dicom(path: Path) -> bool:
    """Tell whether a file has the mark of DICOM; False also where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:  # Whoever wants to read it is told.
        return False


def find_series(path: Path) -> list[DicomFile]:
    """Find the images of the one series at a path, or of the one that it names.

    Args:
        path: A file; a folder or zip archive with files at any depth; or one of these with
            the series' UID behind, as if that were a file in there.

    Raises:
        FileError: If there is no series or there are several, or a file is damaged.
    """
    container, wanted = split_place(path)
    series, others = _gather(container)
    if wanted is not None:
        if wanted not in series:
            raise FileError(container, f"holds no DICOM series {wanted}; sfumato info lists them")
        return series[wanted]
    if not series:
        kinds = f", only {', '.join(sorted(others))}" if others else ""
        raise FileError(
            container,
            f"holds no DICOM series of images{kinds}; give the folder, zip archive or file of one",
        )
    if len(series) > 1:
        facts = [_facts(files) for files in series.values()]
        shown = " or ".join(
            f"{container / f.uid} ({f.modality}, series {_shown(f.number)}, images: {f.images})"
            for f in facts[:_MOST_SERIES_SHOWN]
        )
        more = len(facts) - _MOST_SERIES_SHOWN
        rest = f" and {more} more that sfumato info lists" if more > 0 else ""
        raise FileError(
            container,
            f"holds {len(series)} DICOM series; give one of them a folder of its own, or name it"
            f" as if it were a file in there: {shown}{rest}",
        )
    return next(iter(series.values()))


def list_series(path: Path) -> list[SeriesFacts]:
    """List the series of images at a path, by number.

    Raises:
        FileError: If a file is damaged.
    """
    container, wanted = split_place(path)
    series, _ = _gather(container)
    return [_facts(files) for uid, files in series.items() if wanted in (None, uid)]


def read_whole(files: Iterable[DicomFile], *, has_pixels: bool) -> Iterator[pydicom.Dataset]:
    """Read files again, now with all of their header, and their pixels if wanted.

    Raises:
        FileError: If a file is damaged or gone.
    """
    archives: dict[Path, zipfile.ZipFile] = {}
    try:
        for file in files:
            if file.member is not None and file.path not in archives:
                archives[file.path] = zipfile.ZipFile(file.path)
            with quietly(file.place), _opened(file, archives) as stream:
                dataset = pydicom.dcmread(stream, stop_before_pixels=not has_pixels, force=True)
            yield dataset
    finally:
        for archive in archives.values():
            archive.close()


@contextmanager
def quietly(place: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one line that quotes nothing of its header.

    Raises:
        FileError: If the block raises.
    """
    try:
        yield
    except (FileError, MemoryError):
        raise
    except OSError as error:
        raise FileError(place, f"cannot be read ({os_reason(error)})") from None
    except Exception:
        # pydicom raises nearly everything for a damaged file; its text may quote the header.
        raise damaged_dicom(place) from None


def damaged_dicom(place: Path) -> FileError:
    """Return the error for a file that cannot be understood."""
    return FileError(place, "is damaged, cut short or no DICOM; copy or export it again")


def _gather(container: Path) -> tuple[dict[str, list[DicomFile]], set[str]]:
    """Return the images of each series, by number, and what else there is, by kind."""
    series: dict[str, dict[str, DicomFile]] = {}
    others: set[str] = set()
    for file in _scan(container):
        header = file.header
        if _uid(header, "SOPClassUID") in _NO_IMAGES or not header.get("Rows"):
            others.add(_kind(header))
            continue
        # An image of the same UID is by definition the same image: one copy is enough.
        images = series.setdefault(_uid(header, "SeriesInstanceUID"), {})
        images.setdefault(_uid(header, "SOPInstanceUID") or str(file.place), file)
    gathered = {uid: list(images.values()) for uid, images in series.items()}
    numbers = {uid: _facts(files).number or 0 for uid, files in gathered.items()}
    return {uid: gathered[uid] for uid in sorted(gathered, key=lambda u: (numbers[u], u))}, others


def _scan(container: Path) -> Iterator[DicomFile]:
    if container.is_dir():
        for path in sorted(container.rglob("*")):
            is_hidden = any(_is_hidden(part) for part in path.relative_to(container).parts)
            if path.is_file() and not is_hidden and (file := _read_file(path)):
                yield file
    elif container.suffix.lower() == ".zip":
        yield from _scan_archive(container)
    elif not container.is_file():
        raise FileError(container, "no such file; check the path")
    elif file := _read_file(container):
        yield file


def _is_hidden(part: str) -> bool:
    """Tell what systems put beside files of their own: names with a dot, and Apple's folder."""
    return part == "__MACOSX" or (part.startswith(".") and part != "..")


def _place(path: Path, member: str | None) -> Path:
    return path if member is None else Path(f"{path}/{member}")


def _read_file(path: Path) -> DicomFile | None:
    with quietly(path), path.open("rb") as stream:
        return _read_header(stream, path, None)


def _scan_archive(path: Path) -> Iterator[DicomFile]:
    # Members are only read in memory, so their names can lead nowhere.
    with quietly(path):
        archive = zipfile.ZipFile(path)
    with archive:
        for member in _members(path, archive):
            with quietly(_place(path, member)), _member(archive, member) as stream:
                file = _read_header(stream, path, member)
            if file:
                yield file


def _members(path: Path, archive: zipfile.ZipFile) -> list[str]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    # zipfile reads no more of a member than is declared here.
    n_bytes = sum(member.file_size for member in members)
    if n_bytes > _LARGEST_ARCHIVE_BYTES:
        raise FileError(
            path, f"would unpack to {n_bytes / 2**30:.0f} GiB; give the folder of one series"
        )
    if any(member.flag_bits & 1 for member in members):
        raise FileError(path, "is locked by a password; unpack it and give the folder")
    names = sorted(member.filename for member in members)
    return [name for name in names if not any(_is_hidden(part) for part in Path(name).parts)]


def _read_header(stream: BufferedIOBase, path: Path, member: str | None) -> DicomFile | None:
    """Read a file's header, or return None if it is no DICOM; the suffix stands for the mark."""
    name = Path(member or path.name)
    is_marked = stream.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    if not is_marked and name.suffix.lower() != ".dcm":
        return None
    stream.seek(0)
    header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_HEADER, force=True)
    place = _place(path, member)
    if "SOPClassUID" not in header and name.name.upper() != "DICOMDIR":
        raise damaged_dicom(place)
    _check_header(place, header)
    syntax = UID(header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian))
    return DicomFile(path=path, member=member, header=header, syntax=syntax)


def _check_header(place: Path, header: pydicom.Dataset) -> None:
    for element in header:  # Looking at a value is what finds it damaged.
        _ = element.value
    is_image = "Image Storage" in _kind(header) or header.get("Rows")
    if is_image and not min(int(header.Rows), int(header.Columns), int(header.BitsStored)) > 0:
        raise damaged_dicom(place)


def _opened(file: DicomFile, archives: dict[Path, zipfile.ZipFile]) -> BufferedIOBase:
    if file.member is None:
        return file.path.open("rb")
    return _member(archives[file.path], file.member)


def _member(archive: zipfile.ZipFile, name: str) -> BufferedIOBase:
    """Open a member, whose type zipfile declares less closely than it is."""
    stream = archive.open(name)
    assert isinstance(stream, BufferedIOBase)
    return stream


def _facts(files: list[DicomFile]) -> SeriesFacts:
    header = files[0].header
    with quietly(files[0].place):
        number = header.get("SeriesNumber")
        return SeriesFacts(
            uid=_uid(header, "SeriesInstanceUID"),
            number=None if number is None else int(number),
            modality=re.sub("[^A-Z]", "", str(header.get("Modality") or ""))[:16] or "unknown kind",
            kind=_kind(header),
            files=len(files),
            images=sum(int(f.header.get("NumberOfFrames") or 1) for f in files),
            transfer_syntax=files[0].syntax.name,
        )


def _kind(header: pydicom.Dataset) -> str:
    return UID(_uid(header, "SOPClassUID")).name or "DICOM of unknown kind"


def _uid(header: pydicom.Dataset, keyword: str) -> str:
    """Return a UID; of a damaged header nothing else."""
    return re.sub("[^0-9.]", "", str(header.get(keyword, "")))[:64]


def _shown(number: int | None) -> str:
    return "without number" if number is None else str(number)
