"""Data sets with a dataset.json: nnU-Net, Medical Segmentation Decathlon, or classes only."""

import json
from pathlib import Path
from typing import Any

from sfumato.cases.folder import CHANNEL_ENDING, check_match, list_images
from sfumato.cases.record import CaseRecord, Listing, sorted_records
from sfumato.errors import DatasetError, InputError
from sfumato.image.files import file_stem, file_suffix
from sfumato.labels.classes import ClassList

DESCRIPTION_NAME = "dataset.json"


def load_description(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's dataset.json, empty where there is none.

    Raises:
        DatasetError: If the file is not a JSON object.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: is not valid JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must hold one JSON object {{…}}; correct it")
    return content


def lists_cases(description: dict[str, Any]) -> bool:
    """Tell whether a description says which cases there are, not only their classes."""
    return any(key in description for key in ("channel_names", "training", "dataset"))


def read_description(folder: Path, description: dict[str, Any]) -> Listing:
    """List the cases of an nnU-Net (version 2) or Decathlon data set.

    Raises:
        DatasetError: If cases, channels or labels do not match or are declared wrongly.
    """
    path = folder / DESCRIPTION_NAME
    try:
        if "training" in description and "channel_names" not in description:
            n_channels = len(description["modality"]) if "modality" in description else None
            records = _decathlon_records(folder, description["training"])
        else:
            channels = description.get("channel_names")
            n_channels = len(channels) if channels is not None else None
            records = _nnunet_records(folder, description)
    except (AttributeError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: does not list its cases as nnU-Net or the Decathlon do ({error}); correct it"
        ) from error
    return Listing(
        records=sorted_records(path, records),
        classes=declared_classes(path, description),
        n_channels=n_channels,
        is_photo=is_photo(path, description),
    )


def is_photo(path: Path, description: dict[str, Any]) -> bool:
    """Tell whether a description says that the images are colour photographs.

    Raises:
        DatasetError: If "photo" is neither true nor false.
    """
    value = description.get("photo", False)
    if not isinstance(value, bool):
        raise DatasetError(f'{path}: "photo" must be true or false, got {value!r}')
    return value


def declared_classes(path: Path, description: dict[str, Any]) -> ClassList | None:
    """Return the classes under "labels", by name (nnU-Net) or by number (Decathlon).

    The class called background comes first, whatever its number, or else that of the lowest
    number; the others follow by their numbers.

    Raises:
        DatasetError: If they are declared wrongly, or with an ignore label or regions.
    """
    labels = description.get("labels")
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise DatasetError(f'{path}: "labels" must map names to numbers, got {labels!r}')
    by_value: dict[int, str] = {}
    for key, entry in labels.items():
        name, value = _class_entry(path, key, entry)
        if value in by_value:
            raise DatasetError(f"{path}: the classes {by_value[value]} and {name} are both {value}")
        by_value[value] = name
    # Everything inside sfumato relies on the background coming first.
    values = tuple(sorted(by_value, key=lambda v: (by_value[v].lower() != "background", v)))
    try:
        return ClassList(names=tuple(by_value[value] for value in values), values=values)
    except InputError as error:
        raise DatasetError(f"{path}: {error}") from error


def _class_entry(path: Path, key: str, entry: object) -> tuple[str, int]:
    if key == "ignore" or entry == "ignore":
        raise DatasetError(
            f"{path}: an ignore label is not supported yet; leave those cases out,"
            " or give the elements a class"
        )
    if isinstance(entry, list):
        raise DatasetError(
            f"{path}: the class {key!r} is a region of several labels, which is not supported yet;"
            " declare one number for each class"
        )
    if isinstance(entry, int) and not isinstance(entry, bool) and entry >= 0:
        return key, entry
    if isinstance(entry, str) and key.isdecimal():
        return entry, int(key)
    raise DatasetError(
        f'{path}: a class must be declared as "name": number, got {key!r}: {entry!r}'
    )


def _decathlon_records(folder: Path, training: list[dict[str, str]]) -> list[CaseRecord]:
    records = []
    for entry in training:
        image = folder / entry["image"]
        if image.name.startswith("._"):  # what macOS leaves beside real files
            continue
        labels = (folder / entry["label"],) if entry.get("label") else ()
        case_id = file_stem(image)
        records.append(
            CaseRecord(id=case_id, group=case_id, image_paths=(image,), label_paths=labels)
        )
    return records


def _nnunet_records(folder: Path, description: dict[str, Any]) -> list[CaseRecord]:
    if "dataset" in description:
        return [
            CaseRecord(
                id=case_id,
                group=case_id,
                image_paths=tuple(folder / image for image in entry["images"]),
                label_paths=(folder / entry["label"],) if entry.get("label") else (),
            )
            for case_id, entry in description["dataset"].items()
        ]
    is_nnunet = (folder / "imagesTr").is_dir()
    images = folder / ("imagesTr" if is_nnunet else "images")
    labels = folder / ("labelsTr" if is_nnunet else "labels")
    if not images.is_dir():
        raise DatasetError(f"{folder}: has a dataset.json, but no folder imagesTr; add the images")
    ending = description.get("file_ending")
    channels = _group_channels(images, ending, len(description["channel_names"]))
    label_paths: dict[str, tuple[Path, ...]] = {}
    if labels.is_dir():
        found = sorted_records(labels, list_images(labels))
        label_paths = {record.id: record.image_paths for record in found}
        check_match(set(channels), set(label_paths), images, labels)
    return [
        CaseRecord(
            id=case_id,
            group=case_id,
            image_paths=paths,
            label_paths=label_paths.get(case_id, ()),
        )
        for case_id, paths in channels.items()
    ]


def _group_channels(
    images: Path, ending: str | None, n_channels: int
) -> dict[str, tuple[Path, ...]]:
    """Gather `case_0000.ext`, `case_0001.ext`, … into one case each."""
    channels: dict[str, dict[int, Path]] = {}
    for record in sorted_records(images, list_images(images)):
        path = record.image_paths[0]
        match = CHANNEL_ENDING.fullmatch(record.id)
        if match is None or (ending is not None and file_suffix(path) != ending.lower()):
            raise DatasetError(
                f"{path}: must be named <case>_<channel>{ending or file_suffix(path)} with four"
                f" digits for the channel, such as {record.id}_0000{ending or file_suffix(path)}"
            )
        channels.setdefault(match["case"], {})[int(match["channel"])] = path
    for case_id, paths in channels.items():
        if sorted(paths) != list(range(n_channels)):
            raise DatasetError(
                f"{images}: case {case_id!r} has the channels {sorted(paths)}, but dataset.json"
                f" declares {n_channels}; add or remove files _0000 to _{n_channels - 1:04d}"
            )
    return {case_id: tuple(paths[i] for i in sorted(paths)) for case_id, paths in channels.items()}
