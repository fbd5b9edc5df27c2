"""Split conformal intervals: how often they hold the truth, and when there are none."""

import math

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.metrics.conformal import conformal_quantile, volume_error


def test_the_quantile_counts_the_new_case_too():
    errors = [float(i) for i in range(1, 20)]
    assert conformal_quantile(errors, 0.9) == 18
    assert conformal_quantile(errors[::-1], 0.5) == 10
    assert conformal_quantile(errors, 0.95) == 19


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_too_few_errors_tell_nothing(level, fewest):
    errors = [1.0] * fewest
    assert conformal_quantile(errors, level) == 1
    assert math.isnan(conformal_quantile(errors[1:], level))


@pytest.mark.parametrize("level", [0, 1, 90, -0.1])
def test_a_level_is_between_0_and_1(level):
    with pytest.raises(InputError, match="level must be between 0 and 1"):
        conformal_quantile([1.0], level)


@pytest.mark.parametrize("n_cases", [9, 20, 52])
@pytest.mark.parametrize("kind", ["even", "heavy"])
def test_new_cases_are_covered_as_often_as_said(n_cases, kind):
    rng = np.random.default_rng(n_cases)
    draw = rng.exponential if kind == "even" else lambda size: rng.standard_cauchy(size) ** 2
    errors = draw(size=(4000, n_cases + 1)).tolist()
    is_covered = [one[-1] <= conformal_quantile(one[:-1], 0.9) for one in errors]
    assert 0.9 - 0.015 <= np.mean(is_covered) <= 0.9 + 1 / (n_cases + 1) + 0.015


def test_an_error_is_counted_in_volumes_in_doubt():
    assert volume_error(130, 100, 19, 1) == volume_error(70, 100, 19, 1) == 1.5
    assert volume_error(0, 0, 0, 2) == 0
    assert volume_error(4, 0, 0, 2) == 2
