"""How far labels that were spoilt on purpose lie from those that were drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.arrays import Label
from sfumato.labels.classes import ClassList
from sfumato.labels.noise import vanished_classes
from sfumato.metrics.overlap import dice


@dataclass(frozen=True, kw_only=True)
class SpoiltSummary:
    """How far labels were spoilt.

    Attributes:
        n_labels: Labels that were spoilt.
        dice: For each class its mean Dice between spoilt and drawn labels, over those where it
            was drawn; NaN where it never was.
        n_vanished: For each class, how many labels lost it altogether.
    """

    n_labels: int
    dice: Mapping[str, float]
    n_vanished: Mapping[str, int]


def spoilt_dice(label: Label, spoilt: Label, classes: ClassList) -> dict[str, float]:
    """Compare a spoilt label with what was drawn, class by class; NaN where none was drawn."""
    return {
        name: dice(label == k, spoilt == k) if (label == k).any() else math.nan
        for k, name in enumerate(classes.foreground, start=1)
    }


def lost_classes(label: Label, spoilt: Label, classes: ClassList) -> list[str]:
    """Name the foreground classes that were drawn and are not there any more."""
    return [classes.names[k] for k in vanished_classes(label, spoilt) if k > 0]


def summarise_spoilt(
    found: Sequence[Mapping[str, float]], lost: Sequence[Sequence[str]]
) -> SpoiltSummary:
    """Average over labels.

    Args:
        found: What `spoilt_dice` gave for each label, at least one.
        lost: What `lost_classes` gave for each.

    Examples:
        >>> summarise_spoilt([{"a": 0.5}, {"a": 0.0}, {"a": math.nan}], [[], ["a"], []])
        SpoiltSummary(n_labels=3, dice={'a': 0.25}, n_vanished={'a': 1})
    """
    names = list(found[0])
    defined = {name: [row[name] for row in found if not math.isnan(row[name])] for name in names}
    return SpoiltSummary(
        n_labels=len(found),
        dice={name: float(np.mean(v)) if v else math.nan for name, v in defined.items()},
        n_vanished={name: sum(name in of_label for of_label in lost) for name in names},
    )
