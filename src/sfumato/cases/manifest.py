"""A data set listed in a table: cases.csv."""

import csv
from collections.abc import Iterator
from pathlib import Path

from sfumato.cases.record import CaseRecord, Listing, sorted_records
from sfumato.errors import DatasetError, unknown_name

MANIFEST_NAME = "cases.csv"
_COLUMNS = ("case", "group", "image", "labels")
_REQUIRED = ("case", "image")


def read_manifest(path: Path) -> Listing:
    """Read a manifest with the columns case, group, image and labels.

    Paths are relative to the manifest's folder. A semicolon separates the files of several
    channels in image, and of several raters in labels. The group is optional and otherwise
    the case itself; labels are optional.

    Raises:
        DatasetError: If columns or entries are missing or unknown, or two cases have one name.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, list(reader.fieldnames or []))
            records = list(_read_rows(path, reader))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: cannot be read as a table ({error}); save it as UTF-8 text with commas"
        ) from error
    return Listing(records=sorted_records(path, records))


def _check_columns(path: Path, columns: list[str]) -> None:
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        # As spreadsheets save a table where the comma is the decimal mark.
        raise DatasetError(
            f"{path}: its columns are not separated by commas; save it with commas, and quotes"
            " around entries that hold one"
        )
    for column in columns:
        if column not in _COLUMNS:
            raise DatasetError(f"{path}: {unknown_name('column', column, _COLUMNS)}")
        if columns.count(column) > 1:
            raise DatasetError(
                f"{path}: the column {column} is there {columns.count(column)} times; put several"
                " channels or raters into one column, separated by semicolons"
            )
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        raise DatasetError(
            f"{path}: the column {' and '.join(missing)} is missing;"
            f" the first line must be {','.join(_COLUMNS)}"
        )


def _read_rows(path: Path, reader: "csv.DictReader[str]") -> Iterator[CaseRecord]:
    for row in reader:
        if None in row or None in row.values():
            raise DatasetError(
                f"{path}, line {reader.line_num}: must have {len(reader.fieldnames or [])} entries"
                " separated by commas; correct the line"
            )
        entries = {column: text.strip() for column, text in row.items()}
        for column in _REQUIRED:
            if not entries[column]:
                raise DatasetError(
                    f"{path}, line {reader.line_num}: the {column} is empty; fill it in"
                )
        yield CaseRecord(
            id=entries["case"],
            group=entries.get("group") or entries["case"],
            image_paths=_split_paths(path.parent, entries["image"]),
            label_paths=_split_paths(path.parent, entries.get("labels", "")),
        )


def _split_paths(folder: Path, text: str) -> tuple[Path, ...]:
    return tuple(folder / part.strip() for part in text.split(";") if part.strip())
