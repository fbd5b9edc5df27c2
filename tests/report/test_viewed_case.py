"""A case that a page holds is small, whole and in its place."""

import gzip
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.report.conftest import CLASSES, HOSTILE, Outline, block_case, soft

from sfumato.cases.case import Case
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.report.page import Picture, Report, Section, render_page
from sfumato.report.viewed_case import (
    MOST_ELEMENTS,
    ViewedCase,
    view_case,
    viewer_script,
    viewer_words,
)


def oblique(shape: tuple[int, ...]) -> Geometry:
    affine = np.array([[0, 0, -1.5, 9], [-0.7, 0, 0, 4], [0, 2, 0, -3], [0, 0, 0, 1]], float)
    return Geometry(shape=shape, affine=affine)


def parts_of(viewed: ViewedCase) -> list[np.ndarray]:
    """Take a case apart as the viewer does; grey cases only."""
    dims: Any = viewed.description["dims"]
    values = np.frombuffer(gzip.decompress(viewed.content), np.uint8)
    return [part.reshape(dims, order="F") for part in values.reshape(-1, int(np.prod(dims)))]


def labelled(case: Case) -> np.ndarray:
    assert case.label is not None
    return case.label


def test_labels_and_probabilities_are_kept_to_the_element_and_in_their_place() -> None:
    case = block_case(oblique((20, 30, 40)))
    label = labelled(case)
    probability = soft(label, len(CLASSES))
    viewed = view_case(case, label, CLASSES, probability)
    image, reference, segmentation, first, second = parts_of(viewed)
    np.testing.assert_array_equal(reference, segmentation)
    affine: Any = viewed.description["affine"]
    for index, values in ((1, first), (2, second)):
        whole = np.argwhere(label == index)
        kept = np.argwhere(reference == index)
        assert len(kept) == len(whole)
        # The same elements lie at the same millimetres.
        np.testing.assert_allclose(
            kept @ np.array(affine)[:, :3].T + np.array(affine)[:, 3],
            whole @ case.geometry.affine[:3, :3].T + case.geometry.affine[:3, 3],
        )
        np.testing.assert_allclose(
            values[reference == index] / 255, probability[index][label == index], atol=2 / 255
        )
    assert image.max() == 255
    assert image.min() == 0


def test_large_cases_are_thinned_along_their_finest_axes() -> None:
    shape = (300, 300, 120)
    geometry = Geometry.from_spacing(shape, (0.5, 0.5, 2.0))
    label = np.ones(shape, np.uint8)
    case = Case(id="large", image=np.zeros((1, *shape), np.float32), geometry=geometry, label=label)
    viewed = view_case(case, label, CLASSES)
    dims: Any = viewed.description["dims"]
    assert np.prod(dims) <= MOST_ELEMENTS
    assert dims[2] == 120
    assert "of each 3 × 2 × 1 one" in viewed.note
    assert len(viewed.text) < 100_000


@pytest.mark.parametrize("has_label", [True, False])
def test_an_empty_segmentation_shows_the_whole_case(has_label: bool) -> None:
    case = block_case(Geometry.from_spacing((16, 24), (1.0, 1.0)))
    nothing = np.zeros((16, 24), np.uint8)
    viewed = view_case(replace(case, label=nothing if has_label else None), nothing, CLASSES)
    assert viewed.description["dims"] == [16, 24, 1]
    assert viewed.description["isFlat"]


def test_flat_images_of_three_channels_keep_their_colours() -> None:
    case = block_case(Geometry.from_spacing((16, 24), (1.0, 1.0)), n_channels=3)
    viewed = view_case(case, labelled(case), CLASSES)
    dims: Any = viewed.description["dims"]
    values = np.frombuffer(gzip.decompress(viewed.content), np.uint8)
    assert viewed.description["isColour"]
    assert len(values) == (3 + 2) * np.prod(dims)
    # Red, green and blue of an element lie side by side.
    colours = values[: 3 * np.prod(dims)].reshape(3, *dims[:2], order="F")
    affine: Any = viewed.description["affine"]
    rows, columns = (slice(int(affine[i][3]), int(affine[i][3]) + dims[i]) for i in (0, 1))
    green = case.image[1, rows, columns]
    assert np.corrcoef(colours[1].ravel(), green.ravel())[0, 1] > 0.95


def test_a_page_with_a_viewer_is_whole_and_fetches_nothing() -> None:
    case = block_case(oblique((8, 9, 10)))
    classes = ClassList(names=("background", HOSTILE, "b"), values=(0, 1, 2))
    viewed = view_case(case, labelled(case), classes)
    picture = Picture(content=b"<svg/>", alt="a", viewed=viewed)
    words = viewer_words([viewed])
    report = Report(title="t", headline="h", sections=[Section(title="Cases", pictures=[picture])])
    page = render_page(report)
    outline = Outline(page)
    assert outline.open == []
    assert HOSTILE not in page
    assert not outline.values("src")[1:]
    assert "1.1 MB for the viewer" in words
    found = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert json.loads(found[1])["classes"][0]["name"] == HOSTILE
    assert "niivue" not in render_page(Report(title="t", headline="h"))


def test_the_viewers_modules_become_one() -> None:
    script = viewer_script()
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    assert "</script" not in script
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names))
