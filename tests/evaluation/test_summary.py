import csv
import json
import math

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.evaluation.scores import CALIBRATION_METRICS, METRICS, CaseScore, score_case
from sfumato.evaluation.summary import summarise, write_metrics
from sfumato.labels.classes import ClassList
from sfumato.metrics.calibration import expected_calibration_error, merge

CLASSES = ClassList(names=("background", "core", "rim"), values=(0, 1, 2))


def case_score(case_id, core, rim):
    def metrics(dice):
        return {**dict.fromkeys(METRICS, 0.5), "dice": dice}

    undefined = dict.fromkeys(CALIBRATION_METRICS, math.nan)
    classes = {"core": metrics(core), "rim": metrics(rim)}
    return CaseScore(id=case_id, classes=classes, overall=undefined)


def real_score(seed):
    rng = np.random.default_rng(seed)
    reference = np.zeros((12, 14), np.uint8)
    reference[3:9, 3:11], reference[5:7, 5:8] = 1, 2
    weights = rng.exponential(size=(3, 12, 14)) + 2 * (reference == np.arange(3)[:, None, None])
    probability = (weights / weights.sum(axis=0)).astype(np.float32)
    segmentation = probability.argmax(axis=0).astype(np.uint8)
    return score_case(reference, segmentation, (1.0, 2.0), CLASSES, probability, f"case{seed}")


@pytest.fixture
def evaluation():
    return summarise([real_score(seed) for seed in range(4)], CLASSES)


class TestSummary:
    def test_means_are_over_cases_and_then_over_classes(self):
        summary = summarise([case_score("a", 0.8, 0.2), case_score("b", 0.6, 0.4)], CLASSES).summary
        assert summary["core"]["dice"] == pytest.approx(0.7)
        assert summary["rim"]["dice"] == pytest.approx(0.3)
        assert summary["mean"]["dice"] == pytest.approx(0.5)

    def test_undefined_numbers_are_left_out_and_counted(self):
        scores = [case_score("a", 0.8, math.nan), case_score("b", math.nan, math.nan)]
        evaluation = summarise(scores, CLASSES)
        assert evaluation.summary["core"]["dice"] == 0.8
        assert math.isnan(evaluation.summary["rim"]["dice"])
        assert evaluation.summary["mean"]["dice"] == 0.8
        assert evaluation.undefined["core"]["dice"] == 1
        assert evaluation.undefined["rim"]["dice"] == 2
        assert evaluation.undefined["mean"]["dice"] == 1
        assert evaluation.undefined["core"]["recall"] == 0
        assert evaluation.undefined["mean"]["ece"] == 2

    def test_calibration_errors_are_of_all_elements_pooled_and_brier_scores_of_cases(self):
        scores = [real_score(seed) for seed in range(4)]
        mean = summarise(scores, CLASSES).summary["mean"]
        for metric, region in (("ece", "image"), ("ece_boundary", "boundary")):
            pooled = merge([score.curves[region] for score in scores])
            assert mean[metric] == pytest.approx(expected_calibration_error(pooled))
        brier = np.mean([score.overall["brier"] for score in scores])
        assert mean["brier"] == pytest.approx(brier)

    def test_cases_without_probabilities_leave_the_calibration_of_the_others(self):
        evaluation = summarise([case_score("a", 1.0, 1.0), real_score(1)], CLASSES)
        assert evaluation.summary["mean"]["ece"] == pytest.approx(real_score(1).overall["ece"])
        assert evaluation.undefined["mean"]["ece"] == 1

    def test_nothing_to_summarise_is_refused(self):
        with pytest.raises(InputError, match="at least one case"):
            summarise([], CLASSES)

    def test_a_class_with_the_name_of_a_summary_row_is_refused(self):
        classes = ClassList(names=("background", "mean"), values=(0, 1))
        with pytest.raises(InputError, match=r"'mean'.*rename"):
            summarise([case_score("a", 1.0, 1.0)], classes)


class TestIntervals:
    def test_they_agree_with_the_normal_approximation(self):
        values = np.random.default_rng(0).uniform(size=200)
        scores = [case_score(str(i), float(v), 0.5) for i, v in enumerate(values)]
        low, high = summarise(scores, CLASSES).intervals["core"]["dice"]
        half_width = 1.96 * values.std() / math.sqrt(values.size)
        assert low == pytest.approx(values.mean() - half_width, abs=0.006)
        assert high == pytest.approx(values.mean() + half_width, abs=0.006)

    def test_they_hold_the_number_they_belong_to_and_are_the_same_every_time(self, evaluation):
        again = summarise(evaluation.cases, CLASSES)
        assert evaluation.intervals == again.intervals
        for row, metrics in evaluation.intervals.items():
            for metric, (low, high) in metrics.items():
                assert low <= evaluation.summary[row][metric] <= high

    def test_equal_cases_have_no_spread(self):
        scores = [case_score(str(i), 0.5, 0.5) for i in range(5)]
        assert summarise(scores, CLASSES).intervals["mean"]["dice"] == (0.5, 0.5)

    def test_one_case_says_nothing_about_spread(self):
        low, high = summarise([case_score("a", 0.5, 0.5)], CLASSES).intervals["core"]["dice"]
        assert math.isnan(low)
        assert math.isnan(high)

    def test_cases_where_a_number_is_undefined_do_not_spoil_the_interval(self):
        scores = [case_score("a", 0.4, 0.5), case_score("b", 0.6, 0.5)]
        scores.append(case_score("c", math.nan, 0.5))
        assert summarise(scores, CLASSES).intervals["core"]["dice"] == pytest.approx((0.4, 0.6))


class TestFiles:
    def test_json_has_null_for_what_is_undefined_and_every_case_by_class(self, tmp_path):
        scores = [case_score("a", 0.8, math.nan), case_score("b", 0.6, math.nan)]
        write_metrics(summarise(scores, CLASSES), tmp_path)
        document = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
        assert document["n_cases"] == 2
        assert document["summary"]["core"]["dice"] == pytest.approx(0.7)
        assert document["summary"]["rim"]["dice"] is None
        assert document["undefined"]["rim"]["dice"] == 2
        assert document["intervals"]["rim"]["dice"] == [None, None]
        assert document["reliability"] == {}
        first = document["cases"][0]
        assert first["case"] == "a"
        assert first["core"]["dice"] == 0.8
        assert first["rim"]["dice"] is None
        assert first["mean"]["dice"] == 0.8
        assert first["ece"] is None
        assert set(first) == {"case", "core", "rim", "mean", *CALIBRATION_METRICS}

    def test_json_keeps_every_number_and_the_pooled_curves(self, evaluation, tmp_path):
        write_metrics(evaluation, tmp_path)
        document = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
        assert document["summary"] == evaluation.summary
        assert document["undefined"] == evaluation.undefined
        for row, metrics in evaluation.intervals.items():
            assert document["intervals"][row] == {m: list(ends) for m, ends in metrics.items()}
        for entry, score in zip(document["cases"], evaluation.cases, strict=True):
            assert {name: entry[name] for name in score.classes} == score.classes
            assert {metric: entry[metric] for metric in score.overall} == score.overall
        for region, curve in evaluation.reliability.items():
            for name, values in document["reliability"][region].items():
                numbers = [math.nan if value is None else value for value in values]
                np.testing.assert_array_equal(numbers, getattr(curve, name))

    def test_the_table_has_a_row_for_each_number_of_each_case(self, tmp_path):
        scores = [case_score("a", 0.8, math.nan), real_score(1)]
        write_metrics(summarise(scores, CLASSES), tmp_path)
        with (tmp_path / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2 * (2 * len(METRICS) + len(CALIBRATION_METRICS))
        assert rows[0] == {"case": "a", "class": "core", "metric": "dice", "value": "0.8"}
        values = {(row["case"], row["class"], row["metric"]): row["value"] for row in rows}
        assert values["a", "rim", "dice"] == ""
        assert float(values["case1", "all", "brier"]) == scores[1].overall["brier"]
