"""All settings of a training run."""

from sfumato.cases.split import CalibrationSettings
from sfumato.labels.softeners import SofteningSettings
from sfumato.model.losses import LossSettings
from sfumato.training.loop import TrainingSettings
from sfumato.training.plan import Plan


class RunConfig(Plan):
    """Everything that decides the outcome of a run, besides the data.

    The groups of `Plan` (preprocessing, superpixels, patches, network, augmentation) are
    filled from the data where they are left open; the others stand for themselves. Each
    group is documented where the code that obeys it stands.
    """

    softening: SofteningSettings = SofteningSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
