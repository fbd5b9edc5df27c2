import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from sfumato.errors import InputError
from sfumato.evaluation.comparison import (
    PairedComparison,
    compare_in_pairs,
    holm,
    rank_biserial,
    seed_deviation,
    signed_rank_p,
)

N_COMPARISONS = 200
MOST_FALSE = 0.07

DESIGNS = {
    "three seeds": (3, (52,)),
    "two seeds": (2, (52,)),
    "two seeds, few cases": (2, (8,)),
    "three seeds, five folds": (3, (11, 11, 10, 10, 10)),
    "one seed, five folds": (1, (52, 52, 52, 52, 52)),
}
# Standard deviations over cases, over models (seeds), and of what is left, in per cent of Dice.
SPREADS = {
    "seeds decide": (0.3, 1.0, 0.5),
    "cases decide": (2.0, 0.1, 0.5),
    "both matter": (1.0, 0.3, 1.5),
    "nothing but noise": (0.0, 0.0, 1.0),
}


def simulate(
    design: str, spread: str, rng: np.random.Generator, effect: float = 0.0
) -> PairedComparison:
    """Train a hundred models and evaluate them, as far as numbers go.

    Cases differ in how hard they are (far more than models do) and in how much they gain;
    models in how well they came out.
    """
    n_seeds, fold_sizes = DESIGNS[design]
    by_case, by_model, rest = (part / 100 for part in SPREADS[spread])
    baseline, candidate = [], []
    for n_cases in fold_sizes:
        hardness = 0.85 - 0.03 * rng.gamma(2.0, 1.0, n_cases)
        gain = effect + by_case * rng.standard_normal(n_cases)
        tables = [
            hardness
            + by_model / math.sqrt(2) * rng.standard_normal((n_seeds, 1))
            + rest / math.sqrt(2) * rng.standard_normal((n_seeds, n_cases))
            for _ in range(2)
        ]
        baseline.append(tables[0])
        candidate.append(tables[1] + gain)
    return compare_in_pairs(baseline, candidate, is_higher_better=True)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("spread", SPREADS)
def test_of_200_comparisons_of_a_thing_with_itself_at_most_7_percent_are_flagged(
    design: str, spread: str
) -> None:
    rng = np.random.default_rng(2008)
    verdicts = [simulate(design, spread, rng).verdict for _ in range(N_COMPARISONS)]
    n_flagged = sum(verdict != "not distinguishable" for verdict in verdicts)
    assert n_flagged <= MOST_FALSE * N_COMPARISONS


@pytest.mark.parametrize("spread", SPREADS)
def test_the_smallest_effect_is_found_in_four_of_five_attempts(spread: str) -> None:
    rng = np.random.default_rng(7)
    usual = np.median(
        [simulate("three seeds, five folds", spread, rng).smallest_effect for _ in range(40)]
    )
    found = [
        simulate("three seeds, five folds", spread, rng, effect=float(usual)).verdict
        for _ in range(N_COMPARISONS)
    ]
    assert "worse" not in found
    assert np.mean([verdict == "better" for verdict in found]) >= 0.75  # 0.8 but for chance


def test_a_bootstrap_of_seeds_and_cases_alone_would_flag_far_more() -> None:
    rng = np.random.default_rng(1)
    n_flagged = 0
    for _ in range(N_COMPARISONS):
        table = 0.01 * rng.standard_normal((3, 1)) + 0.005 * rng.standard_normal((3, 52))
        seeds, cases = rng.integers(3, size=(400, 3, 1)), rng.integers(52, size=(400, 1, 52))
        low, high = np.percentile(table[seeds, cases].mean(axis=(1, 2)), (2.5, 97.5))
        n_flagged += low > 0 or high < 0
    assert n_flagged > 2 * MOST_FALSE * N_COMPARISONS


def test_with_equal_seeds_the_interval_is_that_of_the_cases() -> None:
    cases = np.random.default_rng(0).normal(0.01, 0.02, 60)
    tables = np.stack([cases, cases])
    found = compare_in_pairs([np.zeros_like(tables)], [tables], is_higher_better=True)
    expected = ttest_1samp(cases, 0).confidence_interval()
    assert found.low == pytest.approx(expected.low, abs=5e-4)
    assert found.high == pytest.approx(expected.high, abs=5e-4)


def test_with_equal_cases_the_interval_is_that_of_the_seeds() -> None:
    seeds = np.array([0.01, 0.03, 0.05])
    tables = np.repeat(seeds[:, None], 10, axis=1)
    found = compare_in_pairs([np.zeros_like(tables)], [tables], is_higher_better=True)
    expected = ttest_1samp(seeds, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.seed_deviation == pytest.approx(0.02)
    assert found.verdict == "not distinguishable"


def test_a_smaller_number_is_better_where_the_metric_says_so() -> None:
    table = np.array([[1.0, 1.2, 1.4], [1.1, 1.2, 1.3]])
    found = compare_in_pairs([table], [table - 0.5], is_higher_better=False)
    assert found.difference == pytest.approx(-0.5)
    assert found.verdict == "better"
    assert (found.share_better, found.effect_size) == (1.0, 1.0)
    assert compare_in_pairs([table], [table + 0.5], is_higher_better=False).verdict == "worse"


def test_undefined_cases_are_counted_and_left_out_on_both_sides() -> None:
    before = np.array([[0.5, np.nan, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8]])
    after = np.array([[0.6, 0.7, 0.8, 0.9], [0.6, 0.7, np.nan, 0.9]])
    found = compare_in_pairs([before], [after], is_higher_better=True)
    assert (found.n_cases, found.n_undefined) == (2, 2)
    assert found.difference == pytest.approx(0.1)


def test_where_nothing_is_defined_nothing_is_said() -> None:
    table = np.full((2, 3), np.nan)
    found = compare_in_pairs([table], [table], is_higher_better=True)
    assert found.verdict == "unknown"
    assert (found.n_cases, found.n_undefined) == (0, 3)
    assert all(math.isnan(x) for x in (found.difference, found.p_value, found.effect_size))


def test_a_single_pair_of_models_cannot_tell_what_a_seed_does() -> None:
    table = np.linspace(0.5, 0.9, 20)[None]
    found = compare_in_pairs([table], [table + 0.1], is_higher_better=True)
    assert found.verdict == "unknown"
    assert found.difference == pytest.approx(0.1)
    assert math.isnan(found.seed_deviation)


def test_the_same_results_are_not_distinguishable() -> None:
    table = np.random.default_rng(0).random((3, 12))
    found = compare_in_pairs([table], [table], is_higher_better=True)
    assert found.verdict == "not distinguishable"
    assert (found.low, found.high, found.p_value, found.effect_size) == (0, 0, 1, 0)


def test_cases_count_alike_however_folds_are_sized() -> None:
    folds = [np.full((2, 3), 1.0), np.full((2, 1), 5.0)]
    zeros = [np.zeros_like(table) for table in folds]
    found = compare_in_pairs(zeros, folds, is_higher_better=True)
    assert found.difference == 2
    assert found.n_models == 4


def test_other_seeds_or_cases_cannot_be_paired() -> None:
    with pytest.raises(InputError, match="same folds, seeds and cases"):
        compare_in_pairs([np.zeros((2, 3))], [np.zeros((3, 3))], is_higher_better=True)
    with pytest.raises(InputError, match="same folds"):
        compare_in_pairs([], [], is_higher_better=True)


def test_holm_never_orders_p_values_anew() -> None:
    p_values = np.random.default_rng(0).random(30)
    corrected = holm(p_values.tolist())
    assert np.all(np.diff(np.array(corrected)[np.argsort(p_values)]) >= 0)
    assert np.all(np.array(corrected) >= p_values)


def test_rank_biserial_is_one_where_all_improve() -> None:
    assert rank_biserial(np.array([0.1, 0.2, 0.0])) == 1
    assert rank_biserial(np.array([-0.1, -0.2])) == -1
    assert signed_rank_p(np.zeros(4)) == 1


def test_seed_deviation_pools_folds() -> None:
    folds = [np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[5.0], [5.0]])]
    assert seed_deviation(folds) == pytest.approx(1.0)
