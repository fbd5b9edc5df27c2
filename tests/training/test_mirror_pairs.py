"""Left and right structures are found in data, and axes that only seem to have them are kept."""

import numpy as np
import pytest

from sfumato.cases.case import Case
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.training.fingerprint import measure_fingerprint
from sfumato.training.mirror_pairs import MirrorPair
from sfumato.training.plan import Plan, make_plan

SHAPE, SPACING = (40, 30, 20), (1.0, 1.5, 2.0)
CLASSES = ClassList(names=("background", "left", "right"), values=(0, 1, 2))
KIDNEYS = ((10, 22, 20), (30, 22, 20))
"""Where the centres lie along right, anterior and superior, in mm."""


def make_case(number, centres_mm, radii_mm=(6, 6), jitter_mm=1.5, axes=(0, 1, 2), signs=(1, 1, 1)):
    """Draw two balls, each moved a little, and store them with other axes."""
    rng = np.random.default_rng(number)
    moved = [np.array(centre) + rng.normal(0, jitter_mm, 3) for centre in centres_mm]
    place = np.indices(SHAPE).T * SPACING
    label = np.zeros(SHAPE, np.uint8)
    for index, (centre, radius) in enumerate(zip(moved, radii_mm, strict=True), start=1):
        label[(np.linalg.norm(place - centre, axis=-1) < radius).T] = index
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[old, new] = sign * SPACING[old]
    stored = label.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    return Case(
        id=str(number),
        image=stored[None].astype(np.float32),
        geometry=Geometry(shape=stored.shape, affine=affine),
        label=stored,
    )


def plan_of(cases):
    fingerprint = measure_fingerprint(cases, CLASSES)
    return fingerprint.mirror_pairs, make_plan(fingerprint, Plan()).augmentation.mirror_axes


def test_left_and_right_keep_their_axis_from_being_mirrored():
    pairs, mirror_axes = plan_of([make_case(i, KIDNEYS) for i in range(8)])
    assert pairs == (MirrorPair(axis=0, names=("left", "right")),)
    assert mirror_axes == ()


def test_what_a_user_wishes_is_kept_all_the_same():
    fingerprint = measure_fingerprint([make_case(i, KIDNEYS) for i in range(8)], CLASSES)
    wishes = Plan.model_validate({"augmentation": {"mirror_axes": [0]}})
    assert make_plan(fingerprint, wishes).augmentation.mirror_axes == (0,)


def test_files_may_be_stored_any_way_round():
    ways = [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1)),
            ((0, 1, 2), (-1, -1, 1))]  # fmt: skip
    cases = [make_case(i, KIDNEYS, axes=axes, signs=signs) for i, (axes, signs) in enumerate(ways)]
    assert plan_of(cases)[0] == (MirrorPair(axis=0, names=("left", "right")),)


def test_one_case_with_sides_confused_hides_nothing():
    cases = [make_case(i, KIDNEYS[::-1] if i == 4 else KIDNEYS) for i in range(12)]
    assert plan_of(cases)[1] == ()


@pytest.mark.parametrize(
    ("centres_mm", "settings"),
    [
        # As the parts of a hippocampus: one before the other, and always a little to one side.
        (((18, 12, 20), (22, 32, 20)), {}),
        # Oblique, mostly along the other axes.
        (((14, 12, 14), (26, 24, 30)), {}),
        # A kidney and a much larger organ.
        (KIDNEYS, {"radii_mm": (5, 9)}),
        # A core in a shell.
        (((18, 22, 20), (21, 22, 20)), {"radii_mm": (12, 10), "jitter_mm": 0.2}),
        # Here and there.
        (((20, 22, 20), (20, 22, 20)), {"jitter_mm": 6}),
    ],
    ids=["hippocampus", "oblique", "unlike", "core", "anywhere"],
)
def test_left_and_right_are_mirrored_where_no_structures_change_places(centres_mm, settings):
    cases = [make_case(i, centres_mm, **settings) for i in range(10)]
    assert plan_of(cases)[1] == (0,)


def test_each_side_as_often_is_no_left_and_right():
    cases = [make_case(i, KIDNEYS[:: 1 if i % 2 else -1]) for i in range(10)]
    assert plan_of(cases) == ((), (0,))


def test_two_cases_are_too_few_to_tell():
    assert plan_of([make_case(i, KIDNEYS) for i in range(2)]) == ((), (0,))


def test_cases_that_lack_one_side_do_not_count():
    cases = [make_case(i, KIDNEYS) for i in range(4)]
    for case in cases[:2]:
        case.label[case.label == 2] = 0
    assert plan_of(cases) == ((), (0,))


def test_flat_images_lose_only_the_axis_between_the_two():
    label = np.zeros((40, 60), np.uint8)
    label[15:25, 10:20], label[16:26, 40:50] = 1, 2
    case = Case(
        id="flat",
        image=label[None].astype(np.float32),
        geometry=Geometry.from_spacing(label.shape, (1.0, 1.0)),
        label=label,
    )
    pairs, mirror_axes = plan_of([case] * 3)
    assert [pair.axis for pair in pairs] == [1]
    assert mirror_axes == (0,)
