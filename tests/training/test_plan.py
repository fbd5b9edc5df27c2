"""Plans for data sets of known kinds, for what users wish, and for whatever else may come."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.image.preprocessing import ChannelSettings
from sfumato.model.network import build_network
from sfumato.training.fingerprint import ChannelFingerprint, Fingerprint
from sfumato.training.plan import LARGEST_BATCH, PATCH_ELEMENTS, Plan, make_plan

MRI = ChannelFingerprint(low=20, high=200, mean=100, deviation=30, minimum=0, zero_share=0.1)
SKULL_STRIPPED = MRI.model_copy(update={"zero_share": 0.8})
CT = ChannelFingerprint(low=-120, high=240, mean=80, deviation=60, minimum=-1024, zero_share=0.01)


def fingerprint(shape, spacing, channels=(MRI,), widths_mm=None, fine_spacing=None):
    return Fingerprint(
        n_cases=20,
        spacing_mm=spacing,
        fine_spacing_mm=fine_spacing or spacing,
        shape_mm=tuple(n * s for n, s in zip(shape, spacing, strict=True)),
        channels=channels,
        class_sizes_mm={"structure": 1000.0},
        class_widths_mm=widths_mm or {"structure": 10.0},
        class_cases={"structure": 20},
    )


HIPPOCAMPUS = fingerprint((35, 50, 36), (1.0,) * 3, widths_mm={"anterior": 12, "posterior": 11})
BRAIN_TUMOURS = fingerprint((240, 240, 155), (1.0,) * 3, (SKULL_STRIPPED,) * 4)
THICK_SLICES = fingerprint((512, 512, 30), (0.7, 0.7, 5.0))
ABDOMEN = fingerprint((512, 512, 100), (0.75, 0.75, 2.5), (CT,))
MICROSCOPY = fingerprint((512, 768), (1.0, 1.0))
TINY = fingerprint((12, 12), (1.0, 1.0))
STRIP = fingerprint((20, 300), (1.0, 1.0))
ROD = fingerprint((12, 12, 300), (1.0, 1.0, 5.0))
ALL = {
    "hippocampus": HIPPOCAMPUS,
    "brain tumours": BRAIN_TUMOURS,
    "thick slices": THICK_SLICES,
    "abdomen": ABDOMEN,
    "microscopy": MICROSCOPY,
    "tiny": TINY,
    "strip": STRIP,
    "rod": ROD,
}

every_data_set = pytest.mark.parametrize("data", ALL.values(), ids=ALL.keys())


def run_on_a_patch(plan, n_channels, batch_size=2):
    network = build_network(plan.network, n_channels, 3).train()
    batch = torch.zeros(batch_size, n_channels, *plan.patches.shape)
    with torch.no_grad():
        return network(batch).shape


def check(plan):
    """What must hold of every plan."""
    n_axes, shape = len(plan.preprocessing.spacing_mm), np.array(plan.patches.shape)
    total = np.prod(plan.network.strides, axis=0)
    assert (shape % total == 0).all()
    assert np.prod(shape // total) >= 2
    assert np.prod(shape) <= 2.5 * PATCH_ELEMENTS[n_axes]
    assert 2 <= plan.patches.batch_size <= LARGEST_BATCH
    element_mm = math.prod(plan.preprocessing.spacing_mm) ** (1 / n_axes)
    largest = 16 if n_axes == 2 else 8
    smallest = 5.9 if n_axes == 2 else 3.9
    assert smallest <= plan.superpixels.size_mm / element_mm <= 1.01 * largest
    assert len(plan.network.features) == len(plan.network.strides) == len(plan.network.kernels)


@every_data_set
def test_every_known_kind_of_data_gets_a_network_that_runs(data):
    plan = make_plan(data, Plan())
    check(plan)
    n_axes, n_channels = len(data.spacing_mm), len(data.channels)
    assert math.prod(plan.patches.shape) <= 1.35 * PATCH_ELEMENTS[n_axes]
    assert run_on_a_patch(plan, n_channels) == (2, 3, *plan.patches.shape)


def test_a_hippocampus_fits_into_one_patch():
    plan = make_plan(HIPPOCAMPUS, Plan())
    assert plan.preprocessing.spacing_mm == (1, 1, 1)
    assert plan.patches.shape == (40, 56, 40)
    assert plan.patches.batch_size == 2
    assert plan.network.strides == ((1, 1, 1), *[(2, 2, 2)] * 3)
    assert plan.network.kernels == ((3, 3, 3),) * 4
    assert plan.network.features == (16, 32, 64, 128)
    assert plan.augmentation.mirror_axes == (0,)
    assert plan.superpixels.size_mm == 4
    assert plan.preprocessing.channels == (ChannelSettings(normalization="case"),)


def test_a_head_is_cut_into_cubes_and_its_stripped_skull_left_out():
    plan = make_plan(BRAIN_TUMOURS, Plan())
    assert plan.patches.shape == (56, 56, 56)
    assert plan.preprocessing.channels == (ChannelSettings(ignore_zero=True),) * 4


def test_thick_slices_are_flat_boxes_whose_height_is_halved_late():
    plan = make_plan(THICK_SLICES, Plan())
    assert plan.patches.shape == (96, 96, 16)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert plan.network.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_hounsfield_units_are_scaled_alike_in_every_image():
    (channel,) = make_plan(ABDOMEN, Plan()).preprocessing.channels
    assert channel == ChannelSettings(
        normalization="dataset", low=-120, high=240, mean=80, deviation=60
    )


def test_an_empty_range_of_hounsfield_units_is_no_division_by_zero():
    flat = CT.model_copy(update={"low": 40, "high": 40, "mean": 40, "deviation": 0})
    plan = make_plan(fingerprint((64, 64, 64), (1.0,) * 3, (flat,)), Plan())
    assert plan.preprocessing.channels[0].deviation > 0


def test_flat_images_are_mirrored_both_ways():
    plan = make_plan(MICROSCOPY, Plan())
    assert plan.patches.shape == (256, 256)
    assert plan.patches.batch_size == 4
    assert plan.augmentation.mirror_axes == (0, 1)


def test_a_tiny_image_still_gets_three_levels_and_no_endless_batch():
    plan = make_plan(TINY, Plan())
    assert plan.patches.shape == (12, 12)
    assert plan.network.strides == ((1, 1), (2, 2), (1, 1))
    assert plan.patches.batch_size == LARGEST_BATCH


def test_an_axis_that_is_small_already_is_not_waited_for():
    strip = make_plan(STRIP, Plan()).network
    assert np.prod(strip.strides, axis=0).tolist() == [4, 32]
    assert strip.kernels == ((3, 3),) * 6
    rod = make_plan(ROD, Plan()).network
    assert rod.strides[:3] == ((1, 1, 1), (2, 2, 1), (1, 1, 2))
    assert rod.kernels[:3] == ((3, 3, 1), (3, 3, 3), (3, 3, 3))


def test_slices_much_thicker_than_wide_take_the_finer_tenth_of_spacings():
    thick = fingerprint((512, 512, 30), (0.7, 0.7, 5.0), fine_spacing=(0.5, 0.5, 3.0))
    assert make_plan(thick, Plan()).preprocessing.spacing_mm == (0.7, 0.7, 3.0)
    alike = fingerprint((512, 512, 30), (1.0, 1.0, 3.0), fine_spacing=(0.5, 0.5, 1.0))
    assert make_plan(alike, Plan()).preprocessing.spacing_mm == (1.0, 1.0, 3.0)


def test_superpixels_are_a_quarter_as_wide_as_the_narrowest_structure():
    widths = {"wide": 100.0, "narrow": 24.0, "absent": 0.0}
    plan = make_plan(fingerprint((64, 64, 64), (1.0,) * 3, widths_mm=widths), Plan())
    assert plan.superpixels.size_mm == 6
    nothing = make_plan(fingerprint((64, 64), (2.0, 2.0), widths_mm={"absent": 0.0}), Plan())
    assert nothing.superpixels.size_mm == 12


WISHES = [
    {"preprocessing": {"spacing_mm": (2.0, 1.0, 3.0)}},
    {"preprocessing": {"channels": (ChannelSettings(low=-1),)}},
    {"superpixels": {"size_mm": 2.0, "compactness": 0.3}},
    {"patches": {"shape": (32, 16, 24), "batch_size": 1, "foreground_fraction": 0.9}},
    {"patches": {"shape": (4, 4, 4)}},
    {"network": {"features": (2, 4, 6)}},
    {"network": {"features": (2, 2, 2, 2, 2, 2)}},
    {"network": {"strides": ((1, 1, 1), (2, 2, 1), (2, 4, 1))}},
    {"network": {"kernels": ((1, 3, 3), (3, 3, 3), (5, 3, 3))}},
    {"network": {"features": (2, 3, 4), "strides": ((1, 1, 1), (3, 1, 1), (1, 1, 1))}},
    {"augmentation": {"mirror_axes": (), "rotation_degrees": 90}},
    {"augmentation": {"mirror_axes": (2, 0)}},
]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_wishes_are_kept_and_the_rest_fits_them(wish):
    plan = make_plan(HIPPOCAMPUS, Plan(**wish))
    for group, values in wish.items():
        for name, value in values.items():
            assert getattr(getattr(plan, group), name) == value
    small = plan.network.model_copy(update={"features": (2,) * len(plan.network.strides)})
    plan = plan.model_copy(update={"network": small})
    assert run_on_a_patch(plan, 1) == (2, 3, *plan.patches.shape)


def test_a_plan_that_is_complete_is_left_as_it_is():
    for data in ALL.values():
        plan = make_plan(data, Plan())
        assert make_plan(data, plan) == plan


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        (
            {"preprocessing": {"spacing_mm": (1.0, 1.0)}},
            "preprocessing.spacing_mm must be 3 positive numbers, got [1.0, 1.0]",
        ),
        (
            {"preprocessing": {"spacing_mm": (1.0, 0.0, 1.0)}},
            "preprocessing.spacing_mm must be 3 positive numbers, got [1.0, 0.0, 1.0]",
        ),
        (
            {"preprocessing": {"channels": (ChannelSettings(),) * 2}},
            "preprocessing.channels must have 1 entries, one a channel of the images, got 2",
        ),
        ({"patches": {"shape": (16, 16)}}, "patches.shape must be 3 numbers, got [16, 16]"),
        (
            {"patches": {"shape": (30, 32, 32)}},
            "patches.shape must divide by the network's strides [4, 8, 8], got [30, 32, 32];"
            " try [32, 32, 32]",
        ),
        ({"patches": {"shape": (0, 32, 32)}}, "patches.shape must divide by"),
        ({"patches": {"shape": (-8, 32, 32)}}, "patches.shape must divide by"),
        (
            {"patches": {"shape": (1, 1, 1)}},
            "a patch of [1, 1, 1] elements leaves a single one on the network's coarsest level;"
            " make patches.shape larger, or network.strides smaller",
        ),
        (
            {"patches": {"shape": (8,) * 3}, "network": {"strides": ((1,) * 3, *[(4, 2, 8)] * 2)}},
            "network.kernels must be odd, and strides at most one more than the kernel,",
        ),
        (
            {"patches": {"shape": (8,) * 3}, "network": {"strides": ((1,) * 3, *[(2,) * 3] * 3)}},
            "a patch of [8, 8, 8] elements leaves a single one",
        ),
        (
            {"network": {"strides": ((1, 1), (2, 2), (2, 2))}},
            "network.strides and kernels must have 3 numbers on every level, got ((1, 1), (2, 2)",
        ),
        (
            {"network": {"strides": ((1, 1, 1), (2, 2), (2, 2, 2))}},
            "network.strides and kernels must have 3 numbers on every level",
        ),
        (
            {"network": {"kernels": ((3, 3),) * 4}},
            "network.strides and kernels must have 3 numbers on every level",
        ),
        (
            {"network": {"features": (8, 16)}},
            "network.features, strides and kernels must have one entry for each of at least 3",
        ),
        (
            {"network": {"features": (8, 16, 32), "kernels": ((3, 3, 3),) * 4}},
            "network.features, strides and kernels must have one entry for each of at least 3",
        ),
        (
            {"augmentation": {"mirror_axes": (3,)}},
            "augmentation.mirror_axes must be different axes out of 0 to 2, got [3]",
        ),
        ({"augmentation": {"mirror_axes": (-1,)}}, "augmentation.mirror_axes must be different"),
        ({"augmentation": {"mirror_axes": (0, 0)}}, "augmentation.mirror_axes must be different"),
    ],
    ids=str,
)
def test_a_wish_that_does_not_fit_is_told_in_one_line(wish, complaint):
    with pytest.raises(InputError) as caught:
        make_plan(HIPPOCAMPUS, Plan(**wish))
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def proposed_shape(shape):
    """Return a patch's shape if it is accepted, or what the error proposes."""
    try:
        return make_plan(THICK_SLICES, Plan(patches={"shape": shape})).patches.shape
    except InputError as error:
        message = str(error)
    if "leaves a single one" in message:
        return shape
    return tuple(map(int, re.search(r"try \[(.*)\]", message)[1].split(",")))


@given(st.tuples(*[st.integers(1, 200)] * 3))
def test_the_patch_that_an_error_proposes_is_accepted(shape):
    proposed = proposed_shape(shape)
    if proposed != shape:
        assert proposed_shape(proposed) == proposed


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 3).flatmap(
        lambda n: st.tuples(
            st.tuples(*[st.integers(1, 600)] * n),
            st.tuples(*[st.floats(0.05, 10)] * n),
        )
    ),
    st.floats(0, 1e4),
)
def test_whatever_the_data_the_network_takes_the_patch(grid, width_mm):
    shape, spacing = grid
    if math.prod(shape) == 1:
        shape = (2, *shape[1:])
    plan = make_plan(fingerprint(shape, spacing, widths_mm={"a": width_mm}), Plan())
    check(plan)
    # Few features: the grid is what is tried, and it does not depend on them.
    small = plan.network.model_copy(update={"features": (1,) * len(plan.network.strides)})
    plan = plan.model_copy(update={"network": small})
    assert run_on_a_patch(plan, 1) == (2, 3, *plan.patches.shape)
