"""What an image, a data set or a model is, in a few facts."""

import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.cases.dataset import Dataset
from sfumato.errors import ModelError, SfumatoError
from sfumato.evaluation.softness import softened_share
from sfumato.image.dicom_files import SeriesFacts, list_series
from sfumato.image.files import file_suffix, is_dicom, read_image
from sfumato.image.geometry import Geometry
from sfumato.image.names import IMAGE_SUFFIXES
from sfumato.labels.postprocessing import PostprocessingSettings
from sfumato.labels.soft_label_file import SUFFIX, read_soft_label
from sfumato.workflow.failures import Failure
from sfumato.workflow.tracking import Track, silently

MODEL_FILE, WEIGHTS_FILE = "model.toml", "weights.safetensors"
RUN_FILE = "wishes.toml"

SPACING_NOTE = (
    "The file type does not say how large a pixel is, so a pixel counts as 1 mm: read mm as pixels."
)
"""What those must know who read millimetres of PNG, JPEG or TIFF images."""

Facts = dict[str, Any]
"""Names and plain values, as JSON holds them."""


def describe(path: Path, track: Track = silently) -> Facts:
    """Find out what stands at a path and say what matters of it.

    Args:
        path: An image, a DICOM folder, a soft label, a data set, a trained model or a run.
        track: Told how far the reading of a data set is.

    Raises:
        SfumatoError: If it is none of these, or cannot be read.
    """
    for place in (path, path / "model"):
        if (place / MODEL_FILE).is_file():
            return _describe_model(place)
    if (path / RUN_FILE).is_file():
        raise ModelError(
            f"{path}: the run has no model yet; sfumato train --resume finishes it, and"
            f" {path / 'best_model'} may hold the best so far"
        )
    if path.is_file() and path.suffix.lower() == SUFFIX:
        return _describe_soft_label(path)
    if path.is_file() and file_suffix(path) in IMAGE_SUFFIXES:
        return _describe_image(path)
    dataset = Dataset.open(path)
    if len(dataset) == 1 and dataset.records[0].image_paths == (path,):
        return _describe_image(path)
    return _describe_dataset(dataset, track)


def _describe_image(path: Path) -> Facts:
    series = [_known(facts) for facts in list_series(path)] if is_dicom(path) else []
    if len(series) > 1:
        return {"kind": "dicom", "path": str(path), "series": series}
    image, geometry = read_image(path)
    low, high = np.percentile(image, (0.5, 99.5))
    facts: Facts = {
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
    if series:
        facts["dicom"] = series[0]
    if not geometry.is_placed:
        facts["note"] = SPACING_NOTE
    return facts


def _describe_soft_label(path: Path) -> Facts:
    label = read_soft_label(path)
    return {
        "kind": "soft label",
        "path": str(path),
        "shape": list(label.geometry.shape),
        "spacing_mm": [round(s, 6) for s in label.geometry.spacing],
        "classes": {name: index for index, name in enumerate(label.class_names)},
        "softened_share": round(softened_share(label.probability), 6),
        "bytes": path.stat().st_size,
    }


def _known(series: SeriesFacts) -> Facts:
    return {name: value for name, value in asdict(series).items() if value is not None}


def _describe_dataset(dataset: Dataset, track: Track) -> Facts:
    problems, geometries, channels = {}, [], set()
    for record in track(dataset.records, "Reading", len(dataset)):
        try:
            case = dataset.load(record.id)
        except SfumatoError as error:
            problems[record.id] = Failure.of(record.id, error).reason
            continue
        geometries.append(case.geometry)
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
    if any(record.label_paths for record in dataset.records):
        with suppress(SfumatoError):  # The problems of the cases say why.
            classes = dataset.classes
            facts["classes"] = dict(zip(classes.names, classes.values, strict=True))
    return facts | _grid_facts(geometries)


def _grid_facts(geometries: Sequence[Geometry]) -> Facts:
    facts: Facts = {}
    shapes = [geometry.shape for geometry in geometries]
    spacings = [geometry.spacing for geometry in geometries]
    if len({len(shape) for shape in shapes}) == 1:
        for name, rows in (("shape", shapes), ("spacing_mm", spacings)):
            for word, values in (
                ("smallest", np.min(rows, axis=0)),
                ("median", np.median(rows, axis=0)),
                ("largest", np.max(rows, axis=0)),
            ):
                facts[f"{name}_{word}"] = np.round(values, 6).tolist()
    if not all(geometry.is_placed for geometry in geometries):
        facts["note"] = SPACING_NOTE
    return facts


def _describe_model(folder: Path) -> Facts:
    # TrainedModel.load checks the weights too; without it this stays quick.
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(
            f"{folder / WEIGHTS_FILE}: is missing; copy the whole model folder from where it was"
            " trained"
        )
    try:
        content = tomllib.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
        return {
            "kind": "model",
            "path": str(folder),
            "classes": dict(zip(content["class_names"], content["class_values"], strict=True)),
            "channels": content["n_channels"],
            "spacing_mm": content["preprocessing"]["spacing_mm"],
            "window": content["window"],
            "features": content["network"]["features"],
            "temperature": content.get("temperature", 1.0),
            "postprocessing": PostprocessingSettings.model_validate(
                content.get("postprocessing", {})
            ).words,
            **{name: value for name, value in content["about"].items() if name != "postprocessing"},
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / MODEL_FILE}: is damaged; copy the model again from where it was trained"
        ) from error
