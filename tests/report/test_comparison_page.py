"""The page on an experiment: verdicts, figures, and what spoilt labels cost."""

import numpy as np
import pytest
from tests.report.conftest import HOSTILE, Outline

from sfumato.evaluation.experiment import summarise_experiment
from sfumato.evaluation.runs import Condition, RunScores
from sfumato.evaluation.scores import CALIBRATION_METRICS
from sfumato.evaluation.spoilt import SpoiltSummary
from sfumato.metrics.calibration import reliability_curve
from sfumato.report.comparison_curves import LearningCurve
from sfumato.report.comparison_page import ExperimentPictures, comparison_page
from sfumato.report.comparison_words import degradation_sentences, headline, verdict_sentences

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd_1mm", *CALIBRATION_METRICS)
TEN, ALL = Condition(train_cases=10), Condition()
SPOILT = Condition(noise="erode:1mm")


def scores(softener, condition, seed, lift=0.0, n_cases=6):
    rng = np.random.default_rng(seed)
    cases = {}
    for i in range(n_cases):
        base = 0.5 + 0.05 * i + rng.normal(0, 0.002)
        of_class = {metric: base + lift * (metric == "dice") for metric in METRICS}
        cases[f"p{i}"] = {"mean": of_class, "core": of_class, HOSTILE: of_class}
    return RunScores(softener=softener, condition=condition, fold="0/5", seed=seed, cases=cases)


def experiment(lifts, conditions=(ALL,), n_seeds=3):
    """Summarise made-up models: `lifts` is what each kind of label adds to Dice, by condition."""
    runs = [
        scores(softener, condition, seed, lift)
        for (softener, condition), lift in lifts.items()
        for seed in range(n_seeds)
    ]
    softeners = list(dict.fromkeys(softener for softener, _ in lifts))
    return summarise_experiment(runs, softeners, conditions, ("core", HOSTILE))


def page_of(summary, **more):
    learning = {
        c: [LearningCurve(softener=s, steps=[1, 2], minutes=[1, 2], dice=[0.5, 0.6])
            for s in summary.softeners]
        for c in summary.conditions
    }  # fmt: skip
    probability = np.array([[0.8, 0.2], [0.2, 0.8]], np.float32)
    curve = reliability_curve(probability, np.array([0, 1], np.uint8))
    pictures = ExperimentPictures(
        learning=learning,
        reliability={s: {"whole image": curve} for s in summary.softeners},
        cases=[],
        most_cases=80,
        **more,
    )
    return comparison_page(summary, pictures, title="Labels compared", notes=[HOSTILE])


def test_better_is_said_only_where_the_interval_excludes_0():
    summary = experiment({("none", ALL): 0, ("soft", ALL): 0.1, ("same", ALL): 0})
    better, same = verdict_sentences(summary)
    assert better.startswith("Trained on all cases, soft against none: Dice (+0.1000, ")
    assert ") better; " in better
    assert same == "Trained on all cases, same against none: nothing distinguishable."
    assert headline(summary) == (
        "Against none: soft: better in Dice; same: nothing distinguishable."
    )


def test_worse_is_said_as_plainly():
    summary = experiment({("none", ALL): 0, ("soft", ALL): -0.1})
    assert headline(summary) == "Against none: soft: worse in Dice."


def test_a_single_model_of_each_kind_tells_nothing():
    summary = experiment({("none", ALL): 0, ("soft", ALL): 0.1}, n_seeds=1)
    assert "without a second seed" in verdict_sentences(summary)[0]
    assert headline(summary).startswith("One model of each kind tells nothing")


def test_with_several_conditions_the_headline_names_the_one_it_is_about():
    lifts = {("none", TEN): 0, ("soft", TEN): 0.1, ("none", ALL): 0, ("soft", ALL): -0.1}
    summary = experiment(lifts, conditions=(TEN, ALL))
    assert headline(summary) == "Against none, trained on all cases: soft: worse in Dice."
    assert len(verdict_sentences(summary)) == 2


def test_a_kind_that_suffers_less_from_spoilt_labels_is_named():
    lifts = {("none", ALL): 0, ("none", SPOILT): -0.3, ("soft", ALL): 0, ("soft", SPOILT): -0.1}
    summary = experiment(lifts, conditions=(ALL, SPOILT))
    (sentence,) = degradation_sentences(summary)
    assert sentence.startswith(
        "Trained on all cases, soft loses by erode:1mm, beside none: less than none in Dice"
        " (+0.2000, "
    )
    assert (
        "labels spoilt by erode:1mm, soft against none: Dice (" in (verdict_sentences(summary)[1])
    )
    spoilt = SpoiltSummary(
        n_labels=8, dice={"core": 0.75, HOSTILE: float("nan")}, n_vanished={"core": 1, HOSTILE: 0}
    )
    page = page_of(summary, spoilt={"erode:1mm": spoilt})
    outline = Outline(page)
    assert not outline.open
    for words in ("How far labels were spoilt", "vanished in 1 label", "What spoilt labels cost",
                  "less than none"):  # fmt: skip
        assert words in page


@pytest.mark.parametrize("conditions", [(ALL,), (TEN, ALL), (ALL, SPOILT)])
def test_the_page_is_closed_and_escaped(conditions):
    lifts = {(s, c): 0.1 * (s == "soft") for s in ("none", "soft") for c in conditions}
    page = page_of(experiment(lifts, conditions=conditions))
    outline = Outline(page)
    assert not outline.open
    assert "alert(1)</script>" not in page
    assert all(source.startswith("data:") for source in outline.values("src"))
    assert ("With more training cases" in page) == (TEN in conditions)
    assert ("What spoilt labels cost" in page) == (SPOILT in conditions)


def test_where_nothing_can_be_compared_the_page_says_so():
    summary = experiment({("none", ALL): 0}, n_seeds=2)
    assert headline(summary) == "No kind of label could be compared with none."
    assert not Outline(page_of(summary)).open
