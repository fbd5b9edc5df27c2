import math
from itertools import pairwise

import numpy as np
import pytest

from sfumato.cases.case import Case
from sfumato.errors import CaseError, InputError
from sfumato.evaluation.recommendation import best_places, edges, estimate, recommend
from sfumato.evaluation.sweep import (
    FIGURES,
    METHODS,
    Sweep,
    SweepGrid,
    list_candidates,
    measure_candidates,
    soften_by,
)
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.labels.softening import one_hot

CLASSES = ClassList(names=("background", "disc"), values=(0, 1))
GRID = SweepGrid(sizes_mm=(4, 8), compactness=(0.1, 0.3), scales_mm=(1, 2), sigmas_mm=(0.7, 2))


def disc_case(n_raters=1, shape=(40, 44)):
    """A bright disc; the first rater drew it a little too small."""
    rows, columns = np.indices(shape)
    distance = np.hypot(rows - 20, columns - 22)
    noise = np.random.default_rng(0).normal(0, 0.05, shape)
    drawn = tuple((distance < radius).astype(np.uint8) for radius in (9, 11, 10)[:n_raters])
    return Case(
        id="disc",
        image=((distance < 10.5) + noise)[np.newaxis].astype(np.float32),
        geometry=Geometry.from_spacing(shape, (1.0, 1.0)),
        label=drawn[0] if drawn else None,
        rater_labels=drawn,
    )


def made_up(brier, *, is_held_out, shift=0.0, gain=math.nan, candidates=None):
    """A sweep whose figures are given: by candidate and case."""
    candidates = candidates or list_candidates(GRID)
    shape = (len(candidates), len(is_held_out))
    figures = {figure: np.full(shape, math.nan) for figure in FIGURES}
    figures["brier"] = np.broadcast_to(brier, shape).astype(float)
    figures["cross_entropy"] = 5 * figures["brier"]
    figures["volume_shift"] = np.broadcast_to(shift, shape).astype(float)
    figures["accuracy_gain"] = np.broadcast_to(gain, shape).astype(float)
    return Sweep(
        candidates=candidates,
        case_ids=tuple(f"p{i}" for i in range(len(is_held_out))),
        is_held_out=np.array(is_held_out),
        figures=figures,
    )


class TestCandidates:
    def test_every_value_is_tried_with_every_other(self):
        candidates = list_candidates(GRID)
        n_of = {m: sum(c.method == m for c in candidates) for m in METHODS}
        assert n_of == {"superpixel": 8, "none": 1, "gaussian": 2, "distance": 2, "grid": 4}
        assert len({c.words for c in candidates}) == len(candidates)
        assert candidates[0].words == "superpixel, 4 mm, compactness 0.1, scale 1 mm"
        assert candidates[8].words == "hard label"

    def test_scales_of_the_same_superpixels_follow_each_other(self):
        places = [c.place for c in list_candidates(GRID, ("superpixel",))]
        assert sum(a != b for a, b in pairwise(places)) == 3

    def test_every_figure_of_every_candidate_is_measured(self):
        candidates = list_candidates(GRID)
        rows = measure_candidates(disc_case(3), CLASSES, candidates)
        assert len(rows) == len(candidates)
        for candidate, row in zip(candidates, rows, strict=True):
            assert set(row) == set(FIGURES)
            undefined = {figure for figure, value in row.items() if math.isnan(value)}
            if candidate.method == "superpixel":
                assert not undefined
            else:
                assert undefined == {
                    "accuracy_gain", "achievable_accuracy", "boundary_recall", "n_superpixels",
                }  # fmt: skip
        hard = rows[[c.method for c in candidates].index("none")]
        assert hard["softened_share"] == hard["volume_shift"] == 0
        assert hard["brier"] > min(row["brier"] for row in rows)

    def test_a_case_that_one_person_drew_has_no_truth(self):
        rows = measure_candidates(disc_case(1), CLASSES, list_candidates(GRID, ("superpixel",)))
        assert all(math.isnan(row["brier"]) for row in rows)
        assert all(row["softened_share"] > 0 for row in rows)

    def test_a_case_without_label_is_refused(self):
        with pytest.raises(CaseError, match="has no label to soften"):
            measure_candidates(disc_case(0), CLASSES, list_candidates(GRID))

    def test_the_hard_label_is_a_candidate(self):
        case = disc_case()
        hard = next(c for c in list_candidates(GRID) if c.method == "none")
        np.testing.assert_array_equal(soften_by(hard, case, 2), one_hot(case.label, 2))


class TestRecommendation:
    def test_held_out_cases_choose_nothing(self):
        candidates = list_candidates(GRID)
        brier = np.full((len(candidates), 4), 0.5)
        brier[3, :2], brier[5, 2:] = 0.1, 0.0
        found = recommend(made_up(brier, is_held_out=[False, False, True, True]))
        assert found.criterion == "brier"
        assert found.chosen == 3
        assert found.estimates["superpixel"]["brier"].mean == 0.5

    def test_every_other_method_is_chosen_in_the_same_way(self):
        candidates = list_candidates(GRID)
        brier = np.linspace(1, 0.5, len(candidates))[:, np.newaxis]
        found = recommend(made_up(brier, is_held_out=[False, True, True]))
        for method in METHODS:
            last = max(i for i, c in enumerate(candidates) if c.method == method)
            assert found.best[method] == last

    def test_verdicts_follow_the_interval(self):
        candidates = list_candidates(GRID)
        brier = np.full((len(candidates), 31), 0.2)
        rng = np.random.default_rng(1)
        for i, candidate in enumerate(candidates):
            worse = {"none": 0.1, "gaussian": -0.1}.get(candidate.method, 0)
            spread = rng.normal(0, 0.05, 30) if candidate.method == "grid" else 0
            brier[i, 1:] += worse + spread
        found = recommend(made_up(brier, is_held_out=[False, *[True] * 30]))
        verdicts = {method: d["brier"].verdict for method, d in found.differences.items()}
        assert verdicts == {
            "none": "better",
            "gaussian": "worse",
            "distance": "no clear difference",
            "grid": "no clear difference",
        }
        assert found.differences["none"]["brier"].share_better == 1
        assert found.differences["none"]["brier"].estimate.mean == pytest.approx(-0.1)

    def test_without_held_out_cases_the_verdict_is_unknown(self):
        found = recommend(made_up(0.2, is_held_out=[False, False]))
        assert found.differences["none"]["brier"].verdict == "unknown"
        assert math.isnan(found.estimates["superpixel"]["brier"].mean)

    def test_without_raters_the_gain_over_a_grid_chooses_among_small_shifts(self):
        candidates = list_candidates(GRID, ("superpixel",))
        gain = np.arange(8.0)[:, np.newaxis]
        shift = np.array([0.01, 0.02, 0.03, 0.05, 0.09, 0.1, 0.2, 0.3])[:, np.newaxis]
        sweep = made_up(
            math.nan, is_held_out=[False, True], shift=shift, gain=gain, candidates=candidates
        )
        found = recommend(sweep)
        assert found.criterion == "accuracy_gain"
        assert found.chosen == 5
        assert not found.differences
        assert list(found.best) == ["superpixel"]

    def test_without_raters_and_small_shifts_the_smallest_shift_is_chosen(self):
        candidates = list_candidates(GRID, ("superpixel",))
        shift = np.linspace(0.9, 0.2, 8)[:, np.newaxis]
        sweep = made_up(
            math.nan, is_held_out=[False, True], shift=shift, gain=0.1, candidates=candidates
        )
        assert recommend(sweep).chosen == 7

    def test_a_case_that_chooses_is_needed(self):
        with pytest.raises(InputError, match="at least one case"):
            recommend(made_up(0.2, is_held_out=[True]))

    def test_a_heat_map_shows_the_best_scale_of_every_place(self):
        candidates = list_candidates(GRID)
        brier = np.full((len(candidates), 2), 0.5)
        brier[1] = 0.4
        places = best_places(made_up(brier, is_held_out=[False, True]))
        assert places == {(4, 0.1): 1, (4, 0.3): 2, (8, 0.1): 4, (8, 0.3): 6}

    def test_values_at_the_edge_are_named(self):
        grid = SweepGrid(sizes_mm=(2, 4, 8), compactness=(0.1,), scales_mm=(1, 2), sigmas_mm=(1,))
        candidates = list_candidates(grid)
        brier = np.full((len(candidates), 2), 0.5)
        brier[2] = 0.1
        sweep = made_up(brier, is_held_out=[False, True], candidates=candidates)
        assert edges(sweep, recommend(sweep)) == ["scale_mm"]


def test_an_interval_needs_two_cases() -> None:
    assert estimate(np.array([0.5, math.nan])).n_cases == 1
    assert math.isnan(estimate(np.array([0.5])).low)
    assert math.isnan(estimate(np.array([])).mean)
    found = estimate(np.random.default_rng(0).normal(3, 1, 400))
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
