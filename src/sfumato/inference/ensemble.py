"""Several models that segment together: the mean of their probabilities."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sfumato.arrays import Image
from sfumato.image.geometry import Geometry
from sfumato.inference.predictor import Predictor
from sfumato.inference.probability import ProbabilitySlab
from sfumato.inference.sliding_window import across
from sfumato.labels.postprocessing import PostprocessingSettings
from sfumato.metrics.conformal import conformal_quantile

Watch = Callable[[Iterator[ProbabilitySlab], Image, Geometry], Iterator[ProbabilitySlab]]
"""Passes the parts of an image's probabilities through, to look at them on the way."""


def unwatched(
    slabs: Iterator[ProbabilitySlab], image: Image, geometry: Geometry
) -> Iterator[ProbabilitySlab]:
    """Pass parts through and tell nobody."""
    return slabs


class Ensemble:
    """One or several predictors whose probabilities are averaged, each counting alike.

    Probabilities are averaged on the image's own grid, so spacing, window, normalisation and
    mirroring may differ from model to model.

    Args:
        predictors: At least one. Their models have the same classes in the same order, and
            take images of the same kind; the values of labels are those of the first.
        watch: Sees all probabilities; what it raises ends the prediction.
    """

    def __init__(self, predictors: Sequence[Predictor], watch: Watch = unwatched) -> None:
        self._watch = watch
        self.predictors = tuple(predictors)
        self.model = self.predictors[0].model

    @property
    def postprocessing(self) -> PostprocessingSettings:
        """What segmentations are tidied up with: what all models ask for, else nothing."""
        first, *others = (predictor.model.postprocessing for predictor in self.predictors)
        return first if all(other == first for other in others) else PostprocessingSettings()

    def missing_interval(self, level: float) -> str | None:
        """Say why volumes get no interval.

        Args:
            level: How often it shall hold the truth, between 0 and 1.

        Returns:
            The reason, or None where there are intervals.

        Raises:
            InputError: If the level is none.
        """
        # A level that is none is refused even where there is no error.
        conformal_quantile([], level)
        errors = self.model.volume_errors
        if len(self.predictors) > 1:
            return "errors of volumes are known of one model, not of the mean of several"
        if self.predictors[0].settings.is_mirrored:
            return "errors of volumes are known without mirroring only"
        n_cases = min(map(len, errors.values()), default=0)
        if n_cases == 0:
            return (
                "no cases were held back to measure the errors of volumes; train with --set"
                " calibration.cases=20"
            )
        if math.isnan(conformal_quantile([0.0] * n_cases, level)):
            return (
                f"{n_cases} cases that were held back are too few for a level of {level:g}; train"
                f" with --set calibration.cases={math.ceil(level / (1 - level) - 1e-9)} or more,"
                " or ask for a lower level"
            )
        return None

    def predict_slabs(self, image: Image, geometry: Geometry) -> Iterator[ProbabilitySlab]:
        """Predict the mean class probabilities of an image, part by part.

        Memory is that of `Predictor.predict_slabs` for each model.

        Args:
            image: Intensities as they stand in the file.
            geometry: The image's own grid.

        Yields:
            Parts that together make up the image, each element once.

        Raises:
            ModelError: If the image has another number of channels or axes than the models.
            InputError: If the image does not lie on the grid.
        """
        yield from self._watch(self._slabs(image, geometry), image, geometry)

    def _slabs(self, image: Image, geometry: Geometry) -> Iterator[ProbabilitySlab]:
        first, *others = self.predictors
        if not others:
            yield from first.predict_slabs(image, geometry)
            return
        # All the same way, or whole maps would have to wait for each other.
        axis = first.slab_axis(geometry)
        yield from mean_slabs(
            [p.predict_slabs(image, geometry, axis) for p in self.predictors], axis
        )


def mean_slabs(
    streams: Sequence[Iterator[ProbabilitySlab]], axis: int
) -> Iterator[ProbabilitySlab]:
    """Average probability maps that come part by part, in parts of any lengths.

    Args:
        streams: Parts of each map, all from the same end of the image to the other.
        axis: Spatial axis of the image along which the parts follow each other.
    """
    parts = [next(stream, None) for stream in streams]
    while at_hand := [part for part in parts if part is not None]:
        # All begin at the same slice, at whichever end, so that is where what they share begins.
        extents = [part.place[axis] for part in at_hand]
        shared = slice(max(e.start for e in extents), min(e.stop for e in extents))
        first, *others = (_within(part, axis, shared) for part in at_hand)
        total = first.probability.copy()
        for other in others:
            total += other.probability
        total /= np.float32(len(at_hand))
        yield ProbabilitySlab(place=first.place, probability=total)
        parts = [
            _behind(part, axis, shared) or next(stream, None)
            for part, stream in zip(at_hand, streams, strict=True)
        ]


def _within(slab: ProbabilitySlab, axis: int, extent: slice) -> ProbabilitySlab:
    """Return some slices of a slab."""
    offset = slab.place[axis].start
    index = slice(extent.start - offset, extent.stop - offset)
    place = (*slab.place[:axis], extent, *slab.place[axis + 1 :])
    return ProbabilitySlab(place=place, probability=slab.probability[:, *across(axis, index)])


def _behind(slab: ProbabilitySlab, axis: int, done: slice) -> ProbabilitySlab | None:
    """Return what is left of a slab when some slices at either end are done."""
    whole = slab.place[axis]
    left = (
        slice(whole.start, done.start) if whole.start < done.start else slice(done.stop, whole.stop)
    )
    return _within(slab, axis, left) if left.start < left.stop else None
