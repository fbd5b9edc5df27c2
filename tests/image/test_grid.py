"""Bringing images to the model's grid and probabilities back, in patient millimetres."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from sfumato.image.geometry import Geometry
from sfumato.image.grid import model_grid

ORIENTATIONS = [
    (axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
UNIT = (1.0, 1.0, 1.0)

every_orientation = pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)


def oriented(shape, axes, signs, spacing=UNIT, shear=0.0):
    """Lay axis i of an array along ± patient axis axes[i]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for i, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, i] = sign * spacing[i]
    affine[:3, :3] = (np.eye(3) + shear * np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]])) @ (
        affine[:3, :3]
    )
    affine[:3, 3] = (-12, 34, 5)
    return Geometry(shape=shape, affine=affine)


def places(geometry):
    """Return where every element's centre lies, in millimetres; axis first."""
    indices = np.indices(geometry.shape).reshape(len(geometry.shape), -1)
    place = geometry.affine[:-1, :-1] @ indices + geometry.affine[:-1, -1:]
    return place.reshape(len(geometry.shape), *geometry.shape)


def box_corners(geometry):
    """Return the corners of the field of view, half an element outside the outermost centres."""
    corners = np.array(list(product(*[(-0.5, n - 0.5) for n in geometry.shape])))
    placed = corners @ geometry.affine[:-1, :-1].T + geometry.affine[:-1, -1]
    return placed[np.lexsort(placed.round(6).T)]


def to_source(grid, probability, axis=0, n_slices=2):
    """Bring probabilities back a few slices at a time, as they come when an image is segmented."""
    parts = np.array_split(probability, -(-probability.shape[1 + axis] // n_slices), 1 + axis)
    result = np.full((len(probability), *grid.source.shape), np.nan, np.float32)
    for place, part in grid.slabs_to_source(parts, axis):
        assert np.isnan(result[:, *place]).all()
        result[:, *place] = part
    return result


def random_image(shape, n_channels=1):
    return np.random.default_rng(0).normal(size=(n_channels, *shape)).astype(np.float32)


placements = st.tuples(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from(list(permutations(range(3)))),
    st.tuples(*[st.sampled_from((1, -1))] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.floats(-0.3, 0.3),
)
spacings = st.tuples(*[st.floats(0.3, 6)] * 3)


@every_orientation
def test_a_volume_in_any_orientation_comes_to_that_of_the_patient(axes, signs):
    image = random_image((3, 4, 5))
    geometry = oriented((3, 4, 5), axes, signs)
    grid = model_grid(geometry, UNIT)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(image[0], geometry.affine))
    np.testing.assert_array_equal(grid.image_to_model(image)[0], canonical.get_fdata())
    np.testing.assert_array_equal(grid.target.affine, canonical.affine)
    assert grid.target.shape == canonical.shape


@every_orientation
def test_there_and_back_is_where_one_was(axes, signs):
    probability = random_image((3, 4, 5), n_channels=2)
    grid = model_grid(oriented((3, 4, 5), axes, signs), UNIT)
    back = to_source(grid, grid.image_to_model(probability))
    np.testing.assert_array_equal(back, probability)


@every_orientation
def test_the_model_spacing_counts_along_the_patient_axes(axes, signs):
    along_source = (1.0, 2.0, 3.0)
    geometry = oriented((6, 6, 6), axes, signs, along_source)
    along_patient = tuple(along_source[axes.index(k)] for k in range(3))
    unchanged = model_grid(geometry, along_patient)
    assert unchanged.target.shape == (6, 6, 6)
    finer = model_grid(geometry, (0.5 * along_patient[0], *along_patient[1:]))
    assert finer.target.shape == (12, 6, 6)


@pytest.mark.parametrize("shape", [(6, 8), (1, 3)])
def test_a_flat_image_keeps_its_axes(shape):
    # A flat image has no left and right, whatever its affine says.
    affine = np.array([[0.0, -1, 7], [1, 0, 8], [0, 0, 1]])
    image = random_image(shape)
    grid = model_grid(Geometry(shape=shape, affine=affine), (1.0, 1.0))
    np.testing.assert_array_equal(grid.image_to_model(image), image)
    np.testing.assert_array_equal(grid.target.affine, affine)
    np.testing.assert_array_equal(to_source(grid, image), image)


def test_an_image_stretched_twofold_keeps_its_place():
    geometry = Geometry.from_spacing((2, 3), (2.0, 1.0))
    grid = model_grid(geometry, (1.0, 1.0))
    assert grid.target.shape == (4, 3)
    # The first element, 2 mm wide and centred on 0, becomes two, centred on ∓ 0.5 mm.
    np.testing.assert_array_equal(grid.target.affine, [[1, 0, -0.5], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_labels_of_twice_the_resolution_repeat_every_element(n):
    label = np.random.default_rng(n).integers(0, 4, (n, 5, 6)).astype(np.uint8)
    grid = model_grid(Geometry.from_spacing(label.shape, (2.0, 2.0, 2.0)), UNIT)
    expected = label.repeat(2, axis=0)
    # Along one axis at a time: where several axes meet, neighbours outvote a corner.
    one_axis = model_grid(Geometry.from_spacing(label.shape, (2.0, 1.0, 1.0)), UNIT)
    np.testing.assert_array_equal(one_axis.label_to_model(label, 4), expected)
    assert grid.label_to_model(label, 4).shape == (2 * n, 10, 12)


def test_probabilities_come_back_linearly():
    grid = model_grid(Geometry.from_spacing((2, 1), (2.0, 1.0)), (1.0, 1.0))
    inside = np.array([[0.0], [0.2], [0.6], [1.0]], np.float32)
    back = to_source(grid, np.stack([1 - inside, inside]))
    np.testing.assert_allclose(back[1], [[0.1], [0.8]], atol=1e-7)


def test_spacings_that_differ_by_rounding_are_the_same():
    geometry = Geometry.from_spacing((300, 4), (1.0004, 1.0))
    image = random_image(geometry.shape)
    grid = model_grid(geometry, (1.0, 1.0))
    np.testing.assert_array_equal(grid.image_to_model(image), image)
    assert grid.target.spacing == pytest.approx((1.0004, 1.0))


def test_nothing_that_is_handed_in_is_changed():
    image = random_image((3, 4, 5))
    image.flags.writeable = False
    for spacing in (UNIT, (0.7, 2.0, 1.0)):
        grid = model_grid(oriented((3, 4, 5), (2, 0, 1), (-1, 1, 1)), spacing)
        grid.image_to_model(image)
        resized = grid.image_to_model(image)
        resized.flags.writeable = False
        to_source(grid, resized)


@given(placements, spacings)
def test_both_grids_cover_the_same_box(placement, spacing):
    geometry = oriented(*placement)
    target = model_grid(geometry, spacing).target
    np.testing.assert_allclose(box_corners(target), box_corners(geometry), atol=1e-6)


@given(placements, spacings)
def test_the_model_grid_is_as_fine_as_asked_for_to_half_an_element(placement, spacing):
    target = model_grid(oriented(*placement), spacing).target
    for n, step_mm, wanted_mm in zip(target.shape, target.spacing, spacing, strict=True):
        assert n == 1 or abs(n * step_mm / wanted_mm - n) <= 0.5 + 1e-9


@given(placements)
def test_an_element_keeps_its_place_in_the_patient(placement):
    geometry = oriented(*placement)
    grid = model_grid(geometry, tuple(geometry.spacing[a] for a in model_grid(geometry, UNIT).axes))
    for place, moved in zip(places(geometry), places(grid.target), strict=True):
        carried = grid.image_to_model(place[None].astype(np.float32))[0]
        np.testing.assert_allclose(carried, moved, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.6, 2)] * 3),
    st.floats(-0.3, 0.3),
    st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_a_ramp_in_the_patient_stays_that_ramp(orientation, spacing, shear, slope):
    axes, signs = orientation
    geometry = oriented((26, 24, 28), axes, signs, (1.0, 1.2, 0.9), shear)
    grid = model_grid(geometry, spacing)
    ramp = np.tensordot(slope, places(geometry), 1)[None].astype(np.float32)
    on_model = np.tensordot(slope, places(grid.target), 1)
    # Near its border an image is repeated, so the ramp levels off there; splines ring a little.
    inner = tuple(slice(n // 3, n - n // 3) for n in grid.target.shape)
    np.testing.assert_allclose(grid.image_to_model(ramp)[0][inner], on_model[inner], atol=2e-3)
    source_inner = tuple(slice(n // 4, n - n // 4) for n in geometry.shape)
    back = to_source(grid, on_model[None].astype(np.float32))[0]
    np.testing.assert_allclose(back[source_inner], ramp[0][source_inner], atol=1e-3)


@settings(deadline=None)
@given(placements, spacings, st.integers(2, 5))
def test_probabilities_stay_probabilities(placement, spacing, n_classes):
    geometry = oriented(*placement)
    grid = model_grid(geometry, spacing)
    weight = np.random.default_rng(0).random((n_classes, *grid.target.shape), np.float32)
    back = to_source(grid, weight / weight.sum(axis=0))
    assert back.shape == (n_classes, *geometry.shape)
    assert back.min() >= 0
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-6)


@settings(deadline=None)
@given(placements, spacings, st.integers(0, 3))
def test_a_label_of_one_class_stays_one(placement, spacing, index):
    geometry = oriented(*placement)
    label = np.full(geometry.shape, index, np.uint8)
    assert (model_grid(geometry, spacing).label_to_model(label, 4) == index).all()


@settings(deadline=None)
@given(
    arrays(np.uint8, (5, 4, 6), elements=st.sampled_from([0, 2])),
    st.sampled_from(ORIENTATIONS),
    spacings,
)
def test_resampling_invents_no_class(label, orientation, spacing):
    grid = model_grid(oriented(label.shape, *orientation), spacing)
    resampled = grid.label_to_model(label, 3)
    assert set(np.unique(resampled)) <= set(np.unique(label))
    assert resampled.shape == grid.target.shape


@settings(deadline=None)
@given(placements, spacings, st.integers(0, 2), st.integers(1, 5))
def test_parts_of_an_image_are_resampled_as_the_whole_is(placement, spacing, axis, n_slices):
    shape, axes, signs, own, shear = placement
    grid = model_grid(oriented(shape, axes, signs, own, shear), spacing)
    image = random_image(shape, n_channels=2)
    expected = image.transpose(0, *(1 + a for a in grid.axes))
    expected = expected[:, *(slice(None, None, -1 if f else 1) for f in grid.flipped)]
    zoom = [new / old for new, old in zip(grid.target.shape, expected.shape[1:], strict=True)]
    resampled = [
        ndimage.zoom(channel, zoom, order=3, mode="nearest", grid_mode=True) for channel in expected
    ]
    length = grid.target.shape[axis]
    parts = [
        grid.image_part_to_model(
            image, lambda part: part, axis, slice(i, min(i + n_slices, length))
        )
        for i in range(0, length, n_slices)
    ]
    np.testing.assert_allclose(np.concatenate(parts, 1 + axis), resampled, atol=2e-5)


@settings(deadline=None)
@given(placements, spacings, st.integers(0, 2), st.integers(1, 5))
def test_the_way_back_does_not_depend_on_how_it_is_cut(placement, spacing, axis, n_slices):
    shape, axes, signs, own, shear = placement
    grid = model_grid(oriented(shape, axes, signs, own, shear), spacing)
    probability = random_image(grid.target.shape, n_channels=2)
    whole = to_source(grid, probability, n_slices=1000)
    np.testing.assert_allclose(to_source(grid, probability, axis, n_slices), whole, atol=1e-5)
