"""What many trainings say together: averages, contrasts, and what spoilt labels cost."""

import math

import numpy as np
import pytest

from sfumato.evaluation.comparison import compare_in_pairs
from sfumato.evaluation.experiment import summarise_experiment
from sfumato.evaluation.runs import Condition, RunScores, align, aligned_tables, run_scores_of

ALL = Condition()
TEN = Condition(train_cases=10)
SPOILT = Condition(noise="erode:1mm")


def run(softener, values, condition=ALL, fold="0/2", seed=0, metric="dice"):
    """Make a model whose cases a, b, … scored these numbers."""
    names = [f"{fold}-{letter}" for letter in "abcdefgh"]
    cases = {
        name: {"mean": {metric: value}, "core": {metric: value}}
        for name, value in zip(names, values, strict=False)
    }
    return RunScores(softener=softener, condition=condition, fold=fold, seed=seed, cases=cases)


def summarise(runs, softeners=("none", "soft"), conditions=(ALL,), names=("core",)):
    return summarise_experiment(runs, softeners, conditions, names)


def test_averages_are_over_cases_each_averaged_over_seeds():
    runs = [
        run("none", [0.8, 0.6], seed=0),
        run("none", [0.6, None], seed=1),
        run("none", [0.1], fold="1/2"),
    ]
    average = summarise(runs).average("none", ALL, "mean", "dice")
    assert average.mean == pytest.approx((0.7 + 0.6 + 0.1) / 3)
    assert (average.n_models, average.n_undefined) == (3, 1)
    # Of the cases that both seeds have: 0.8 and 0.6.
    assert average.seed_deviation == pytest.approx(np.std([0.8, 0.6], ddof=1))


def test_models_are_compared_with_their_partners_only():
    runs = [
        run("none", [0.5, 0.5], seed=0),
        run("none", [0.9, 0.9], seed=1),
        run("soft", [0.6, 0.7], seed=0),
        run("soft", [0.1, 0.1], fold="1/2", seed=0),
    ]
    found = summarise(runs).contrast("soft", ALL, "mean", "dice").found
    assert found.difference == pytest.approx(0.15)
    assert (found.n_models, found.n_cases) == (1, 2)
    assert summarise(runs).case_changes["soft", ALL] == pytest.approx({"0/2-a": 0.1, "0/2-b": 0.2})


def test_conditions_are_kept_apart():
    runs = [
        run("none", [0.5, 0.5], TEN), run("soft", [0.6, 0.6], TEN),
        run("none", [0.8, 0.8]), run("soft", [0.7, 0.7]),
    ]  # fmt: skip
    summary = summarise(runs, conditions=(TEN, ALL))
    differences = [summary.contrast("soft", c, "mean", "dice").found.difference for c in (TEN, ALL)]
    assert differences == pytest.approx([0.1, -0.1])
    assert summary.main_condition == ALL
    assert summary.train_cases == (10, None)


def test_p_values_are_corrected_within_a_class():
    rng = np.random.default_rng(0)
    runs = []
    for softener in ("none", "soft", "other"):
        values = rng.random(8)
        runs += [run(softener, values + 0.1 * (softener == "soft"), seed=s) for s in (0, 1)]
    summary = summarise(runs, ("none", "soft", "other"))
    contrasts = [c for c in summary.contrasts if c.class_name == "mean" and c.metric == "dice"]
    assert len(contrasts) == 2
    for contrast in contrasts:
        assert contrast.corrected_p >= contrast.found.p_value


def test_a_kind_without_partners_has_averages_but_no_contrast():
    summary = summarise([run("none", [0.5]), run("soft", [0.6], fold="1/2")])
    assert summary.average("soft", ALL, "mean", "dice").mean == pytest.approx(0.6)
    assert summary.contrast("soft", ALL, "mean", "dice") is None
    assert summary.degradations == ()


def test_what_spoilt_labels_cost_is_told_for_each_kind_and_beside_the_baseline():
    clean, spoilt = [0.90, 0.80, 0.70], [0.60, 0.55, 0.41]
    runs = []
    for seed, lift in ((0, 0.0), (1, 0.01)):
        runs += [
            run("none", [v + lift for v in clean], ALL, seed=seed),
            run("none", [v + lift for v in spoilt], SPOILT, seed=seed),
            run("soft", [v + lift for v in clean], ALL, seed=seed),
            run("soft", [v + lift + 0.2 for v in spoilt], SPOILT, seed=seed),
        ]
    summary = summarise(runs, conditions=(ALL, SPOILT))
    assert {d.condition for d in summary.degradations} == {SPOILT}
    hard = summary.degradation("none", SPOILT, "mean", "dice")
    soft = summary.degradation("soft", SPOILT, "mean", "dice")
    assert hard.found.difference == pytest.approx(np.mean(spoilt) - np.mean(clean))
    assert hard.beside_baseline is None
    assert hard.found.verdict == "worse"
    assert soft.found.difference == pytest.approx(hard.found.difference + 0.2)
    assert soft.beside_baseline.difference == pytest.approx(0.2)
    assert soft.beside_baseline.verdict == "better"
    assert summary.main_condition == ALL
    assert summary.noises == ("none", "erode:1mm")


def test_where_a_smaller_number_is_better_suffering_less_is_a_negative_change():
    runs = []
    for seed in (0, 1):
        for condition, softener, base in (
            (ALL, "none", 1.0), (SPOILT, "none", 3.0), (ALL, "soft", 1.0), (SPOILT, "soft", 2.0),
        ):  # fmt: skip
            values = [base, base + 0.1, base + 0.3]
            runs.append(run(softener, values, condition, seed=seed, metric="hd95_mm"))
    summary = summarise(runs, conditions=(ALL, SPOILT))
    soft = summary.degradation("soft", SPOILT, "mean", "hd95_mm")
    assert soft.found.verdict == "worse"
    assert soft.beside_baseline.difference == pytest.approx(-1)
    assert soft.beside_baseline.verdict == "better"


def test_without_models_on_labels_as_drawn_nothing_is_said_of_degradation():
    runs = [run("none", [0.5, 0.6], SPOILT), run("soft", [0.5, 0.6], SPOILT)]
    summary = summarise(runs, conditions=(SPOILT,))
    assert summary.degradations == ()
    assert summary.main_condition == SPOILT


def test_arms_are_aligned_by_fold_seed_and_case():
    first = [run("none", [0.1, 0.2], seed=1), run("none", [0.3], seed=0), run("none", [1], seed=2)]
    second = [run("soft", [0.4], seed=0), run("soft", [0.5, 0.6, 0.7], seed=1)]
    aligned = align(first, second)
    assert [(a.seed, b.seed) for a, b in aligned] == [(0, 0), (1, 1)]
    (before,), (after,) = aligned_tables(aligned, "mean", "dice")
    np.testing.assert_array_equal(before, [[0.3, np.nan, np.nan], [0.1, 0.2, np.nan]])
    np.testing.assert_array_equal(after, [[0.4, np.nan, np.nan], [0.5, 0.6, 0.7]])
    assert compare_in_pairs([before], [after], is_higher_better=True).n_undefined == 2
    assert align(first, []) == []


def test_undefined_numbers_of_a_document_are_undefined():
    case = {"case": "a", "mean": {"dice": None}, "core": {"dice": 0.9}, "ece": 0.1}
    scores = RunScores(
        softener="none", condition=ALL, fold="0/2", seed=0, cases=run_scores_of({"cases": [case]})
    )
    assert math.isnan(scores.number("a", "mean", "dice"))
    assert math.isnan(scores.number("b", "mean", "dice"))
    assert scores.number("a", "mean", "ece") == 0.1
