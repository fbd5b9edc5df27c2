"""The models that a server offers, as far as its answers tell of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import ConfigError
from sfumato.model.trained import DESCRIPTION, WEIGHTS, model_folder, read_description
from sfumato.report.colours import class_colour

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ShownClass:
    """A structure that a model finds."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class ShownModel:
    """What a client needs to know of a model.

    Attributes:
        name: How requests call it.
        hash: Tells whether two servers have the same.
        dimensions: Spatial axes of its images.
        channels: A name for each channel.
        classes: Its structures, without background.
        spacing: Millimetres of the grid it works on.
        has_intervals: Whether volumes come with intervals.
    """

    name: str
    hash: str
    dimensions: int
    channels: tuple[str, ...]
    classes: tuple[ShownClass, ...]
    spacing: tuple[float, ...]
    has_intervals: bool


def name_models(places: list[Path]) -> dict[str, Path]:
    """Call each model by the folder of its run.

    Raises:
        ConfigError: If two would be called the same.
    """
    named: dict[str, Path] = {}
    for place in places:
        folder = model_folder(place).resolve()
        run = folder.parent if folder.name == "model" else folder
        if run.name in named:
            raise ConfigError(
                f"{place} and {named[run.name]}: both would be called {run.name!r};"
                " rename the folder of one"
            )
        named[run.name] = folder
    return named


def show_models(models: Mapping[str, Path]) -> list[ShownModel]:
    """Read what models are, without their weights.

    Raises:
        ModelError: If one is missing or damaged.
    """
    return [_show(name, place) for name, place in models.items()]


def _show(name: str, place: Path) -> ShownModel:
    description = read_description(place)
    classes = zip(description.class_names[1:], description.class_values[1:], strict=True)
    return ShownModel(
        name=name,
        hash=_hash(model_folder(place)),
        dimensions=len(description.window),
        channels=tuple(f"channel {i + 1}" for i in range(description.n_channels)),
        classes=tuple(
            ShownClass(value=value, name=class_name, colour=class_colour(index))
            for index, (class_name, value) in enumerate(classes)
        ),
        spacing=description.preprocessing.spacing_mm or (),
        has_intervals=min(map(len, description.volume_errors.values()), default=0) > 0,
    )


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (DESCRIPTION, WEIGHTS):
        with (folder / name).open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()[:16]
