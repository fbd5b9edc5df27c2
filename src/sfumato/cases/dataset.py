"""Many cases in one place, read one at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from sfumato.arrays import Image, Label
from sfumato.cases.case import Case
from sfumato.cases.description import (
    DESCRIPTION_NAME,
    declared_classes,
    is_photo,
    lists_cases,
    load_description,
    read_description,
)
from sfumato.cases.folder import join_channels, list_images, read_folder
from sfumato.cases.manifest import MANIFEST_NAME, read_manifest
from sfumato.cases.record import CaseRecord, Listing, sorted_records
from sfumato.errors import CaseError, DatasetError, FileError, InputError, unknown_name
from sfumato.image.dicom_files import split_place
from sfumato.image.files import read_channels, read_image, read_label
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList

__all__ = ["CaseRecord", "Dataset"]

_MOST_CLASSES = 256


class Dataset:
    """Many cases in one place, read one at a time.

    Attributes:
        name: The name of its folder.
        records: Where the files of each case lie, sorted by id.
        is_photo: Whether the images are declared to be colour photographs.
    """

    def __init__(self, name: str, listing: Listing, whole: "Dataset | None" = None) -> None:
        self.name = name
        self.records = listing.records
        self.is_photo = listing.is_photo
        self._listing = listing
        self._by_id = {record.id: record for record in listing.records}
        # A selection has the classes and channels of the whole, whichever cases it holds.
        self._whole = self if whole is None else whole
        self._first_channels = (listing.n_channels, DESCRIPTION_NAME)

    @staticmethod
    def open(path: Path | str) -> "Dataset":
        """Find out what a path holds, without reading any image.

        Args:
            path: A folder with cases.csv, with a dataset.json of nnU-Net or the Decathlon, or
                with images/ and labels/ (the first of these that is there); a folder of
                images; a DICOM folder, or a series named in one; one image; or a manifest.

        Raises:
            DatasetError: If the path is missing, or nothing of the above.
        """
        path = Path(path)
        is_choice = split_place(path)[1] is not None
        if not path.exists() and not is_choice:
            raise DatasetError(f"{path}: no such folder; check the path")
        is_manifest = path.is_file() and path.suffix.lower() == ".csv"
        is_image = path.is_file() and not is_manifest and path.name != DESCRIPTION_NAME
        if is_image or is_choice:
            return Dataset(path.name, Listing(records=sorted_records(path, list_images(path))))
        folder = path.parent if path.is_file() else path
        manifest = path if is_manifest else folder / MANIFEST_NAME
        return Dataset(folder.resolve().name, _list_cases(folder, manifest))

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The names of all cases, sorted."""
        return tuple(record.id for record in self.records)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each case, in the order of `case_ids`."""
        return tuple(record.group for record in self.records)

    @property
    def paths(self) -> Iterator[Path]:
        """All image and label files."""
        for record in self.records:
            yield from record.image_paths
            yield from record.label_paths

    @property
    def has_labels(self) -> bool:
        """Whether every case has a label."""
        return all(record.label_paths for record in self.records)

    @property
    def classes(self) -> ClassList:
        """The classes, declared or else found by reading all labels once.

        Raises:
            DatasetError: If there are no labels, or they hold so many values that they look
                like images.
            CaseError: If no label can be read.
        """
        return self._whole._own_classes

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Case]:
        return (self.load(case_id) for case_id in self.case_ids)

    def load(self, case_id: str) -> Case:
        """Read one case.

        Raises:
            CaseError: If a file cannot be read, image and labels do not fit together, a label
                holds an undeclared class, or the number of channels is unlike other cases'.
            InputError: If there is no case of that name.
        """
        record = self._record(case_id)
        try:
            image, geometry = read_channels(record.image_paths)
            self._check_channels(record, image)
            labels = tuple(self._load_label(path, geometry) for path in record.label_paths)
        except (FileError, InputError) as error:
            raise CaseError(case_id, str(error)) from error
        label = labels[0] if labels else None
        return Case(id=case_id, image=image, geometry=geometry, label=label, rater_labels=labels)

    def select(self, case_ids: Iterable[str]) -> "Dataset":
        """Return the data set with some of its cases only, and the same classes.

        Raises:
            InputError: If there is no case of one of the names.
        """
        wanted = sorted({self._record(case_id).id for case_id in case_ids})
        records = tuple(self._by_id[case_id] for case_id in wanted)
        return Dataset(self.name, replace(self._listing, records=records), self._whole)

    def with_labels(self, label_paths: Mapping[str, tuple[Path, ...]]) -> "Dataset":
        """Return the data set with other label files for some of its cases, in the same classes.

        Raises:
            InputError: If there is no case of one of the names.
        """
        for case_id in label_paths:
            self._record(case_id)
        records = tuple(
            replace(record, label_paths=label_paths.get(record.id, record.label_paths))
            for record in self.records
        )
        return Dataset(self.name, replace(self._listing, records=records), self._whole)

    def absolute(self) -> "Dataset":
        """Return the data set with absolute paths, for processes that start elsewhere."""
        records = tuple(record.absolute() for record in self.records)
        return Dataset(self.name, replace(self._listing, records=records), self._whole)

    def as_labels(self) -> "Dataset":
        """Return the data set with its images taken for labels.

        A folder of label files opens as images without labels, since nothing tells them apart;
        this is for those who know better.
        """
        records = tuple(replace(r, label_paths=r.image_paths) for r in self.records)
        return Dataset(self.name, replace(self._listing, records=records))

    def with_joined_channels(self, n_channels: int) -> "Dataset":
        """Return the data set with nnU-Net's files, one a channel, gathered into cases.

        Nothing but their names tells such files, so this is for those who know how many
        channels a case has. A case `a` has the files `a_0000`, `a_0001`, …, in that order.

        Args:
            n_channels: How many files make a case.

        Returns:
            The data set with joined cases; itself where it has labels, a case already has
            several files or is named otherwise, channels are missing or left over, or the
            first file holds several channels itself.
        """
        records = join_channels(self.records, n_channels)
        if records is None or (n_channels > 1 and _holds_channels(records[0].image_paths[0])):
            return self
        return Dataset(self.name, replace(self._listing, records=records))

    def _record(self, case_id: str) -> CaseRecord:
        if case_id not in self._by_id:
            raise InputError(unknown_name("case", case_id, self._by_id))
        return self._by_id[case_id]

    def _check_channels(self, record: CaseRecord, image: Image) -> None:
        expected, source = self._whole._first_channels
        if expected is None:
            self._whole._first_channels = (len(image), f"case {record.id!r}")
        elif len(image) != expected:
            raise FileError(
                record.image_paths[0],
                f"the image has {len(image)} channels, but {source} has {expected};"
                " every case of a data set must have the same channels",
            )

    def _load_label(self, path: Path, geometry: Geometry) -> Label:
        values, label_geometry = read_label(path)
        if difference := geometry.difference(label_geometry):
            raise FileError(
                path,
                f"the label does not lie on the image's grid: {difference};"
                " resample the label to the image's grid first",
            )
        try:
            return self.classes.to_indices(values)
        except InputError as error:
            raise FileError(path, str(error)) from error

    @cached_property
    def _own_classes(self) -> ClassList:
        return self._listing.classes or _find_classes(self.name, self.records)


def _holds_channels(path: Path) -> bool:
    """Tell numbered colour pictures from channels; a file that cannot be read is told later."""
    try:
        return len(read_image(path)[0]) > 1
    except FileError:
        return False


def _list_cases(folder: Path, manifest: Path) -> Listing:
    description = load_description(folder)
    if manifest.is_file():
        listing = read_manifest(manifest)
    elif lists_cases(description):
        return read_description(folder, description)
    else:
        listing = read_folder(folder)
    return replace(
        listing,
        classes=declared_classes(folder / DESCRIPTION_NAME, description),
        is_photo=is_photo(folder / DESCRIPTION_NAME, description),
    )


def _find_classes(name: str, records: tuple[CaseRecord, ...]) -> ClassList:
    """Read all labels and call their sorted values background, class 1 and so on.

    A label that cannot be read is left out: loading its case says what is wrong with it.
    """
    found: set[int] = set()
    unreadable: list[CaseError] = []
    for path, values in _label_values(records, unreadable):
        found |= values
        if len(found) > _MOST_CLASSES:
            raise DatasetError(
                f"{path}: with this label the data set has more than {_MOST_CLASSES} classes;"
                " it looks like an image, so check that images and labels are not swapped"
            )
    if not found:
        if unreadable:
            raise unreadable[0]
        raise DatasetError(f"{name}: has no labels, so its classes are unknown; add labels")
    if len(found) == 1:  # background only, or foreground only
        found |= {0} if found != {0} else {1}
    names = tuple(f"class {index}" for index in range(1, len(found)))
    if len(names) == 1:
        names = ("foreground",)
    return ClassList(names=("background", *names), values=tuple(sorted(found)))


def _label_values(
    records: tuple[CaseRecord, ...], unreadable: list[CaseError]
) -> Iterator[tuple[Path, set[int]]]:
    for record in records:
        for path in record.label_paths:
            try:
                values, _ = read_label(path)
            except FileError as error:
                unreadable.append(CaseError(record.id, str(error)))
                continue
            yield path, set(np.unique(values).tolist())
