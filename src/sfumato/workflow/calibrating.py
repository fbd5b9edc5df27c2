"""What a model learns of itself from cases that neither train nor test it.

Its temperature, what its segmentations are tidied up with, and how wrong its volumes are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sfumato.arrays import Label
from sfumato.cases.case import Case
from sfumato.evaluation.tidying import TidyCase, choose_postprocessing
from sfumato.inference.averaging import averaged
from sfumato.inference.engines import network_on
from sfumato.inference.predictor import InferenceSettings, Predictor
from sfumato.inference.sliding_window import predict_windows
from sfumato.inference.temperature import fit_temperature
from sfumato.inference.uncertainty import VolumeEstimate, VolumeSums
from sfumato.model.trained import TrainedModel
from sfumato.training.loop import compute_dtype
from sfumato.workflow.run import Run

MOST_ELEMENTS = 200_000
"""So many elements of a case have a say, evenly spread: one number needs no more."""


def calibrated(run: Run, model: TrainedModel) -> TrainedModel:
    """Give a trained model what the run's calibration cases say.

    Without such cases it stays as it is.
    """
    if not run.calibration_cases:
        return model
    return _with_own_grid(run, replace(model, temperature=_temperature(run, model)))


def _temperature(run: Run, model: TrainedModel) -> float:
    dtype = compute_dtype(run.config.training.precision, run.device)
    predict = averaged([network_on(model.network, run.device, dtype)])
    overlap = InferenceSettings().overlap
    probabilities, references = [], []
    for case in run.calibration_cases:
        predicted = predict_windows(predict, np.asarray(case.image), model.window, overlap)
        step = -(-case.hard_label.size // MOST_ELEMENTS)
        probabilities.append(predicted.reshape(len(predicted), -1)[:, ::step])
        references.append(np.asarray(case.hard_label).ravel()[::step])
    return fit_temperature(np.concatenate(probabilities, axis=1), np.concatenate(references))


def _with_own_grid(run: Run, model: TrainedModel) -> TrainedModel:
    """Add what is measured as `segment` does it: on each image's own grid."""
    names = model.classes.foreground
    tidy: list[TidyCase] = []
    errors: dict[str, list[float]] = {name: [] for name in names}
    for case, found in _segmented(run, model):
        assert case.label is not None
        volume = case.geometry.element_volume_mm3
        tidy.append(TidyCase.of(found.segmentation, case.label, volume))
        counts = np.bincount(case.label.ravel(), minlength=len(model.classes))[1:]
        for name, estimate, count in zip(names, found.volumes, counts, strict=True):
            errors[name].append(estimate.error(float(count) * volume))
    model = replace(model, volume_errors={name: tuple(found) for name, found in errors.items()})
    if not run.config.calibration.has_postprocessing:
        return model
    settings, evidence = choose_postprocessing(tidy, names)
    about = model.about | ({"postprocessing": evidence} if evidence else {})
    return replace(model, postprocessing=settings, about=about)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    segmentation: Label
    volumes: list[VolumeEstimate]


def _segmented(run: Run, model: TrainedModel) -> Iterator[tuple[Case, _Found]]:
    dtype = compute_dtype(run.config.training.precision, run.device)
    predictor = Predictor(model, device=run.device, dtype=dtype)
    for case in run.calibration_data:
        segmentation = np.empty(case.geometry.shape, np.uint8)
        sums = VolumeSums(len(model.classes), case.geometry.element_volume_mm3)
        for slab in predictor.predict_slabs(case.image, case.geometry):
            segmentation[slab.place] = slab.segmentation()
            sums.add(slab.probability)
        yield case, _Found(segmentation=segmentation, volumes=sums.estimates(segmentation))
