"""Temperature scaling: fitted on cases that neither train a model nor test it."""

from dataclasses import replace

import numpy as np

from sfumato.inference.averaging import averaged
from sfumato.inference.engines import network_on
from sfumato.inference.predictor import InferenceSettings
from sfumato.inference.sliding_window import predict_windows
from sfumato.inference.temperature import fit_temperature
from sfumato.model.trained import TrainedModel
from sfumato.training.loop import compute_dtype
from sfumato.workflow.run import Run

MOST_ELEMENTS = 200_000
"""So many elements of a case have a say, evenly spread: one number needs no more."""


def calibrated(run: Run, model: TrainedModel) -> TrainedModel:
    """Give a trained model the temperature that fits the run's calibration cases best.

    Without such cases it stays as it is.
    """
    if not run.calibration_cases:
        return model
    dtype = compute_dtype(run.config.training.precision, run.device)
    predict = averaged([network_on(model.network, run.device, dtype)])
    overlap = InferenceSettings().overlap
    probabilities, references = [], []
    for case in run.calibration_cases:
        predicted = predict_windows(predict, np.asarray(case.image), model.window, overlap)
        step = -(-case.hard_label.size // MOST_ELEMENTS)
        probabilities.append(predicted.reshape(len(predicted), -1)[:, ::step])
        references.append(np.asarray(case.hard_label).ravel()[::step])
    temperature = fit_temperature(np.concatenate(probabilities, axis=1), np.concatenate(references))
    return replace(model, temperature=temperature)
