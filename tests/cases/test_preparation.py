"""From a case to its prepared self: the model's grid, the soft label, the intensities."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.cases.case import Case
from sfumato.cases.preparation import (
    MAX_POSITIONS,
    PreparationSettings,
    prepare_case,
)
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.grid import model_grid
from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.image.quantise import quantise
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.softening import one_hot, soften_image_label
from sfumato.labels.superpixels import SuperpixelSettings, scale_to_levels

FROM_BEHIND = np.array([[0.0, 0, 2, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""The first axis runs to posterior, the second to superior, the third to the right, in 2 mm."""


def make_settings(spacing=(1.0, 1.0), method="superpixel", n_channels=1, n_classes=3):
    return PreparationSettings(
        preprocessing=PreprocessingSettings(
            spacing_mm=spacing, channels=(ChannelSettings(),) * n_channels
        ),
        superpixels=SuperpixelSettings(size_mm=3.0),
        softening=SofteningSettings(method=method),
        n_classes=n_classes,
    )


def make_case(shape=(12, 14), geometry=None, n_channels=1):
    """Draw two squares of different brightness, with noise, so that superpixels miss borders."""
    rng = np.random.default_rng(0)
    label = np.zeros(shape, np.uint8)
    label[2:7, 3:9] = 1
    label[7:10, 3:9] = 2
    image = label + rng.normal(0, 0.7, (n_channels, *shape))
    return Case(
        id="p01",
        image=image.astype(np.float32),
        geometry=geometry or Geometry.from_spacing(shape, (1.0,) * len(shape)),
        label=label,
        rater_labels=(label,),
    )


def test_image_and_label_come_to_the_models_grid_together():
    case = make_case((12, 14, 4), Geometry(shape=(12, 14, 4), affine=FROM_BEHIND))
    placed = prepare_case(case, make_settings((2.0, 1.0, 1.0)))
    np.testing.assert_array_equal(placed.hard_label, case.label.transpose(2, 0, 1)[:, ::-1])
    ours, theirs = placed.image[0], case.image[0].transpose(2, 0, 1)[:, ::-1]
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert placed.geometry.spacing == (2, 1, 1)
    finer = prepare_case(case, make_settings((1.0, 1.0, 1.0)))
    assert finer.image.shape == (1, 8, 12, 14)
    np.testing.assert_array_equal(finer.hard_label, placed.hard_label.repeat(2, axis=0))


def test_the_grid_must_be_decided_and_of_the_images_dimension():
    open_settings = make_settings().model_copy(update={"preprocessing": PreprocessingSettings()})
    with pytest.raises(InputError, match="preprocessing must be complete; let the plan fill it"):
        prepare_case(make_case(), open_settings)
    with pytest.raises(CaseError) as caught:
        prepare_case(make_case(), make_settings((1.0, 1.0, 1.0)))
    assert str(caught.value) == "case 'p01': it is 2-D, but the model works on 3-D images"


def test_resampling_does_not_change_the_scale_around_a_stripped_skull():
    ball = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0) < 8
    rng = np.random.default_rng(0)
    image = np.where(ball, 100 + rng.normal(0, 10, ball.shape), 0).astype(np.float32)
    case = Case(
        id="ball",
        image=image[None],
        geometry=Geometry.from_spacing(ball.shape, (1.0,) * 3),
        label=ball.astype(np.uint8),
    )
    stripped = (ChannelSettings(ignore_zero=True),)
    for spacing in (1.0, 0.8):
        settings = make_settings((spacing,) * 3, method="none", n_classes=2)
        settings = settings.model_copy(
            update={
                "preprocessing": PreprocessingSettings(spacing_mm=(spacing,) * 3, channels=stripped)
            }
        )
        prepared = prepare_case(case, settings)
        assert abs(prepared.image[0][prepared.hard_label == 1].mean()) < 0.05
        corner = prepared.image[0, :4, :4, :4]
        np.testing.assert_allclose(corner, 0, atol=1e-3)


def test_a_hard_label_stays_hard_to_the_bit():
    prepared = prepare_case(make_case(), make_settings(method="none"))
    np.testing.assert_array_equal(prepared.hard_label, make_case().label)
    for k in range(3):
        expected = 255 * (prepared.hard_label == k)
        np.testing.assert_array_equal(prepared.soft_label[k], expected)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8)])
def test_the_label_is_softened_on_the_models_grid(spacing):
    settings, case = make_settings(spacing), make_case()
    prepared = prepare_case(case, settings)
    grid = model_grid(case.geometry, spacing)
    label = grid.label_to_model(case.label, 3)
    image = grid.image_to_model(case.image)
    expected = soften(
        image, label, grid.target.spacing, 3, settings.softening, settings.superpixels
    )
    np.testing.assert_array_equal(prepared.hard_label, label)
    assert np.abs(prepared.soft_label / 255 - expected).max() <= 1.5 / 255 + 1e-6
    assert (prepared.soft_label.sum(axis=0, dtype=int) == 255).all()
    np.testing.assert_array_equal(prepared.soft_label.argmax(axis=0), prepared.hard_label)
    assert ((prepared.soft_label > 0) & (prepared.soft_label < 255)).any()


@pytest.mark.parametrize("when", ["every_epoch", "every_patch"])
def test_what_is_drawn_anew_is_prepared_as_levels_of_the_images_own_intensities(when):
    settings, case = make_settings((0.5, 1.0)), make_case()
    drawn_anew = settings.model_copy(update={"softening": SofteningSettings(when=when)})
    prepared, once = prepare_case(case, drawn_anew), prepare_case(case, settings)
    assert prepared.soft_label is None
    assert once.levels is None
    grid = model_grid(case.geometry, (0.5, 1.0))
    soft_label = soften_image_label(
        prepared.levels, prepared.hard_label, (0.5, 1.0), 3, settings.superpixels, is_scaled=True
    )
    np.testing.assert_array_equal(quantise(soft_label), once.soft_label)
    np.testing.assert_array_equal(
        prepared.levels, scale_to_levels(grid.image_to_model(case.image), settings.superpixels)
    )
    with pytest.raises(CaseError, match=r"case 'p01': .*class"):
        prepare_case(
            case,
            make_settings(n_classes=2).model_copy(update={"softening": drawn_anew.softening}),
        )


def test_levels_keep_the_outline_of_a_stripped_skull():
    image = np.zeros((1, 16, 16), np.float32)
    image[:, 4:12, 4:12] = 100 + np.random.default_rng(0).normal(0, 10, (8, 8))
    case = Case(
        id="stripped",
        image=image,
        geometry=Geometry.from_spacing((16, 16), (1.0, 1.0)),
        label=(image[0] > 0).astype(np.uint8),
    )
    settings = make_settings(n_classes=2).model_copy(
        update={
            "preprocessing": PreprocessingSettings(
                spacing_mm=(1.0, 1.0), channels=(ChannelSettings(ignore_zero=True),)
            ),
            "softening": SofteningSettings(when="every_patch"),
        }
    )
    prepared = prepare_case(case, settings)
    inside = prepared.hard_label == 1
    assert prepared.levels[0][inside].min() > 2000
    assert prepared.levels[0][~inside].max() == 0
    assert abs(prepared.image[0][inside].mean()) < 0.05  # where the background is, too


def test_intensities_are_normalised():
    prepared = prepare_case(make_case(n_channels=2), make_settings(n_channels=2))
    assert prepared.image.dtype == np.float32
    np.testing.assert_allclose(prepared.image.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.image.std(axis=(1, 2)), 1, atol=1e-5)


def test_positions_are_where_each_structure_is():
    prepared = prepare_case(make_case(), make_settings(n_classes=4))
    assert len(prepared.positions) == 3
    for k, positions in enumerate(prepared.positions, start=1):
        np.testing.assert_array_equal(positions, np.argwhere(prepared.hard_label == k))
    assert prepared.positions[2].shape == (0, 2)


def test_of_a_large_structure_some_positions_are_kept_from_all_over_it():
    label = np.ones((400, 300), np.uint8)
    label[0] = 0
    case = Case(
        id="large",
        image=np.zeros((1, 400, 300), np.float32),
        geometry=Geometry.from_spacing((400, 300), (1.0, 1.0)),
        label=label,
    )
    (positions,) = prepare_case(case, make_settings(method="none", n_classes=2)).positions
    assert MAX_POSITIONS <= len(positions) < 2 * MAX_POSITIONS
    assert label[tuple(positions.T)].all()
    np.testing.assert_allclose(positions.mean(axis=0), (200, 149.5), atol=1)


def test_a_case_that_cannot_be_prepared_is_named():
    without_label = Case(**{**vars(make_case()), "label": None})
    with pytest.raises(CaseError, match="case 'p01': it has no label, so it cannot be used for"):
        prepare_case(without_label, make_settings())
    with pytest.raises(CaseError, match="case 'p01': the image must have 1 channel, as in"):
        prepare_case(make_case(n_channels=2), make_settings())
    with pytest.raises(CaseError, match=r"case 'p01': .*class"):
        prepare_case(make_case(), make_settings(n_classes=2))
    open_channels = make_settings().model_copy(
        update={"preprocessing": PreprocessingSettings(spacing_mm=(1.0, 1.0))}
    )
    with pytest.raises(InputError, match="preprocessing must be complete"):
        prepare_case(make_case(), open_channels)


def test_preparing_changes_nothing_that_was_handed_in():
    case = make_case()
    case.image.flags.writeable = case.label.flags.writeable = False
    prepare_case(case, make_settings())
    prepare_case(case, make_settings((0.7, 1.1)))


def test_what_every_rater_drew_comes_to_the_models_grid():
    case = make_case((12, 14, 4), Geometry(shape=(12, 14, 4), affine=FROM_BEHIND))
    other = np.roll(case.label, 1, axis=0)
    case = replace(case, rater_labels=(case.label, other, other))
    prepared = prepare_case(case, make_settings((1.0, 1.0, 1.0), "raters"))
    grid = model_grid(case.geometry, (1.0, 1.0, 1.0))
    first, second = (grid.label_to_model(label, 3) for label in (case.label, other))
    expected = (one_hot(first, 3) + 2 * one_hot(second, 3)) / 3
    np.testing.assert_allclose(prepared.soft_label / 255, expected, atol=1 / 255)
    np.testing.assert_array_equal(prepared.hard_label, first)
    alone = prepare_case(replace(case, rater_labels=()), make_settings((1.0, 1.0, 1.0), "raters"))
    np.testing.assert_array_equal(alone.soft_label, 255 * one_hot(first, 3))
