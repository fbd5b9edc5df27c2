"""What is measured of a data set, on cases whose numbers are known."""

import numpy as np
import pytest

from sfumato.cases.case import Case
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.training.fingerprint import MAX_INTENSITIES, measure_fingerprint, structure_width

CLASSES = ClassList(names=("background", "core", "rim", "absent"), values=(0, 1, 2, 3))


def make_case(name="a", shape=(4, 5), spacing=(1.0, 1.0), n_core=2, n_channels=1, value=10.0):
    label = np.zeros(shape, np.uint8)
    label.ravel()[:n_core] = 1
    label.ravel()[-1] = 2
    image = np.zeros((n_channels, *shape), np.float32)
    image[:, label > 0] = value
    return Case(id=name, image=image, geometry=Geometry.from_spacing(shape, spacing), label=label)


def test_sizes_are_in_millimetres():
    fingerprint = measure_fingerprint([make_case(shape=(4, 5), spacing=(0.5, 2.0))], CLASSES)
    assert fingerprint.n_cases == 1
    assert fingerprint.spacing_mm == (0.5, 2.0)
    assert fingerprint.shape_mm == (2.0, 10.0)
    assert fingerprint.class_sizes_mm == {"core": 2.0, "rim": 1.0, "absent": 0.0}
    assert fingerprint.class_cases == {"core": 1, "rim": 1, "absent": 0}


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 2.0), (1.0, 1.0, 1.0), (1.0, 1.0, 2.0)])
def test_a_disc_or_ball_is_about_as_wide_as_its_diameter(spacing):
    radius_mm = 16.0
    place = [np.arange(-20, 20.5, step) for step in spacing]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*place, indexing="ij")))
    width_mm = structure_width(distance <= radius_mm, spacing)
    assert width_mm == pytest.approx(2 * radius_mm, rel=0.08)


def test_a_sheet_is_narrow_however_large_it_is():
    sheet = np.zeros((10, 100, 100), bool)
    sheet[4:6] = True
    assert structure_width(sheet, (1.0, 1.0, 1.0)) == pytest.approx(6 * 1.5)


def test_what_fills_the_image_is_as_wide_as_the_image():
    assert structure_width(np.ones((4, 8), bool), (3.0, 1.0)) == 12.0


def test_of_several_cases_the_median_counts():
    cases = [
        make_case("a", (4, 5), (1.0, 1.0), n_core=2),
        make_case("b", (4, 6), (2.0, 1.0), n_core=3),
        make_case("c", (10, 7), (9.0, 1.0), n_core=0),
    ]
    fingerprint = measure_fingerprint(cases, CLASSES)
    assert fingerprint.spacing_mm == (2.0, 1.0)
    assert fingerprint.fine_spacing_mm == pytest.approx((1.2, 1.0))
    assert fingerprint.shape_mm == (8.0, 6.0)
    # Cases that lack a structure do not make it smaller.
    assert fingerprint.class_sizes_mm["core"] == (2 * 1 + 3 * 2) / 2
    assert fingerprint.class_cases == {"core": 2, "rim": 3, "absent": 0}


def test_the_order_of_elements_in_a_file_does_not_matter():
    spacing, shape = (1.0, 0.5, 4.0), (6, 8, 5)
    canonical = make_case(shape=shape, spacing=spacing)
    expected = measure_fingerprint([canonical], CLASSES)
    for axes in ((0, 2, 1), (1, 2, 0), (2, 1, 0), (2, 0, 1)):
        affine = np.eye(4)
        affine[:, :3] = np.diag([*spacing, 1.0])[:, axes]
        stored = Case(
            id="turned",
            image=canonical.image.transpose(0, *(1 + a for a in axes)),
            geometry=Geometry(shape=tuple(shape[a] for a in axes), affine=affine),
            label=canonical.label.transpose(axes),
        )
        assert measure_fingerprint([stored], CLASSES) == expected


def test_intensities_are_those_within_the_structures():
    case = make_case(n_channels=2, n_core=9)
    case.image[0, case.label > 0] = np.arange(10)
    case.image[1] = -1000
    first, second = measure_fingerprint([case], CLASSES).channels
    assert first.mean == pytest.approx(4.5)
    assert first.deviation == pytest.approx(np.std(np.arange(10)))
    assert (first.low, first.high) == pytest.approx(np.percentile(np.arange(10), (0.5, 99.5)))
    assert first.minimum == 0
    assert first.zero_share == pytest.approx(11 / 20)
    assert (second.mean, second.minimum, second.zero_share) == (-1000, -1000, 0)


def test_an_image_without_structures_counts_as_a_whole():
    case = make_case(n_core=0)
    case.label[...] = 0
    case.image[...] = 3
    (channel,) = measure_fingerprint([case], CLASSES).channels
    assert (channel.low, channel.mean, channel.high) == (3, 3, 3)


def test_of_a_large_structure_intensities_from_all_over_are_looked_at():
    shape = (400, 400)
    label = np.ones(shape, np.uint8)
    ramp = np.linspace(0, 1, label.size, dtype=np.float32).reshape(1, *shape)
    case = Case(id="a", image=ramp, geometry=Geometry.from_spacing(shape, (1.0, 1.0)), label=label)
    assert label.size > 2 * MAX_INTENSITIES
    (channel,) = measure_fingerprint([case], CLASSES).channels
    assert channel.mean == pytest.approx(0.5, abs=1e-3)
    assert channel.high == pytest.approx(0.995, abs=1e-3)


def test_cases_that_do_not_fit_together_are_named():
    two_channels = make_case("b", n_channels=2)
    with pytest.raises(CaseError) as caught:
        measure_fingerprint([make_case("a"), two_channels], CLASSES)
    assert str(caught.value) == (
        "case 'b': it has 2 channels and 2 axes, but case 'a' has 1 and 2;"
        " all cases of a data set must be alike"
    )
    volume = make_case("c", (4, 5, 6), (1.0, 1.0, 1.0))
    with pytest.raises(CaseError, match="case 'c': it has 1 channels and 3 axes"):
        measure_fingerprint([make_case("a"), volume], CLASSES)


def test_a_case_without_a_label_is_named():
    case = Case(**{**vars(make_case("p7")), "label": None})
    with pytest.raises(CaseError, match="case 'p7': it has no label"):
        measure_fingerprint([case], CLASSES)


def test_no_case_is_refused():
    with pytest.raises(InputError, match="cases must hold at least one labelled case, got none"):
        measure_fingerprint([], CLASSES)
