"""One image to segment, with its reference label where there is one."""

from dataclasses import dataclass

from sfumato.arrays import Image, Label
from sfumato.errors import CaseError
from sfumato.image.geometry import Geometry


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One image to segment, with its reference label where there is one.

    Attributes:
        id: Name of the case, unique in its data set.
        image: Intensities.
        geometry: The grid that image and labels share.
        label: What the (first) annotator drew, or None.
        rater_labels: What every annotator drew; empty where there is no label.
    """

    id: str
    image: Image
    geometry: Geometry
    label: Label | None = None
    rater_labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        if self.image.shape[1:] != self.geometry.shape:
            raise CaseError(
                self.id,
                f"the image has shape {self.image.shape[1:]},"
                f" but its geometry says {self.geometry.shape}",
            )
        if self.label is not None and self.label.shape != self.geometry.shape:
            raise CaseError(
                self.id,
                f"the label has shape {self.label.shape}, but the image {self.geometry.shape};"
                " resample the label to the image's grid first",
            )
