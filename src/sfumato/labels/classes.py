"""Which structures a label distinguishes, and what numbers stand for them in files."""

from dataclasses import dataclass

import numpy as np

from sfumato.arrays import Label, LabelValues
from sfumato.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """The classes of a data set, background first.

    Inside sfumato a class is its index, 0 to K-1. Files keep the data set's own values.

    Attributes:
        names: One name for each class; the first is the background.
        values: The number that stands for each class in the data set's files.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values):
            raise InputError(f"classes need one name a value, got {self.names} and {self.values}")
        if len(set(self.names)) < len(self.names) or len(set(self.values)) < len(self.values):
            raise InputError(f"two classes share a name or value: {self.names}, {self.values}")
        if not 2 <= len(self.names) <= 256:
            raise InputError(
                f"a data set must have 2 to 256 classes with background, got {len(self.names)};"
                " is the label an image by mistake?"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def foreground(self) -> tuple[str, ...]:
        """The names of all classes but the background."""
        return self.names[1:]

    def to_indices(self, values: LabelValues) -> Label:
        """Replace a data set's own values by class indices.

        Raises:
            InputError: If the label holds a value that no class has.

        Examples:
            >>> classes = ClassList(names=("background", "cell"), values=(0, 255))
            >>> classes.to_indices(np.array([0, 255, 255]))
            array([0, 1, 1], dtype=uint8)
        """
        order = np.argsort(self.values)
        known = np.array(self.values)[order]
        position = np.searchsorted(known, values).clip(max=len(known) - 1)
        is_unknown = known[position] != values
        if is_unknown.any():
            unknown = np.unique(values[is_unknown])
            shown = ", ".join(map(str, unknown[:5])) + (" …" if len(unknown) > 5 else "")
            declared = ", ".join(f"{v} {n}" for n, v in zip(self.names, self.values, strict=True))
            raise InputError(
                f"the label holds the value {shown}, which no class has (declared: {declared});"
                " correct the label or declare the class"
            )
        return order[position].astype(np.uint8)

    def to_values(self, label: Label) -> LabelValues:
        """Replace class indices by the data set's own values.

        Examples:
            >>> classes = ClassList(names=("background", "cell"), values=(0, 255))
            >>> classes.to_values(np.array([0, 1], np.uint8))
            array([  0, 255], dtype=uint8)
        """
        lowest, highest = min(self.values), max(self.values)
        dtype = np.result_type(np.min_scalar_type(lowest), np.min_scalar_type(highest))
        return np.array(self.values, dtype)[label]
