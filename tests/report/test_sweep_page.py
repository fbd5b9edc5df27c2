import math

import numpy as np
import pytest
from tests.report.conftest import Outline

from sfumato.evaluation.recommendation import recommend
from sfumato.evaluation.sweep import FIGURES, METHODS, Sweep, SweepGrid, list_candidates
from sfumato.report.sweep_page import SweepExample, sweep_page
from sfumato.report.sweep_words import headline, reason, verdict

GRID = SweepGrid(sizes_mm=(4, 8, 16), compactness=(0.1,), scales_mm=(1, 2, 4), sigmas_mm=(1, 2))


def sweep_of(*, has_raters: bool, is_held_out: bool = True) -> Sweep:
    """Figures in which the second size and scale are best, and the Gaussian a little better."""
    candidates = list_candidates(GRID, METHODS if has_raters else METHODS[:1])
    rng, n_cases = np.random.default_rng(0), 20
    figures = {f: rng.uniform(0, 0.1, (len(candidates), n_cases)) for f in FIGURES}
    error = np.array([{"gaussian": 0.1, "none": 0.4}.get(c.method, 0.2) for c in candidates])
    error[4] = 0.15
    figures["brier"] = error[:, np.newaxis] + rng.normal(0, 0.001, n_cases)
    figures["accuracy_gain"] = 0.5 - figures["brier"]
    if not has_raters:
        figures["brier"], figures["cross_entropy"] = (figures["brier"] * math.nan,) * 2
    return Sweep(
        candidates=candidates,
        case_ids=tuple(f"p{i:02}" for i in range(n_cases)),
        is_held_out=np.arange(n_cases) % 2 == 1 if is_held_out else np.zeros(n_cases, bool),
        figures=figures,
    )


def test_the_headline_hides_nothing() -> None:
    sweep = sweep_of(has_raters=True)
    found = recommend(sweep)
    assert headline(sweep, found) == (
        "Recommended: superpixel, 8 mm, compactness 0.1, scale 2 mm. By the Brier score on"
        " held-out cases it predicts the raters better than the hard label, the best distance label"
        " and the best plain grid; worse than the best Gaussian."
    )
    assert "of 9 settings on the 10 cases that chose" in reason(sweep, found)
    assert "the best Gaussian: +0.0500 (+0.0500 to +0.0500), worse" in verdict(found)


@pytest.mark.parametrize("has_raters", [True, False])
def test_the_page_is_whole(has_raters: bool) -> None:
    sweep = sweep_of(has_raters=has_raters)
    example = SweepExample(case_id="p03", role="most gain", picture=b"\x89PNG")
    page = sweep_page(
        sweep, recommend(sweep), title="Superpixels", examples=[example], notes=["A note."]
    )
    assert Outline(page).open == []
    assert ">nan" not in page.lower()
    for words in ("Recommendation", "Size and compactness", "p03: most gain", "A note.", "All "):
        assert words in page
    assert "1/255" in page
    assert ("Nobody drew a case twice" in page) != has_raters
    assert page.count("data:image/svg+xml") == (6 if has_raters else 4)


def test_without_raters_the_page_says_that_this_is_no_proof() -> None:
    sweep = sweep_of(has_raters=False)
    found = recommend(sweep)
    assert "no proof" in headline(sweep, found)
    assert "no proof" in reason(sweep, found)
    assert verdict(found) == ""


def test_without_held_out_cases_nothing_is_claimed() -> None:
    sweep = sweep_of(has_raters=True, is_held_out=False)
    found = recommend(sweep)
    assert headline(sweep, found).endswith("No held-out case confirms it.")
    assert "nothing confirms" in verdict(found)
    page = sweep_page(sweep, found, title="t")
    assert "none could be held out" in page
    assert "On held-out cases" not in page
    assert page.count("recommended setting, 20 cases that chose it") == 4
    assert ">nan" not in page.lower()
