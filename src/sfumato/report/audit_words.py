"""What an audit found, in words that an annotator can act on."""

import numpy as np

from sfumato.evaluation.audit import ClassAudit, Place
from sfumato.image.geometry import Geometry
from sfumato.labels.moves import Move

SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""The patient's sides that lie towards lower and higher millimetres along each axis."""
FLAT_SIDES = (("up", "down"), ("left", "right"))
"""Where lower and higher indices of a flat image lie on the screen."""


def move_words(move: Move | None, geometry: Geometry) -> str:
    """Say where a boundary would be supported better.

    A direction is the patient's where the file tells how the image lies in the patient; of a
    flat image it is the screen's.

    Examples:
        >>> volume = Geometry.from_spacing((9, 9, 9), (1.0, 1.0, 2.5))
        >>> move_words(Move(shift=(0, 0, -2)), volume)
        '5 mm to inferior'
        >>> move_words(Move(shift=(0, 0, 0), growth_mm=-1.0), volume), move_words(None, volume)
        ('1 mm inwards', 'nowhere near')
    """
    if move is None:
        return "nowhere near"
    if move.growth_mm:
        side = "outwards" if move.growth_mm > 0 else "inwards"
        return f"{abs(move.growth_mm):.3g} mm {side}"
    axis = int(np.flatnonzero(move.shift)[0])
    n_elements = move.shift[axis]
    length_mm = abs(n_elements) * geometry.spacing[axis]
    return f"{length_mm:.3g} mm {_side(axis, n_elements, geometry)}"


def place_words(place: Place) -> str:
    """Say which two classes meet at a place, and how far off the boundary may be.

    The class of the smaller part comes first.
    """
    return f"{place.class_name} / {place.other_class}, {place.crossing.depth_mm:.1f} mm deep"


def element_words(element: tuple[int, ...]) -> str:
    """Write an element's indices as viewers show them, counted from 0.

    Examples:
        >>> element_words((3, 14, 15))
        '3, 14, 15'
    """
    return ", ".join(map(str, element))


def percent(share: float) -> str:
    """Write a share of a boundary.

    Examples:
        >>> percent(0.598)
        '60 %'
    """
    return f"{100 * share:.0f} %"


def audit_words(audit: ClassAudit, geometry: Geometry) -> str:
    """Say in a sentence why a boundary is suspicious."""
    share = f"{percent(audit.support.unsupported_share)} of the boundary is unsupported"
    if audit.move is None:
        return f"{share}, and no small move makes it less"
    less = audit.support.unsupported_share - audit.gain
    return f"{share}; {percent(less)} would be, {move_words(audit.move, geometry)}"


def _side(axis: int, n_elements: int, geometry: Geometry) -> str:
    if len(geometry.shape) == 2:
        return FLAT_SIDES[axis][int(n_elements > 0)]
    if not geometry.is_placed:
        return f"along axis {axis}, {'forwards' if n_elements > 0 else 'backwards'}"
    direction = geometry.affine[:3, axis] * n_elements
    patient_axis = int(np.abs(direction).argmax())
    return f"to {SIDES[patient_axis][int(direction[patient_axis] > 0)]}"
