import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sfumato.cases.case import Case
from sfumato.errors import CaseError
from sfumato.evaluation.audit import audit_case, stand_out, superpixels_near
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.labels.moves import Move
from sfumato.labels.superpixels import SuperpixelSettings

CLASSES = ClassList(names=("background", "core", "rim"), values=(0, 1, 2))
SETTINGS = SuperpixelSettings(size_mm=4)


def case_of(image: np.ndarray, label: np.ndarray | None, spacing: tuple[float, ...]) -> Case:
    geometry = Geometry.from_spacing(image.shape, spacing)
    return Case(id="a", image=image[None].astype(np.float32), geometry=geometry, label=label)


def ball(shift: int = 0, grown_mm: float = 0) -> Case:
    """A noisy ball, with a label that is shifted along the last axis or too large."""
    position = np.moveaxis(np.indices((24, 26, 28)), 0, -1) - np.array([12, 13, 14])
    distance = np.linalg.norm(position, axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.1, distance.shape)
    image = gaussian_filter((distance < 7).astype(float), 0.6) + noise
    label = np.roll(distance < 7 + grown_mm, shift, axis=2).astype(np.uint8)
    return case_of(image, label, (1.0, 1.0, 1.0))


def test_a_boundary_on_an_edge_of_the_image_scores_0() -> None:
    image = np.zeros((24, 24))
    image[:, 10:] = 1
    audit = audit_case(case_of(image, image.astype(np.uint8), (1.0, 1.0)), CLASSES, SETTINGS)
    assert audit.score == pytest.approx(0, abs=1e-6)
    assert audit.classes["core"].move is None
    assert audit.classes["core"].gain == 0


def test_a_boundary_through_a_flat_region_scores_high() -> None:
    image = np.zeros((24, 24))
    image[:, 20:] = 1
    label = np.zeros((24, 24), np.uint8)
    label[:, 10:] = 1  # superpixels end at columns 8 and 12
    audit = audit_case(case_of(image, label, (1.0, 1.0)), CLASSES, SETTINGS)
    assert audit.classes["core"].support.unsupported_share == 1
    assert audit.score == 2
    assert audit.places[0].crossing.depth_mm == 2
    assert (audit.places[0].class_name, audit.places[0].other_class) in (
        ("core", "background"), ("background", "core"),
    )  # fmt: skip


@pytest.mark.parametrize("shift", [-2, 2])
def test_a_shifted_label_is_found_and_which_way_it_should_go(shift: int) -> None:
    right, wrong = (audit_case(ball(n), CLASSES, SETTINGS) for n in (0, shift))
    assert wrong.score > right.score + 0.2
    assert wrong.classes["core"].move == Move(shift=(0, 0, -shift))
    assert right.classes["core"].gain < 0.02


def test_a_label_that_is_too_large_is_found() -> None:
    right, wrong = (audit_case(ball(grown_mm=mm), CLASSES, SETTINGS) for mm in (0, 1))
    assert wrong.score > right.score + 0.2
    assert wrong.classes["core"].move == Move(shift=(0, 0, 0), growth_mm=-1.0)


def test_the_class_with_the_worst_boundary_gives_the_case_its_score() -> None:
    image = np.zeros((20, 40))
    image[4:16, 4:16], image[4:16, 26:38] = 1, 2
    label = np.zeros((20, 40), np.uint8)
    label[4:16, 4:16], label[6:18, 26:38] = 1, 2
    audit = audit_case(case_of(image, label, (1.0, 1.0)), CLASSES, SETTINGS)
    assert audit.worst_class == "rim"
    assert audit.score == audit.classes["rim"].score > audit.classes["core"].score
    assert audit.places[0].crossing.element[1] >= 26


def test_places_are_told_in_the_whole_image_and_in_the_patient() -> None:
    position = np.indices((60, 70))
    label = (np.hypot(position[0] - 45, position[1] - 50) < 8).astype(np.uint8)
    image = np.random.default_rng(0).normal(size=label.shape)
    audit = audit_case(case_of(image, label, (2.0, 0.5)), CLASSES, SETTINGS)
    superpixels = superpixels_near(label, image[None].astype(np.float32), (2.0, 0.5), SETTINGS)
    assert (superpixels == -1).any()
    for place in audit.places:
        row, column = place.crossing.element
        assert superpixels[row, column] == place.crossing.index
        assert place.position_mm == (2.0 * row, 0.5 * column)
    volumes = [place.crossing.unsupported_mm for place in audit.places]
    assert volumes == sorted(volumes, reverse=True)
    assert len({place.crossing.index for place in audit.places}) == len(volumes)


def test_a_case_without_a_structure_has_no_score() -> None:
    empty = audit_case(
        case_of(np.ones((8, 8)), np.zeros((8, 8), np.uint8), (1.0, 1.0)), CLASSES, SETTINGS
    )
    assert math.isnan(empty.score)
    assert empty.worst_class is None
    assert empty.places == ()


def test_a_class_that_fills_the_image_has_no_boundary() -> None:
    image = np.random.default_rng(0).normal(size=(8, 8))
    audit = audit_case(case_of(image, np.ones((8, 8), np.uint8), (1.0, 1.0)), CLASSES, SETTINGS)
    assert audit.classes == {}


def test_what_says_nothing_about_boundaries_is_refused() -> None:
    label = np.eye(8, dtype=np.uint8)
    with pytest.raises(CaseError, match="'a': it has no label"):
        audit_case(case_of(np.ones((8, 8)), None, (1.0, 1.0)), CLASSES, SETTINGS)
    with pytest.raises(CaseError, match="'a': its image is of one intensity"):
        audit_case(case_of(np.ones((8, 8)), label, (1.0, 1.0)), CLASSES, SETTINGS)
    with pytest.raises(CaseError, match="'a': the image holds NaN"):
        audit_case(case_of(np.full((8, 8), np.nan), label, (1.0, 1.0)), CLASSES, SETTINGS)


def test_scores_stand_out_from_what_is_usual_only_where_enough_are_known() -> None:
    usual = [0.4, 0.41, 0.42, 0.39, 0.4, 0.38, 0.43, 0.4, 0.37]
    assert stand_out([*usual, 0.9]) == [False] * 9 + [True]
    assert stand_out([*usual, 0.3]) == [False] * 10
    assert stand_out([*usual, math.nan]) == [False] * 10
    assert stand_out([0.1, 0.9]) == [False, False]
    assert stand_out([]) == []


def test_planted_errors_in_real_labels_are_found(shared_data) -> None:
    from sfumato.cases.dataset import Dataset

    dataset = Dataset.open(shared_data("hippocampus_msd"))
    clean, planted = [], []
    for case_id in dataset.case_ids[:12]:
        case = dataset.load(case_id)
        clean.append(audit_case(case, dataset.classes, SETTINGS).score)
        moved = np.roll(case.label, 2, axis=1)
        spoiled = Case(id="a", image=case.image, geometry=case.geometry, label=moved)
        planted.append(audit_case(spoiled, dataset.classes, SETTINGS).score)
    assert np.mean(np.array(planted)[:, None] > np.array(clean)) > 0.9
