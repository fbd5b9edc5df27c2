"""Where the files of one case lie."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.errors import DatasetError
from sfumato.labels.classes import ClassList


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """Where the files of one case lie.

    Attributes:
        id: Name of the case, unique in its data set.
        group: What must stay together when cases are split, say the patient.
        image_paths: One file for each channel, or one that holds them all.
        label_paths: One file for each rater; empty where there is no label.
    """

    id: str
    group: str
    image_paths: tuple[Path, ...]
    label_paths: tuple[Path, ...] = ()

    def absolute(self) -> "CaseRecord":
        """Name files so that processes that start in other folders find them."""
        return replace(
            self,
            image_paths=tuple(path.absolute() for path in self.image_paths),
            label_paths=tuple(path.absolute() for path in self.label_paths),
        )


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder or manifest says about a data set, before any image is read.

    Attributes:
        records: The cases, sorted by id.
        classes: The classes, or None where they must be found in the labels.
        n_channels: The number of channels of every image, or None where it is not declared.
        is_photo: Whether the images are colour photographs.
    """

    records: tuple[CaseRecord, ...]
    classes: ClassList | None = None
    n_channels: int | None = None
    is_photo: bool = False


def sorted_records(where: Path, records: Iterable[CaseRecord]) -> tuple[CaseRecord, ...]:
    """Sort cases by id and refuse ids that could not name output files.

    Raises:
        DatasetError: If there is no case, two have one id, or an id is not a file name.
    """
    by_id: dict[str, CaseRecord] = {}
    for record in records:
        if "/" in record.id or "\\" in record.id or record.id.startswith("."):
            raise DatasetError(
                f"{where}: the case name {record.id!r} cannot name a file;"
                " use letters, digits, - and _"
            )
        if other := by_id.get(record.id):
            raise DatasetError(
                f"{where}: two cases are named {record.id!r} ({_shown(where, other)} and"
                f" {_shown(where, record)}); rename or remove one"
            )
        by_id[record.id] = record
    if not by_id:
        raise DatasetError(f"{where}: holds no cases; check the path")
    return tuple(by_id[case_id] for case_id in sorted(by_id))


def _shown(where: Path, record: CaseRecord) -> str:
    folder = where if where.is_dir() else where.parent
    path = record.image_paths[0]
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
