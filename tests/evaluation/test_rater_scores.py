"""How well a model agrees with several people who drew the same image."""

import math

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.evaluation.rater_scores import ONE_RATER, RATERS_METRICS, score_raters
from sfumato.evaluation.scores import CaseScore
from sfumato.evaluation.summary import check_class_names, summarise
from sfumato.labels.annotators import raters_mean
from sfumato.labels.classes import ClassList
from sfumato.labels.softening import one_hot

CLASSES = ClassList(names=("background", "core"), values=(0, 1))
FIRST = np.array([[1, 1, 0, 0]], np.uint8)
SECOND = np.array([[1, 1, 1, 0]], np.uint8)


def test_against_every_rater_and_against_their_mean():
    found = score_raters([FIRST, SECOND], FIRST, one_hot(FIRST, 2), CLASSES)
    assert found["dice_rater_1"] == 1
    assert found["dice_rater_2"] == pytest.approx(0.8)
    assert found["dice_raters"] == pytest.approx(0.9)
    # Shares of the raters are 1, 1, 1/2, 0 and probabilities 1, 1, 0, 0.
    assert found["soft_dice_raters"] == pytest.approx(2 * 2 / (2.5 + 2))
    assert found["brier_raters"] == pytest.approx(2 * 0.5**2 / 4)
    assert found["brier_rater_1"] == 0
    assert found["brier_rater_2"] == pytest.approx(2 / 4)
    surprise = math.log(256 / 1), math.log(256 / 255)
    assert found["cross_entropy_rater_2"] == pytest.approx((surprise[0] + 3 * surprise[1]) / 4)
    assert found["cross_entropy_raters"] == pytest.approx(
        (0.5 * surprise[0] + 3.5 * surprise[1]) / 4
    )


def test_the_raters_mean_itself_is_perfect():
    mean = raters_mean([FIRST, SECOND], 2)
    found = score_raters([FIRST, SECOND], FIRST, mean, CLASSES)
    assert (found["soft_dice_raters"], found["brier_raters"]) == (1, 0)


def test_without_probabilities_only_dice_is_defined():
    found = score_raters([FIRST, SECOND], FIRST, None, CLASSES)
    defined = {name for name, value in found.items() if not math.isnan(value)}
    assert defined == {"dice_raters", "dice_rater_1", "dice_rater_2"}


def test_one_rater_is_no_matter_for_this():
    assert score_raters([FIRST], FIRST, None, CLASSES) == {}


def test_cases_with_fewer_raters_are_counted_as_undefined():
    scores = [
        CaseScore(
            id=str(n),
            classes={"core": dict.fromkeys(("dice", "hd95_mm", "assd_mm", "nsd_1mm", "precision",
                                            "recall", "volume_error"), 0.5)},
            overall=score_raters([FIRST, SECOND][:n], FIRST, one_hot(FIRST, 2), CLASSES),
        )
        for n in (1, 2)
    ]  # fmt: skip
    found = summarise(scores, CLASSES)
    assert found.summary["mean"]["dice_rater_2"] == pytest.approx(0.8)
    assert found.undefined["mean"]["dice_rater_2"] == 1
    assert set(RATERS_METRICS) < set(found.summary["mean"])


@pytest.mark.parametrize("name", ["dice_raters", "brier_rater_12", "cross_entropy"])
def test_a_class_cannot_be_named_like_a_metric(name):
    with pytest.raises(InputError, match="rename it"):
        check_class_names(ClassList(names=("background", name), values=(0, 1)))


def test_metrics_of_one_rater_are_told_by_their_names():
    assert ONE_RATER.fullmatch("cross_entropy_rater_12")[2] == "12"
    assert not ONE_RATER.fullmatch("cross_entropy_raters")
