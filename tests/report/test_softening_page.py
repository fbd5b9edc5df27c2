import math

import numpy as np
from tests.report.conftest import CLASSES, HOSTILE, Outline, block_case, soft

from sfumato.evaluation.softness import Softness, measure_softness
from sfumato.image.geometry import Geometry
from sfumato.labels.annotators import raters_mean
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels
from sfumato.report.figures import softening_figure
from sfumato.report.softening_page import example_ids, softening_page

GRID = Geometry.from_spacing((40, 50), (1.0, 1.0))


def measured(n_raters: int, name: str = "p01", seed: int = 0) -> Softness:
    case = block_case(GRID, seed=seed)
    assert case.label is not None
    superpixels = compute_superpixels(case.image, (1.0, 1.0), SuperpixelSettings(size_mm=6))
    raters = [np.roll(case.label, i, axis=0) for i in range(n_raters)]
    return measure_softness(
        case.label,
        soft(case.label, 3),
        (1.0, 1.0),
        CLASSES,
        superpixels=superpixels,
        rater_labels=raters,
        case_id=name,
    )


def test_the_page_says_how_far_softening_went() -> None:
    cases = [measured(1, f"p{i:02}", seed=i) for i in range(3)]
    page = softening_page(cases, title="Blocks", settings={"softening": {"method": "gaussian"}})
    assert Outline(page).open == []
    assert "of the elements became soft" in page
    for words in ("Expected volumes", "Achievable accuracy", "anterior", "p02", "gaussian"):
        assert words in page
    assert "not whether it is right" in page
    assert "Brier score</th>" not in page
    assert ">nan" not in page.lower()


def test_several_raters_bring_scores_and_their_own_note() -> None:
    page = softening_page([measured(3)], title="Blocks")
    assert "the mean of all raters" in page
    assert "Cross-entropy" in page
    assert "not whether it is right" not in page


def test_volumes_have_the_unit_of_the_images_and_plain_numbers() -> None:
    case = Softness(
        case_id="a",
        softened_share=0.1,
        volume_shift={"anterior": -14_960.4, "posterior": 0.46},
        relative_volume_shift={"anterior": -0.04, "posterior": 0.01},
    )
    page = softening_page([case], title="t", volume_unit="mm²")
    for words in ("mean shift, mm²", "−14,960<", "+0.5<"):
        assert words in page


def test_the_page_says_where_superpixels_are_worked_out() -> None:
    pictures = {"p01": b"\x89PNG"}
    assert "worked out around boundaries" in softening_page(
        [measured(1)], title="t", pictures=pictures
    )


def test_undefined_numbers_are_dashes() -> None:
    cases = [
        Softness(
            case_id=case_id,
            softened_share=share,
            volume_shift={"anterior": 0.5, "posterior": 0.0},
            relative_volume_shift={"anterior": relative, "posterior": math.nan},
        )
        for case_id, share, relative in (("a", 0.1, 0.05), ("b", 0.2, math.nan))
    ]
    page = softening_page(cases, title="t")
    assert '<td class="number">–</td>' in page
    assert ">nan" not in page.lower()
    assert "the expected volume of anterior shifts by +5.00" in page


def test_names_of_cases_are_escaped() -> None:
    page = softening_page([measured(1, HOSTILE)], title=HOSTILE)
    assert "<script>alert" not in page
    assert Outline(page).open == []


def test_the_gallery_goes_from_the_most_softened_to_the_least() -> None:
    case = block_case(GRID)
    assert case.label is not None
    mean = raters_mean([case.label, np.roll(case.label, 1, axis=0)], 3)
    png = softening_figure(case, soft(case.label, 3), CLASSES, raters_mean=mean)
    assert png != softening_figure(case, soft(case.label, 3), CLASSES)
    cases = [Softness(case_id=str(i), softened_share=i / 100) for i in range(40)]
    chosen = example_ids(cases)
    assert len(chosen) == 12
    assert (chosen[0], chosen[-1]) == ("39", "0")
    page = softening_page([measured(2)], title="t", pictures={"p01": png})
    assert page.count("data:image/png;base64,") == 1
