"""What an image, a data set or a model is, in a few facts."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.cases.dataset import Dataset
from sfumato.errors import InputError, SfumatoError
from sfumato.image.files import file_suffix, read_image
from sfumato.image.names import IMAGE_SUFFIXES

MODEL_FILE = "model.toml"

Facts = dict[str, Any]
"""Names and plain values, as JSON holds them."""


def describe(path: Path) -> Facts:
    """Find out what stands at a path and say what matters of it.

    Args:
        path: An image, a DICOM folder, a data set, a trained model or a run.

    Raises:
        SfumatoError: If it is none of these, or cannot be read.
    """
    for place in (path, path / "model"):
        if (place / MODEL_FILE).is_file():
            return _describe_model(place)
    if path.is_file() and file_suffix(path) in IMAGE_SUFFIXES:
        return _describe_image(path)
    dataset = Dataset.open(path)
    if len(dataset) == 1 and dataset.records[0].image_paths == (path,):
        return _describe_image(path)
    return _describe_dataset(dataset)


def _describe_image(path: Path) -> Facts:
    image, geometry = read_image(path)
    low, high = np.percentile(image, (0.5, 99.5))
    return {
        "kind": "image",
        "path": str(path),
        "shape": list(geometry.shape),
        "channels": len(image),
        "spacing_mm": [round(s, 6) for s in geometry.spacing],
        "extent_mm": [
            round(n * s, 3) for n, s in zip(geometry.shape, geometry.spacing, strict=True)
        ],
        "intensity": {
            "minimum": float(image.min()),
            "percentile_0_5": float(low),
            "percentile_99_5": float(high),
            "maximum": float(image.max()),
        },
        "affine": np.round(geometry.affine, 6).tolist(),
    }


def _describe_dataset(dataset: Dataset) -> Facts:
    problems, shapes, spacings, channels = {}, [], [], set()
    for record in dataset.records:
        try:
            case = dataset.load(record.id)
        except (SfumatoError, InputError) as error:
            problems[record.id] = str(error)
            continue
        shapes.append(case.geometry.shape)
        spacings.append(case.geometry.spacing)
        channels.add(len(case.image))
    raters = {len(record.label_paths) for record in dataset.records}
    facts: Facts = {
        "kind": "dataset",
        "name": dataset.name,
        "cases": len(dataset),
        "groups": len(set(dataset.groups)),
        "raters": sorted(raters),
        "channels": sorted(channels),
        "problems": problems,
    }
    if dataset.has_labels and not problems:
        classes = dataset.classes
        facts["classes"] = dict(zip(classes.names, classes.values, strict=True))
    if len({len(shape) for shape in shapes}) == 1:
        for name, rows in (("shape", shapes), ("spacing_mm", spacings)):
            for word, values in (
                ("smallest", np.min(rows, axis=0)),
                ("median", np.median(rows, axis=0)),
                ("largest", np.max(rows, axis=0)),
            ):
                facts[f"{name}_{word}"] = np.round(values, 6).tolist()
    return facts


def _describe_model(folder: Path) -> Facts:
    # TrainedModel.load checks the weights too; without it this stays quick.
    content = tomllib.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    preprocessing = content["preprocessing"]
    return {
        "kind": "model",
        "path": str(folder),
        "classes": dict(zip(content["class_names"], content["class_values"], strict=True)),
        "channels": content["n_channels"],
        "spacing_mm": preprocessing["spacing_mm"],
        "window": content["window"],
        "features": content["network"]["features"],
        **content["about"],
    }
