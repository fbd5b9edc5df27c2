import math

import numpy as np
import pytest

from sfumato.errors import CaseError
from sfumato.evaluation.scores import CALIBRATION_METRICS, METRICS, score_case
from sfumato.labels.classes import ClassList
from sfumato.metrics.calibration import expected_calibration_error

CLASSES = ClassList(names=("background", "core", "rim"), values=(0, 1, 2))
UNIT = (1.0, 1.0)


def nested():
    reference = np.zeros((16, 16), np.uint8)
    reference[4:12, 4:12] = 2
    reference[6:10, 6:10] = 1
    return reference


def one_hot(label):
    return np.stack([label == index for index in range(3)]).astype(np.float32)


def test_a_segmentation_equal_to_the_reference_has_the_best_scores():
    score = score_case(nested(), nested(), UNIT, CLASSES, one_hot(nested()), case_id="a")
    best = {"dice": 1, "hd95_mm": 0, "assd_mm": 0, "nsd_1mm": 1, "precision": 1, "recall": 1}
    assert score.id == "a"
    assert score.classes == {name: {**best, "volume_error": 0} for name in ("core", "rim")}
    least = math.log(1 + 2 / 255)  # No class is taken to be impossible.
    assert score.overall == {
        name: pytest.approx(least, rel=1e-4) if name == "cross_entropy" else 0
        for name in CALIBRATION_METRICS
    }


def test_each_class_is_scored_against_its_own_mask():
    segmentation = nested()
    segmentation[segmentation == 1] = 2
    score = score_case(nested(), segmentation, UNIT, CLASSES)
    assert score.classes["core"]["recall"] == 0
    assert score.classes["core"]["nsd_1mm"] == 0
    assert math.isnan(score.classes["core"]["precision"])
    assert math.isnan(score.classes["core"]["hd95_mm"])
    assert score.classes["rim"]["recall"] == 1
    assert score.classes["rim"]["volume_error"] == pytest.approx(16 / 48)


def test_every_metric_is_there_in_order_and_calibration_is_undefined_without_probabilities():
    score = score_case(nested(), nested(), UNIT, CLASSES)
    assert tuple(score.classes["core"]) == METRICS
    assert tuple(score.overall) == CALIBRATION_METRICS
    assert all(math.isnan(value) for value in score.overall.values())
    assert score.curves == {}


def test_distances_are_in_mm():
    moved = np.roll(nested(), 2, axis=0)
    near = score_case(nested(), moved, (1.0, 1.0), CLASSES).classes["rim"]["hd95_mm"]
    far = score_case(nested(), moved, (3.0, 3.0), CLASSES).classes["rim"]["hd95_mm"]
    assert far == 3 * near


def test_the_boundary_band_leaves_out_what_is_easy():
    # Right and sure everywhere but for the pixels along the boundaries.
    probability = one_hot(nested()) * 0.4 + 0.2
    probability[:, :1] = one_hot(nested())[:, :1]
    score = score_case(nested(), nested(), UNIT, CLASSES, probability)
    assert score.overall["ece_boundary"] == pytest.approx(0.4)
    assert 0 < score.overall["ece"] < 0.4
    assert score.overall["brier_boundary"] > score.overall["brier"]
    for metric, region in (("ece", "image"), ("ece_boundary", "boundary")):
        assert expected_calibration_error(score.curves[region]) == score.overall[metric]


def test_an_image_without_structures_has_no_boundary_to_be_calibrated_at():
    nothing = np.zeros((4, 4), np.uint8)
    score = score_case(nothing, nothing, UNIT, CLASSES, one_hot(nothing))
    assert score.overall["ece"] == score.overall["brier"] == 0
    assert math.isnan(score.overall["ece_boundary"])
    assert math.isnan(score.overall["brier_boundary"])
    assert all(math.isnan(value) for value in score.classes["core"].values())


def test_a_volume_is_scored_like_an_image():
    volume = np.stack([nested()] * 5)
    score = score_case(volume, volume, (3.0, 1.0, 1.0), CLASSES, one_hot(volume))
    assert score.classes["rim"]["dice"] == score.classes["rim"]["nsd_1mm"] == 1
    assert score.overall["ece_boundary"] == 0


@pytest.mark.parametrize(
    ("segmentation", "probability", "message"),
    [
        (np.zeros((16, 15), np.uint8), None, r"case 'p01': the segmentation has shape \(16, 15\)"),
        (np.full((16, 16), 3, np.uint8), None, "segmentation holds class 3.*end at 2"),
        (nested(), one_hot(nested())[:2], r"probability has shape \(2, 16, 16\), but 3 classes"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_case_named(segmentation, probability, message):
    with pytest.raises(CaseError, match=message):
        score_case(nested(), segmentation, UNIT, CLASSES, probability, case_id="p01")
