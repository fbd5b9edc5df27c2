"""Medical image segmentation trained with superpixel-guided soft labels.

Every public name is imported from here. A name is loaded when it is first used, so that
importing the package is quick and loads no torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.cases.dataset import Dataset
    from sfumato.errors import SfumatoError
    from sfumato.evaluation.scores import CaseScore, score_case
    from sfumato.image.files import read_image, write_label
    from sfumato.image.geometry import Geometry
    from sfumato.image.probabilities import read_class_names, read_probability, write_probability
    from sfumato.inference.predictor import Predictor
    from sfumato.inference.probability import ProbabilityMap
    from sfumato.labels.distance import signed_distance
    from sfumato.labels.soft_label_file import SoftLabel, read_soft_label, write_soft_label
    from sfumato.labels.softening import soften_image_label, soften_label, uncertain_region
    from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels
    from sfumato.model.trained import TrainedModel
    from sfumato.workflow.run import RunRequest
    from sfumato.workflow.run_config import RunConfig
    from sfumato.workflow.training import train

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Load a public name from the module that defines it (PEP 562)."""
        if name == "__version__":
            from importlib.metadata import version

            value = version("sfumato")
        elif name in _HOMES:
            from importlib import import_module

            value = getattr(import_module(f"sfumato.{_HOMES[name]}"), name)
        else:
            raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
        globals()[name] = value
        return value


_HOMES = {
    "CaseScore": "evaluation.scores",
    "Dataset": "cases.dataset",
    "Geometry": "image.geometry",
    "Predictor": "inference.predictor",
    "ProbabilityMap": "inference.probability",
    "RunConfig": "workflow.run_config",
    "RunRequest": "workflow.run",
    "SfumatoError": "errors",
    "SoftLabel": "labels.soft_label_file",
    "SuperpixelSettings": "labels.superpixels",
    "TrainedModel": "model.trained",
    "compute_superpixels": "labels.superpixels",
    "read_class_names": "image.probabilities",
    "read_image": "image.files",
    "read_probability": "image.probabilities",
    "read_soft_label": "labels.soft_label_file",
    "score_case": "evaluation.scores",
    "signed_distance": "labels.distance",
    "soften_image_label": "labels.softening",
    "soften_label": "labels.softening",
    "train": "workflow.training",
    "uncertain_region": "labels.softening",
    "write_label": "image.files",
    "write_probability": "image.probabilities",
    "write_soft_label": "labels.soft_label_file",
}

__all__ = [
    "CaseScore",
    "Dataset",
    "Geometry",
    "Predictor",
    "ProbabilityMap",
    "RunConfig",
    "RunRequest",
    "SfumatoError",
    "SoftLabel",
    "SuperpixelSettings",
    "TrainedModel",
    "__version__",
    "compute_superpixels",
    "read_class_names",
    "read_image",
    "read_probability",
    "read_soft_label",
    "score_case",
    "signed_distance",
    "soften_image_label",
    "soften_label",
    "train",
    "uncertain_region",
    "write_label",
    "write_probability",
    "write_soft_label",
]


def __dir__() -> list[str]:
    return __all__
