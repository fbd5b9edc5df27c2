import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture
from tests.report.conftest import CLASSES, HOSTILE, Outline, block_case

from sfumato.cases.case import Case
from sfumato.errors import CaseError
from sfumato.evaluation.audit import CaseAudit, audit_case, superpixels_near
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.labels.moves import Move
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.report.audit_figure import audit_figure
from sfumato.report.audit_page import audit_page
from sfumato.report.audit_words import move_words

SETTINGS = SuperpixelSettings(size_mm=4)
FLAT = Geometry.from_spacing((32, 40), (1.0, 1.0))
VOLUME = Geometry.from_spacing((12, 20, 24), (2.5, 1.0, 1.0))


def draw(case: Case, audit: CaseAudit, classes: ClassList = CLASSES) -> bytes:
    superpixels = superpixels_near(case.label, case.image, case.geometry.spacing, SETTINGS)
    return audit_figure(case, audit, classes, superpixels)


@pytest.mark.parametrize("geometry", [FLAT, VOLUME])
def test_a_case_is_drawn_at_its_worst_places(geometry: Geometry) -> None:
    case = block_case(geometry)
    content = draw(case, audit_case(case, CLASSES, SETTINGS))
    with Picture.open(io.BytesIO(content)) as picture:
        assert picture.width > 600
    assert content == draw(case, audit_case(case, CLASSES, SETTINGS))


def test_a_case_whose_boundary_crosses_no_superpixel_is_drawn() -> None:
    label = np.zeros(FLAT.shape, np.uint8)
    label[:, 20:] = 1
    image = label[None].astype(np.float32)
    case = Case(id="p01", image=image, geometry=FLAT, label=label)
    audit = audit_case(case, CLASSES, SETTINGS)
    assert audit.places == ()
    assert draw(case, audit).startswith(b"\x89PNG")
    page = audit_page([audit], title="Audit", pictures={"p01": draw(case, audit)})
    assert "p01" in page


def test_a_case_without_a_boundary_cannot_be_drawn() -> None:
    label = np.zeros(FLAT.shape, np.uint8)
    case = Case(id="p01", image=block_case(FLAT).image, geometry=FLAT, label=label)
    superpixels = np.zeros(FLAT.shape, np.int32)
    with pytest.raises(CaseError, match="nothing to show"):
        audit_figure(case, audit_case(case, CLASSES, SETTINGS), CLASSES, superpixels)


def test_one_annotation_that_stands_out_is_told_of_as_one() -> None:
    case = block_case(FLAT)
    moved = replace(case, label=np.roll(case.label, 5, axis=1))
    audits = [audit_case(one, CLASSES, SETTINGS) for one in (case, moved)]
    usual, worst = sorted(audits, key=lambda audit: audit.score)
    assert worst.score > usual.score
    others = [replace(usual, id=f"p{i:02}") for i in range(2, 13)]
    page = audit_page([worst, *others], title="Audit", pictures={})
    assert "1 annotation of 12 stands out: its image supports it less than usual." in page


def test_the_page_lists_all_cases_and_shows_nothing_unescaped() -> None:
    classes = ClassList(names=("background", HOSTILE, "rim"), values=(0, 1, 2))
    case = block_case(FLAT)
    audit = audit_case(case, classes, SETTINGS)
    named = CaseAudit(id=HOSTILE, geometry=FLAT, classes=audit.classes)
    empty = CaseAudit(id="empty", geometry=FLAT, classes={})
    page = audit_page(
        [named, audit, empty],
        title=HOSTILE,
        pictures={HOSTILE: draw(case, audit, classes)},
        notes=[HOSTILE],
    )
    outline = Outline(page)
    assert outline.open == []
    assert "<script>alert" not in page
    assert not [source for source in outline.values("src") if not source.startswith("data:")]
    assert "no boundary" in page
    assert page.count("<img") == 2  # the case, and the spread of scores


def test_a_page_about_nothing_says_so() -> None:
    empty = CaseAudit(id="empty", geometry=FLAT, classes={})
    page = audit_page([empty], title="Audit", pictures={})
    assert "No case has an annotated boundary" in page


def test_directions_are_the_patients() -> None:
    affine = np.eye(4)
    affine[:3, :3] = ((0, 0, -2.0), (0, 3.0, 0), (1.0, 0, 0))  # to superior, anterior, left
    turned = Geometry(shape=(9, 9, 9), affine=affine)
    assert move_words(Move(shift=(1, 0, 0)), turned) == "1 mm to superior"
    assert move_words(Move(shift=(0, -2, 0)), turned) == "6 mm to posterior"
    assert move_words(Move(shift=(0, 0, 1)), turned) == "2 mm to left"


def test_directions_are_the_screens_or_the_arrays_where_the_patients_are_unknown() -> None:
    assert move_words(Move(shift=(-2, 0)), FLAT) == "2 mm up"
    assert move_words(Move(shift=(0, 1)), FLAT) == "1 mm right"
    stack = Geometry(shape=(9, 9, 9), affine=np.eye(4), is_placed=False)
    assert move_words(Move(shift=(0, 2, 0)), stack) == "2 mm along axis 1, forwards"
