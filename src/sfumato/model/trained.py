"""A trained model on disk: weights as safetensors, everything else as TOML; never code."""

import hashlib
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from sfumato.errors import InputError, ModelError
from sfumato.image.preprocessing import PreprocessingSettings
from sfumato.image.structure_codes import StructureCodes, codes_by_name
from sfumato.labels.classes import ClassList
from sfumato.labels.postprocessing import PostprocessingSettings
from sfumato.model.network import NetworkSettings, build_network
from sfumato.settings import Settings
from sfumato.storage import atomic_path, write_text

FORMAT_VERSION = 4
DESCRIPTION = "model.toml"
WEIGHTS = "weights.safetensors"


class ModelDescription(Settings):
    """What `model.toml` says."""

    format_version: int
    n_channels: int
    window: tuple[int, ...]
    mirror_axes: tuple[int, ...]
    class_names: tuple[str, ...]
    class_values: tuple[int, ...]
    network: NetworkSettings
    preprocessing: PreprocessingSettings
    codes: dict[str, StructureCodes] = Field(default_factory=dict)
    weights_sha256: str | None = None
    temperature: float = Field(default=1.0, gt=0)
    postprocessing: PostprocessingSettings = PostprocessingSettings()
    volume_errors: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A network with all that is needed to segment a new image with it.

    Attributes:
        network: The weights.
        network_settings: The network's shape.
        n_channels: Channels of the images it takes.
        window: Shape of the pieces it was trained on.
        mirror_axes: Axes along which training mirrored.
        classes: The structures it tells apart.
        preprocessing: How images are brought to it.
        temperature: What its logits are divided by to make its probabilities honest.
        postprocessing: What its segmentations are tidied up with.
        volume_errors: How wrong its expected volumes were in cases that it was not trained on,
            for each structure; see `volume_error`. Empty where that was not measured.
        about: For people: versions, data set, training time.
        codes: What each class but the background is, for DICOM; looked up by its name where
            nothing else was said.
    """

    network: nn.Module
    network_settings: NetworkSettings
    n_channels: int
    window: tuple[int, ...]
    mirror_axes: tuple[int, ...]
    classes: ClassList
    preprocessing: PreprocessingSettings
    temperature: float = 1.0
    postprocessing: PostprocessingSettings = field(default_factory=PostprocessingSettings)
    volume_errors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, StructureCodes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = codes_by_name(self.classes.foreground) | self.codes
        ordered = {name: known[name] for name in self.classes.foreground}
        object.__setattr__(self, "codes", ordered)

    def save(self, folder: Path | str) -> None:
        """Write the model to a folder, replacing one that is there."""
        folder = Path(folder)
        # As bytes, so that a full disk is told like that of any other file.
        weights = save(
            {k: v.detach().cpu().contiguous() for k, v in _weights(self.network).items()}
        )
        description = ModelDescription(
            format_version=FORMAT_VERSION,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            n_channels=self.n_channels,
            window=self.window,
            mirror_axes=self.mirror_axes,
            class_names=self.classes.names,
            class_values=self.classes.values,
            network=self.network_settings,
            preprocessing=self.preprocessing,
            codes=self.codes,
            temperature=self.temperature,
            postprocessing=self.postprocessing,
            volume_errors=self.volume_errors,
            about=self.about,
        )
        with atomic_path(folder / WEIGHTS) as temporary:
            temporary.write_bytes(weights)
        content = description.model_dump(mode="json", exclude_none=True)
        write_text(folder / DESCRIPTION, tomli_w.dumps(content))

    @property
    def divisors(self) -> tuple[int, ...]:
        """What the lengths of a window must divide by, axis by axis."""
        strides = self.network_settings.strides
        if strides is None:
            return (1,) * len(self.window)
        return tuple(math.prod(along) for along in zip(*strides, strict=True))

    @staticmethod
    def load(folder: Path | str) -> "TrainedModel":
        """Read a model from a folder.

        Args:
            folder: A run's `model` folder, or the run's folder itself.

        Raises:
            ModelError: If a file is missing or damaged, or was written by a newer sfumato.
        """
        folder = model_folder(Path(folder))
        description = _read_description(folder / DESCRIPTION)
        try:
            classes = ClassList(names=description.class_names, values=description.class_values)
            description.postprocessing.check(classes.foreground)
            network = build_network(description.network, description.n_channels, len(classes))
        except InputError as error:
            raise ModelError(
                f"{folder / DESCRIPTION}: {error}; copy the model again from where it was trained"
            ) from error
        _load_weights(network, folder / WEIGHTS, description.weights_sha256)
        return TrainedModel(
            network=network.eval(),
            network_settings=description.network,
            n_channels=description.n_channels,
            window=description.window,
            mirror_axes=description.mirror_axes,
            classes=classes,
            preprocessing=description.preprocessing,
            temperature=description.temperature,
            postprocessing=description.postprocessing,
            volume_errors=description.volume_errors,
            about=description.about,
            codes=description.codes,
        )

    def differences(
        self, other: str, classes: ClassList, n_channels: int, n_axes: int
    ) -> Iterator[str]:
        """Say in what another model or data set is of another kind, if anything.

        Args:
            other: Name of the other.
            classes: Its classes. The numbers that stand for them in files do not matter.
            n_channels: Channels of its images.
            n_axes: Spatial axes of its images.
        """
        if self.classes.names != classes.names:
            yield (
                f"its classes are {', '.join(self.classes.foreground)}, but those of {other}"
                f" {', '.join(classes.foreground)}"
            )
        if self.n_channels != n_channels:
            yield (
                f"it takes images with {_channels(self.n_channels)}, but those of {other} have"
                f" {n_channels}"
            )
        if len(self.window) != n_axes:
            yield f"it takes {len(self.window)}-D images, but those of {other} are {n_axes}-D"

    @staticmethod
    def is_model(path: Path) -> bool:
        """Tell whether a folder holds a trained model, or a run that does."""
        return any((path / place / DESCRIPTION).is_file() for place in (".", "model"))


def read_description(place: Path) -> ModelDescription:
    """Read what a model is, without its weights.

    Raises:
        ModelError: If there is no model, or it is damaged.
    """
    return _read_description(model_folder(place) / DESCRIPTION)


def _channels(n: int) -> str:
    return f"{n} channel" if n == 1 else f"{n} channels"


def model_folder(place: Path) -> Path:
    """Return where the model's files stand: in the folder itself, or in `model` of a run."""
    if not (place / DESCRIPTION).exists() and (place / "model" / DESCRIPTION).exists():
        return place / "model"
    return place


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return each tensor once: MONAI's DynUNet lists its layers under two names."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            unique[name] = tensor
    return unique


def _read_description(path: Path) -> ModelDescription:
    if not path.is_file():
        raise ModelError(
            f"{path.parent}: is no trained model (there is no {path.name} in it); give the folder"
            " RUN/model that training wrote"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        version = content.get("format_version", 0)
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ModelError(
                f"{path}: the model has format {version}, but this sfumato reads up to"
                f" {FORMAT_VERSION}; update sfumato"
            )
        return ModelDescription.model_validate(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, OSError) as error:
        raise ModelError(
            f"{path}: is damaged; copy the model again from where it was trained"
        ) from error


def _load_weights(network: nn.Module, path: Path, sha256: str | None) -> None:
    if not path.is_file():
        raise ModelError(
            f"{path}: is missing; copy the whole model folder from where it was trained"
        )
    try:
        content = path.read_bytes()
        weights = load(content)
        expected = _weights(network)
        if weights.keys() != expected.keys():
            raise ModelError(f"{path}: its weights do not belong to the network in {DESCRIPTION}")
        # Last of all: what else is wrong with other weights is worth more words.
        is_changed = sha256 is not None and hashlib.sha256(content).hexdigest() != sha256
        for name, tensor in expected.items():
            if tensor.shape != weights[name].shape:
                raise ModelError(
                    f"{path}: {name} has shape {tuple(weights[name].shape)}, but {DESCRIPTION}"
                    f" describes {tuple(tensor.shape)}; they belong to different models"
                )
            tensor.copy_(weights[name])
        if is_changed:
            raise ModelError(
                f"{path}: was changed since {DESCRIPTION} was written (its checksum differs); copy"
                " the whole model folder again from where it was trained"
            )
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is damaged; copy it again from where it was trained") from error
