"""From an image and a trained model to a probability map on the image's own grid."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field

from sfumato.arrays import Image
from sfumato.errors import InputError, ModelError
from sfumato.image.geometry import Geometry
from sfumato.image.grid import Place, Slab, model_grid
from sfumato.image.preprocessing import apply_scalings, measure_scalings
from sfumato.inference.averaging import averaged
from sfumato.inference.engines import Task, compute_with
from sfumato.inference.probability import ProbabilityMap, ProbabilitySlab
from sfumato.inference.sliding_window import Windows, fitted_window, predict_slabs
from sfumato.inference.temperature import scale_probability
from sfumato.model.trained import TrainedModel
from sfumato.settings import Settings

FAR_SPACING = 3.0
"""By this factor an image's spacing may differ from the model's before somebody is warned."""


class InferenceSettings(Settings):
    """How windows slide over an image.

    Attributes:
        overlap: Share of a window that its neighbour covers too, at least.
        is_mirrored: Whether each window is predicted mirrored as well, along the axes that
            training mirrored, and the probabilities are averaged: slower, often better.
    """

    overlap: float = Field(default=0.5, ge=0, lt=1)
    is_mirrored: bool = False


class Predictor:
    """A trained model, ready to segment images one after the other.

    Args:
        model: What was trained.
        settings: How windows slide over an image.
        device: Where the network computes.
        dtype: The number type of convolutions.
        engine: What computes the network, see `compute_with`.
    """

    def __init__(
        self,
        model: TrainedModel,
        settings: InferenceSettings | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        engine: str = "torch",
    ) -> None:
        self.model = model
        self.settings = settings or InferenceSettings()
        task = Task(
            network=model.network.to(device).eval(),
            input_shape=(1, model.n_channels, *model.window),
            device=torch.device(device),
            dtype=dtype,
        )
        self.device, self.dtype = task.device, dtype
        self.engine, self._compute = compute_with(engine, task)

    def predict(self, image: Image, geometry: Geometry) -> ProbabilityMap:
        """Predict the class probabilities of an image.

        Args:
            image: Intensities as they stand in the file.
            geometry: The image's own grid; the result lies on it, element for element.

        Raises:
            ModelError: If the image has another number of channels or axes than the model.
            InputError: If the image does not lie on the grid.
        """
        n_classes, is_scaled = len(self.model.classes), self.model.temperature != 1
        values = np.empty(((1 + is_scaled) * n_classes, *geometry.shape), np.float32)
        for place, slab in self._slabs(image, geometry, with_unscaled=is_scaled):
            values[:, *place] = slab
        return ProbabilityMap(
            probability=values[:n_classes],
            geometry=geometry,
            unscaled=values[n_classes:] if is_scaled else None,
        )

    def predict_slabs(
        self, image: Image, geometry: Geometry, axis: int | None = None
    ) -> Iterator[ProbabilitySlab]:
        """Predict the class probabilities of an image, part by part.

        Windows along one of the image's axes are predicted in order, and slices are given
        once no later window meets them, so beside the image itself only the probabilities of
        one layer of windows are in memory, however long the image.

        Args:
            image: Intensities as they stand in the file.
            geometry: The image's own grid.
            axis: Spatial axis of the image along which parts follow each other; None takes
                `slab_axis`, which needs the least memory.

        Yields:
            Parts that together make up the image, each element once.

        Raises:
            ModelError: If the image has another number of channels or axes than the model.
            InputError: If the image does not lie on the grid.
        """
        for place, probability in self._slabs(image, geometry, axis):
            yield ProbabilitySlab(place=place, probability=probability)

    def _slabs(
        self,
        image: Image,
        geometry: Geometry,
        axis: int | None = None,
        *,
        with_unscaled: bool = False,
    ) -> Iterator[tuple[Place, Slab]]:
        """Predict part by part, and give what it was before scaling as further classes."""
        self.check(image, geometry)
        preprocessing = self.model.preprocessing
        assert preprocessing.spacing_mm is not None
        assert preprocessing.channels is not None
        grid = model_grid(geometry, preprocessing.spacing_mm)
        scalings = measure_scalings(image, preprocessing.channels)
        shape = grid.target.shape
        overlap = self.settings.overlap
        window = fitted_window(shape, self.model.window, self.model.divisors, overlap)
        windows = Windows(
            shape=shape,
            size=window,
            overlap=overlap,
            chosen_axis=None if axis is None else grid.axes.index(axis),
        )

        def read(part: slice) -> Image:
            # Intensities come first: resampling blurs what is exactly 0 around a stripped skull.
            placed = grid.image_part_to_model(
                image, lambda whole: apply_scalings(whole, scalings), windows.axis, part
            )
            if grid.is_resampled:
                for channel, scaling in zip(placed, scalings, strict=True):
                    channel.clip(*scaling.limits, out=channel)
            return placed

        mirror_axes = self.model.mirror_axes if self.settings.is_mirrored else ()
        predict = averaged([self._compute], mirror_axes)
        # After windows are blended: that changes how sure they are, too.
        slabs = (
            self._scaled(slab, with_unscaled=with_unscaled)
            for slab in predict_slabs(predict, read, windows)
        )
        yield from grid.slabs_to_source(slabs, windows.axis)

    def _scaled(self, slab: Slab, *, with_unscaled: bool) -> Float32[np.ndarray, "_ ..."]:
        scaled = scale_probability(slab, self.model.temperature)
        return np.concatenate([scaled, slab]) if with_unscaled else scaled

    def far_spacing(self, geometry: Geometry) -> str | None:
        """Say so if an image's spacing is far from that of training, where it may go wrong.

        Nothing is said of images that do not know their spacing.
        """
        usual = self.model.preprocessing.spacing_mm
        assert usual is not None
        source = model_grid(geometry, usual)
        own = [source.source.spacing[axis] for axis in source.axes]
        ratios = [max(a / b, b / a) for a, b in zip(own, usual, strict=True)]
        if not geometry.is_placed or max(ratios) <= FAR_SPACING:
            return None
        theirs, ours = (" × ".join(f"{s:.3g}" for s in spacing) for spacing in (own, usual))
        return f"its spacing is {theirs} mm, far from the {ours} mm of training; check the result"

    def slab_axis(self, geometry: Geometry) -> int:
        """Return the spatial axis of an image that is longest on the model's grid."""
        assert self.model.preprocessing.spacing_mm is not None
        grid = model_grid(geometry, self.model.preprocessing.spacing_mm)
        return grid.axes[int(np.argmax(grid.target.shape))]

    def check(self, image: Image, geometry: Geometry) -> None:
        """Refuse an image that the model cannot take.

        Raises:
            ModelError: If it has another number of channels or axes.
            InputError: If it does not lie on the grid.
        """
        n_channels, n_axes = self.model.n_channels, len(self.model.window)
        if len(image) != n_channels:
            raise ModelError(
                f"the number of channels must be {n_channels}, as in training, got {len(image)};"
                " give it the same channels in the same order"
            )
        if image.ndim - 1 != n_axes:
            raise ModelError(
                f"the image is {image.ndim - 1}-D, but the model is {n_axes}-D;"
                f" use a model that was trained on {image.ndim - 1}-D images"
            )
        if image.shape[1:] != geometry.shape:
            raise InputError(
                f"the image has shape {image.shape[1:]}, but its geometry says {geometry.shape}"
            )
