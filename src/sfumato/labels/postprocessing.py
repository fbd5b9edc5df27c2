"""What a segmentation is tidied up with: small parts removed, holes filled."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field, field_validator
from scipy import ndimage

from sfumato.arrays import Label, Mask
from sfumato.errors import InputError, unknown_name
from sfumato.settings import Settings

ALL = "*"
"""Stands for all structures taken together, where a name of a class is wanted."""


class PostprocessingSettings(Settings):
    """What is done to a segmentation; by default nothing.

    Parts are connected also across edges and corners, so holes are only across faces.

    Attributes:
        largest_component: Classes, or "*" for all together, of which the largest part alone
            stays; of equally large ones, the first in array order.
        minimum_volume_mm3: The volume that a part of a class, or of all ("*") together, must have
            to stay; of flat images it is an area in mm².
        fill_holes: Classes of which enclosed background is filled. Other classes in a hole stay.
    """

    largest_component: tuple[str, ...] = ()
    minimum_volume_mm3: dict[str, float] = Field(default_factory=dict)
    fill_holes: tuple[str, ...] = ()

    @field_validator("minimum_volume_mm3")
    @classmethod
    def _check_volumes(cls, volumes: dict[str, float]) -> dict[str, float]:
        if any(volume <= 0 for volume in volumes.values()):
            raise ValueError("volumes must be positive; leave out what has no least volume")
        return volumes

    @property
    def words(self) -> str:
        """What is done, for people; "nothing" by default."""
        steps = [
            *(f"the largest part of {_named(name)} stays" for name in self.largest_component),
            *(
                f"parts of {_named(name)} under {volume:g} mm³ (mm² in flat images) go"
                for name, volume in self.minimum_volume_mm3.items()
            ),
            *(f"holes of {_named(name)} are filled" for name in self.fill_holes),
        ]
        return "; ".join(steps) or "nothing"

    def check(self, class_names: Sequence[str]) -> None:
        """Refuse names that no class has.

        Args:
            class_names: All classes but the background.

        Raises:
            InputError: If there is such a name.
        """
        parts = {*self.largest_component, *self.minimum_volume_mm3} - {ALL}
        for name in sorted(parts | {*self.fill_holes}):
            if name not in class_names:
                raise InputError(unknown_name("class", name, list(class_names)))


def postprocess(
    segmentation: Label,
    element_volume_mm3: float,
    class_names: Sequence[str],
    settings: PostprocessingSettings,
) -> Label:
    """Tidy up a segmentation: remove parts, class by class and then of all, and fill holes.

    What is removed becomes background. Which class would be the second most probable there is
    not known any more, and where a part of a structure is not believed, another structure that
    nothing speaks for would not be either.

    Args:
        segmentation: The class of every element; it is not changed.
        element_volume_mm3: Volume of one element; of flat images its area in mm².
        class_names: All classes but the background, in the order of their indices.
        settings: What is done.

    Examples:
        >>> settings = PostprocessingSettings(largest_component=("cell",), fill_holes=("cell",))
        >>> cells = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]], np.uint8)
        >>> postprocess(cells, 1.0, ["cell"], settings)
        array([[1, 1, 1, 0, 0],
               [1, 1, 1, 0, 0],
               [1, 1, 1, 0, 0]], dtype=uint8)
    """
    settings.check(class_names)
    box = _box(segmentation != 0)
    result = segmentation.copy()
    # A view: what lies outside the box is background, and no hole.
    inner = result[box]
    for name, index in (*_indices(class_names).items(), (ALL, None)):
        is_largest = name in settings.largest_component
        least = settings.minimum_volume_mm3.get(name, 0.0) / element_volume_mm3
        if is_largest or least > 0:
            mask = inner != 0 if index is None else inner == index
            inner[mask & ~_kept(mask, least, is_largest=is_largest)] = 0
    for name, index in _indices(class_names).items():
        if name in settings.fill_holes:
            filled = ndimage.binary_fill_holes(inner == index)
            inner[filled & (inner == 0)] = index
    return result


def _named(name: str) -> str:
    return "all structures together" if name == ALL else name


def _indices(class_names: Sequence[str]) -> Mapping[str, int]:
    return {name: index for index, name in enumerate(class_names, start=1)}


def _kept(mask: Mask, least_elements: float, *, is_largest: bool) -> Mask:
    """Return the parts of a mask that are large enough."""
    box = _box(mask)
    parts, n = ndimage.label(mask[box], ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(parts.ravel(), minlength=n + 1)
    # A volume that is a whole number of elements must not be missed by rounding.
    is_kept = sizes >= least_elements * (1 - 1e-9)
    if is_largest and n:
        is_largest_one = np.zeros(n + 1, bool)
        is_largest_one[1 + np.argmax(sizes[1:])] = True
        is_kept &= is_largest_one
    is_kept[0] = False
    kept = np.zeros(mask.shape, bool)
    kept[box] = is_kept[parts]
    return kept


def _box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box around a mask, of one element where it is empty."""
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else (slice(0, 1),) * mask.ndim
