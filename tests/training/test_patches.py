"""Patches: image, hard and soft label are cut alike, wherever and however turned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.cases.preparation import PreparedCase
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.quantise import quantise
from sfumato.labels.softening import one_hot
from sfumato.training.augmentation import AugmentationSettings, Placement, draw_matrix
from sfumato.training.patches import BatchSource, PatchSettings, cut_patch, draw_placement

STILL = AugmentationSettings(
    rotation_probability=0,
    scale_probability=0,
    mirror_axes=(),
    noise_probability=0,
    brightness_probability=0,
    contrast_probability=0,
    gamma_probability=0,
    low_resolution_probability=0,
)
WILD = AugmentationSettings(
    rotation_probability=0.8,
    rotation_degrees=180,
    scale_probability=0.8,
    scale_range=(0.3, 3.0),
    mirror_axes=(0, 1),
)
SPACING = (0.5, 0.7, 2.0)


def make_case(label, image=None, soft_label=None, spacing=None):
    label = np.asarray(label, np.uint8)
    n_classes = max(2, int(label.max()) + 1)
    return PreparedCase(
        id="a",
        image=label[None].astype(np.float32) if image is None else image,
        hard_label=label,
        soft_label=quantise(one_hot(label, n_classes) if soft_label is None else soft_label),
        positions=tuple(np.argwhere(label == k).astype(np.int32) for k in range(1, n_classes)),
        geometry=Geometry.from_spacing(label.shape, spacing or SPACING[: label.ndim]),
    )


def random_case(shape, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.random((n_classes, *shape), np.float32) ** 3 + np.float32(1e-3)
    soft_label = weight / weight.sum(axis=0)
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    return make_case(soft_label.argmax(axis=0), image, soft_label)


def place(case, centre, matrix=None, shape=None):
    n_axes = len(centre)
    placement = Placement(
        centre=np.array(centre, float), matrix=np.eye(n_axes) if matrix is None else matrix
    )
    return cut_patch(case, placement, shape or (5,) * n_axes)


def source(cases, seed=0, augmentation=STILL, **patches):
    settings = PatchSettings(**{"shape": (4, 6), "batch_size": 3, **patches})
    return BatchSource(cases=cases, patches=settings, augmentation=augmentation, seed=seed)


def test_a_straight_cut_is_a_slice():
    case = random_case((9, 10))
    patch = place(case, (4, 5.5), shape=(3, 4))  # first element 3 and 4
    where = (slice(3, 6), slice(4, 8))
    np.testing.assert_array_equal(patch.image, case.image[:, *where])
    np.testing.assert_array_equal(patch.hard_label, case.hard_label[where])
    np.testing.assert_array_equal(patch.soft_label, case.soft_label[:, *where] / np.float32(255))
    assert patch.image.dtype == patch.soft_label.dtype == np.float32


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_mirrored_cut_is_the_slice_mirrored(axes):
    case = random_case((6, 7, 8))
    matrix = np.eye(3)
    matrix[axes, axes] = -1
    centre, shape = (2, 3.5, 4), (3, 4, 5)
    plain, mirrored = place(case, centre, shape=shape), place(case, centre, matrix, shape)
    np.testing.assert_array_equal(mirrored.hard_label, np.flip(plain.hard_label, axes))
    channels = tuple(1 + a for a in axes)
    np.testing.assert_array_equal(mirrored.image, np.flip(plain.image, channels))
    np.testing.assert_array_equal(mirrored.soft_label, np.flip(plain.soft_label, channels))


def test_beyond_the_border_the_nearest_element_is_repeated():
    case = random_case((3, 4))
    for matrix in (np.eye(2), np.eye(2) * (1 + 1e-6)):  # along the grid, and a little turned
        patch = place(case, (1, 1.5), matrix, shape=(7, 8))
        for cut, whole in ((patch.image, case.image), (patch.soft_label, case.soft_label / 255)):
            expected = np.pad(whole, ((0, 0), (2, 2), (2, 2)), mode="edge")
            np.testing.assert_allclose(cut, expected, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quarter_turn_in_the_plane_of_even_spacing_is_that_of_numpy(sign):
    case = random_case((7, 7))
    matrix = np.array([[0.0, -sign], [sign, 0]])
    patch = place(case, (3, 3), matrix, shape=(7, 7))
    # Element (0, 0) of the patch, at offset (-3, -3), comes from offset (3 sign, -3 sign).
    np.testing.assert_array_equal(patch.hard_label, np.rot90(case.hard_label, -sign))
    expected = np.rot90(case.image, -sign, axes=(1, 2))
    np.testing.assert_allclose(patch.image, expected, atol=1e-5)


def test_a_quarter_turn_of_uneven_spacing_turns_millimetres():
    # Rows lie 2 mm apart and columns 1 mm: 4 mm along a row become 4 mm along a column.
    label = np.zeros((9, 17), np.uint8)
    label[4, 8:13] = 1
    case = make_case(label, spacing=(2.0, 1.0))
    in_mm = np.diag([2.0, 1.0])
    matrix = np.linalg.inv(in_mm) @ np.array([[0.0, -1], [1, 0]]) @ in_mm
    patch = place(case, (4, 8), matrix, shape=(9, 9))
    expected = np.zeros((9, 9), np.float32)
    expected[4:7, 3:6] = (0.5, 1, 0.5)  # 2 mm wide before, 2 mm wide after
    np.testing.assert_allclose(patch.image[0], expected, atol=1e-5)


@settings(deadline=None)
@given(st.integers(2, 3), st.integers(0, 2**31))
def test_a_ramp_stays_a_ramp_in_millimetres(n_axes, seed):
    rng = np.random.default_rng(seed)
    spacing, shape = SPACING[:n_axes], (24,) * n_axes
    slope = rng.normal(size=n_axes)
    elements_mm = np.indices(shape).T * np.array(spacing)
    ramp = (elements_mm @ slope).T.astype(np.float32)
    case = make_case(np.zeros(shape), ramp[None], spacing=spacing)
    matrix = draw_matrix(WILD.model_copy(update={"scale_range": (0.5, 1.5)}), spacing, rng)
    # Small enough a patch to stay inside however it is turned.
    patch = place(case, np.full(n_axes, 12.0), matrix, (3,) * n_axes)
    turn_mm = np.diag(spacing) @ matrix @ np.linalg.inv(np.diag(spacing))
    offsets_mm = (np.indices((3,) * n_axes).T - 1) * np.array(spacing)
    expected = (offsets_mm @ turn_mm.T + 12 * np.array(spacing)) @ slope
    reach = np.abs((np.indices((3,) * n_axes).T - 1) @ matrix.T).max()
    if reach < 11:
        np.testing.assert_allclose(patch.image[0], expected.T, atol=1e-3)


shapes = st.integers(2, 3).flatmap(
    lambda n: st.tuples(st.tuples(*[st.integers(1, 12)] * n), st.tuples(*[st.integers(1, 9)] * n))
)


@settings(deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans())
def test_whatever_the_placement_soft_labels_are_probabilities(sizes, seed, is_far):
    image_shape, shape = sizes
    case = random_case(image_shape)
    rng = np.random.default_rng(seed)
    placement = draw_placement(case, PatchSettings(shape=shape), WILD, rng)
    if is_far:
        placement = Placement(centre=placement.centre + 1000, matrix=placement.matrix)
    patch = cut_patch(case, placement, shape)
    assert patch.soft_label.shape == (3, *shape)
    assert patch.soft_label.min() >= 0
    np.testing.assert_allclose(patch.soft_label.sum(axis=0), 1, atol=1e-6)
    assert patch.hard_label.shape == shape
    assert patch.hard_label.dtype == np.uint8
    assert set(np.unique(patch.hard_label)) <= set(np.unique(case.hard_label))
    assert np.isfinite(patch.image).all()


@settings(deadline=None)
@given(shapes, st.integers(0, 2**31))
def test_image_hard_and_soft_label_move_together(sizes, seed):
    image_shape, shape = sizes
    rng = np.random.default_rng(seed)
    case = make_case(rng.integers(0, 2, image_shape))  # its image is its label
    placement = draw_placement(case, PatchSettings(shape=shape), WILD, rng)
    patch = cut_patch(case, placement, shape)
    np.testing.assert_allclose(patch.image[0], patch.soft_label[1], atol=1e-5)
    # The nearest element has at least 1 / 2 of the weight along each axis.
    own = np.take_along_axis(patch.soft_label, patch.hard_label[None].astype(int), 0)
    assert own.min() >= 0.5 ** len(shape) - 1e-4


def test_cutting_changes_nothing_of_the_case():
    case = random_case((8, 8))
    for array in (case.image, case.hard_label, case.soft_label):
        array.flags.writeable = False
    for seed in range(20):
        rng = np.random.default_rng(seed)
        patches = PatchSettings(shape=(5, 9))
        cut_patch(case, draw_placement(case, patches, WILD, rng), (5, 9))


@pytest.mark.parametrize("spacing", [(0.1, 0.3), (49.0, 0.7), (1.1, 3.3)])
def test_without_turns_no_element_is_interpolated(spacing):
    case = random_case((20, 20))
    case = make_case(case.hard_label, case.image, case.soft_label / np.float32(255), spacing)
    mirroring = STILL.model_copy(update={"mirror_axes": (0, 1)})
    known = set(case.image.ravel().tolist())
    for seed in range(10):
        rng = np.random.default_rng(seed)
        patches = PatchSettings(shape=(6, 6))
        patch = cut_patch(case, draw_placement(case, patches, mirroring, rng), (6, 6))
        assert set(patch.image.ravel().tolist()) <= known


def test_a_patch_on_a_structure_is_centred_on_it_where_it_can_be():
    label = np.zeros((20, 30), np.uint8)
    label[10, 12] = 1
    label[0, 29] = 2
    case = make_case(label)
    patches = PatchSettings(shape=(4, 6), foreground_fraction=1)
    seen = []
    for seed in range(200):
        placement = draw_placement(case, patches, STILL, np.random.default_rng(seed))
        patch = cut_patch(case, placement, (4, 6))
        seen.append(int(patch.hard_label.max()))
        # The second structure lies in a corner, and the patch stays within the image.
        row, column = ((2, 3), (0, 5))[seen[-1] - 1]
        assert patch.hard_label[row, column] == seen[-1]
        assert (patch.hard_label > 0).sum() == 1
    assert 65 <= seen.count(1) <= 135  # either class as often, however large


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5])
def test_as_many_patches_as_asked_for_are_centred_on_structures(fraction):
    label = np.zeros((100, 100), np.uint8)
    label[50, 50] = 1
    case = make_case(label)
    patches = PatchSettings(shape=(5, 5), foreground_fraction=fraction)
    centres = [
        draw_placement(case, patches, STILL, np.random.default_rng(seed)).centre
        for seed in range(400)
    ]
    n_centred = sum(tuple(centre) == (50, 50) for centre in centres)
    assert abs(n_centred - 400 * fraction) <= 38
    elsewhere = np.array([c for c in centres if tuple(c) != (50, 50)])
    assert elsewhere.min() >= 2
    assert elsewhere.max() <= 97
    np.testing.assert_allclose(elsewhere.mean(axis=0), 49.5, atol=6)


def test_a_case_without_structures_gives_patches_from_anywhere():
    case = make_case(np.zeros((20, 20)))
    patches = PatchSettings(shape=(4, 4), foreground_fraction=1)
    centres = [
        tuple(draw_placement(case, patches, STILL, np.random.default_rng(seed)).centre)
        for seed in range(50)
    ]
    assert len(set(centres)) > 20


@pytest.mark.parametrize(("n", "expected"), [(4, 1.5), (5, 2.0), (7, 3.0)])
def test_an_image_that_fits_into_the_patch_is_centred_in_it(n, expected):
    case = make_case(np.eye(n))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        centre = draw_placement(case, PatchSettings(shape=(8, 9)), STILL, rng).centre
        assert abs(centre[0] - expected) <= 0.5
        assert abs(centre[1] - expected) <= 0.5


def test_the_same_step_draws_the_same_batch_and_another_step_another():
    cases = [random_case((12, 12), seed=seed) for seed in range(3)]
    drawing = source(cases, augmentation=WILD)
    first, again, other = drawing.draw(7), drawing.draw(7), drawing.draw(8)
    for name in ("images", "hard_target", "soft_target"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert not torch.equal(source(cases, seed=1, augmentation=WILD).draw(7).images, first.images)


def test_a_batch_is_made_of_tensors_that_the_loss_takes():
    batch = source([random_case((12, 12))], augmentation=WILD).draw(0)
    assert (batch.images.dtype, batch.images.shape) == (torch.float32, (3, 2, 4, 6))
    assert (batch.hard_target.dtype, batch.hard_target.shape) == (torch.int64, (3, 4, 6))
    assert (batch.soft_target.dtype, batch.soft_target.shape) == (torch.float32, (3, 3, 4, 6))
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.soft_target, batch.soft_target)


def test_every_case_is_drawn_from():
    cases = [make_case(np.zeros((6, 6)), np.full((1, 6, 6), i, np.float32)) for i in range(4)]
    drawing = source(cases)
    drawn = torch.cat([drawing.draw(step).images[:, 0, 0, 0] for step in range(60)])
    counts = torch.bincount(drawn.long(), minlength=4)
    assert counts.min() >= 25  # 45 on average


def test_patch_settings_that_are_left_open_are_refused():
    for left_open in ({"shape": None}, {"batch_size": None}):
        with pytest.raises(InputError, match="patch settings must be complete"):
            source([random_case((12, 12))], **left_open).draw(0)


def test_processes_that_share_out_a_batch_draw_the_patches_of_the_whole():
    drawing = source([random_case((12, 12), seed=k) for k in range(4)], augmentation=WILD)
    whole = drawing.draw(5)
    shares = [drawing.draw(5, share=share) for share in (range(1), range(1, 3))]
    for name in ("images", "hard_target", "soft_target"):
        together = torch.cat([getattr(share, name) for share in shares])
        assert torch.equal(together, getattr(whole, name))


def test_a_case_that_gives_no_patch_is_named():
    damaged = replace(random_case((12, 12)), id="p07", soft_label=None)
    with pytest.raises(CaseError, match=r"case 'p07': no patch can be drawn .* delete prepared/"):
        source([damaged]).draw(0)
