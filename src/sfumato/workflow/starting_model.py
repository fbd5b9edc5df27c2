"""A trained model that another training starts from: its weights, and the plan they need."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sfumato.cases.case import Case
from sfumato.errors import ConfigError, ModelError
from sfumato.labels.classes import ClassList
from sfumato.model.trained import WEIGHTS, TrainedModel, model_folder
from sfumato.workflow.run_config import RunConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingModel:
    """What a training starts from instead of random weights.

    Attributes:
        place: The folder that the user named: a model or a run.
        model: The model that was found there.
        sha256: Checksum of its file of weights, by which the model is known again.
    """

    place: Path
    model: TrainedModel
    sha256: str

    @staticmethod
    def load(place: Path) -> "StartingModel":
        """Read a model to start from.

        Raises:
            ModelError: If there is none, or it is damaged.
        """
        model = TrainedModel.load(place)
        weights = (model_folder(place) / WEIGHTS).read_bytes()
        return StartingModel(place=place, model=model, sha256=hashlib.sha256(weights).hexdigest())

    @property
    def origin(self) -> dict[str, str]:
        """What a run notes down of it."""
        return {"folder": str(self.place), "sha256": self.sha256}

    def check_data(self, classes: ClassList, case: Case) -> None:
        """Refuse data of another kind than the model was trained on.

        Args:
            classes: The classes of the new data. Their names and order must be the model's;
                the numbers that stand for them in files may be others.
            case: One of the new cases.

        Raises:
            ModelError: If classes, channels or axes differ; the text says which.
        """
        n_axes = case.image.ndim - 1
        differences = self.model.differences("the data", classes, len(case.image), n_axes)
        if listed := "; ".join(differences):
            raise ModelError(
                f"{self.place}: training cannot start from this model, since {listed}; leave"
                " out --from, or choose a model of the same kind"
            )

    def plan(self, wishes: RunConfig) -> RunConfig:
        """Fill what the wishes leave open with the model's own plan.

        Its weights fit one network and one way to prepare images, so these cannot be wished
        otherwise. Patch and mirroring can; batch and superpixels stay open, for the data.

        Raises:
            ConfigError: If the wishes ask for another network or other images.
        """
        model = self.model
        kept = {"network": model.network_settings, "preprocessing": model.preprocessing}
        for group, settings in kept.items():
            for name, value in getattr(wishes, group):
                if value is not None and value != getattr(settings, name):
                    raise ConfigError(
                        f"{group}.{name} is what the model of --from was trained with, and cannot"
                        " be set; leave it out"
                    )
        patches, augmentation = wishes.patches, wishes.augmentation
        if patches.shape is None:
            patches = patches.model_copy(update={"shape": model.window})
        if augmentation.mirror_axes is None:
            augmentation = augmentation.model_copy(update={"mirror_axes": model.mirror_axes})
        return wishes.model_copy(update={**kept, "patches": patches, "augmentation": augmentation})
