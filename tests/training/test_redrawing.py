"""Soft labels drawn anew: at random, but the same whenever a step is drawn again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from sfumato.cases.preparation import PreparedCase
from sfumato.image.geometry import Geometry
from sfumato.image.quantise import quantise
from sfumato.labels.softeners import SofteningSettings
from sfumato.labels.softening import one_hot, soften_image_label
from sfumato.labels.superpixels import SuperpixelSettings, scale_to_levels
from sfumato.training import redrawing
from sfumato.training.augmentation import AugmentationSettings
from sfumato.training.patches import BatchSource, PatchSettings
from sfumato.training.redrawing import Redrawing

SUPERPIXELS = SuperpixelSettings(size_mm=5)
SHAPE = (20, 24)
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
    rotation_probability=0.8, rotation_degrees=180, scale_probability=0.8, mirror_axes=(0, 1)
)


def make_case(seed=0, shape=SHAPE):
    """Draw a blurred structure in noise, whose boundary superpixels are sure to miss."""
    rng = np.random.default_rng(seed)
    label = (gaussian_filter(rng.normal(size=shape), 3) > 0).astype(np.uint8)
    image = gaussian_filter(label + rng.normal(0, 0.5, shape), 1)[None].astype(np.float32)
    return PreparedCase(
        id=str(seed),
        image=image,
        hard_label=label,
        soft_label=quantise(soften_image_label(image, label, (1.0, 1.0), 2, SUPERPIXELS)),
        positions=(np.argwhere(label).astype(np.int32),),
        geometry=Geometry.from_spacing(shape, (1.0, 1.0)),
    )


def source(when, cases, *, augmentation=STILL, seed=0, shape=SHAPE, batch_size=2):
    if when != "once":
        cases = [
            replace(case, soft_label=None, levels=scale_to_levels(case.image, SUPERPIXELS))
            for case in cases
        ]
    return BatchSource(
        cases=cases,
        patches=PatchSettings(shape=shape, batch_size=batch_size),
        augmentation=augmentation,
        seed=seed,
        redrawing=Redrawing(
            softening=SofteningSettings(when=when), superpixels=SUPERPIXELS, n_classes=2
        ),
    )


def soft_target(drawing, step):
    return drawing.draw(step).soft_target


@pytest.mark.parametrize("when", ["every_epoch", "every_patch"])
def test_the_same_step_draws_the_same_soft_labels_whatever_was_drawn_before(when):
    cases = [make_case(seed) for seed in range(3)]
    drawing = source(when, cases, augmentation=WILD)
    in_order = [soft_target(drawing, step) for step in range(6)]
    for step in (5, 2, 0):
        fresh = source(when, cases, augmentation=WILD)
        assert torch.equal(soft_target(fresh, step), in_order[step])
    assert not torch.equal(soft_target(source(when, cases, seed=1), 0), in_order[0])


def test_every_patch_has_superpixels_of_its_own():
    drawing = source("every_patch", [make_case()])
    first, second = drawing.draw(0), drawing.draw(1)
    assert torch.equal(first.images, second.images)  # the whole case, four times
    soft = torch.cat([first.soft_target, second.soft_target])
    for i in range(4):
        for j in range(i):
            assert not torch.equal(soft[i], soft[j])


def test_a_case_keeps_its_soft_label_for_an_epoch():
    # Five cases make epochs of three steps of two patches.
    cases = [make_case(seed) for seed in range(5)]
    drawing = source("every_epoch", cases)
    seen = {}
    for step in range(12):
        batch = drawing.draw(step)
        for image, soft in zip(batch.images, batch.soft_target, strict=True):
            number = next(i for i in range(5) if np.array_equal(cases[i].image, image))
            seen.setdefault(number, {}).setdefault(step // 3, []).append(soft)
    n_repeated = 0
    for epochs in seen.values():
        for draws in epochs.values():
            assert all(torch.equal(draws[0], again) for again in draws[1:])
            n_repeated += len(draws) - 1
        firsts = [draws[0] for draws in epochs.values()]
        assert not any(torch.equal(firsts[0], other) for other in firsts[1:])
    assert n_repeated > 0
    assert sum(len(epochs) for epochs in seen.values()) > len(cases)


def test_soft_labels_that_were_forgotten_are_drawn_alike(monkeypatch):
    cases = [make_case(seed) for seed in range(4)]
    expected = [soft_target(source("every_epoch", cases), step) for step in range(6)]
    monkeypatch.setattr(redrawing, "CACHE_BYTES", 0)
    drawing = source("every_epoch", cases)
    for step, soft in enumerate(expected):
        assert torch.equal(soft_target(drawing, step), soft)


@pytest.mark.parametrize(("room", "most"), [(0, 1), (2.5, 2)])
def test_only_so_many_soft_labels_are_remembered(monkeypatch, room, most):
    monkeypatch.setattr(redrawing, "CACHE_BYTES", room * 2 * SHAPE[0] * SHAPE[1])
    drawing = source("every_epoch", [make_case(seed) for seed in range(5)])
    for step in range(8):
        drawing.draw(step)
        assert 1 <= len(drawing.redrawing._drawn) <= most


@settings(max_examples=30)
@given(st.sampled_from(["every_epoch", "every_patch"]), st.integers(0, 2**31))
def test_drawn_soft_labels_are_probabilities(when, seed):
    batch = source(when, [make_case()], augmentation=WILD, seed=seed, shape=(12, 16)).draw(0)
    assert batch.soft_target.dtype == torch.float32
    assert batch.soft_target.min() >= 0
    torch.testing.assert_close(batch.soft_target.sum(1), torch.ones(2, 12, 16), rtol=0, atol=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_of_every_patch_the_hard_label_is_the_most_probable_class(seed):
    batch = source("every_patch", [make_case()], augmentation=WILD, seed=seed, shape=(12, 16)).draw(
        0
    )
    assert torch.equal(batch.soft_target.argmax(1), batch.hard_target)


@pytest.mark.parametrize("when", ["every_epoch", "every_patch"])
def test_patches_are_the_same_however_often_soft_labels_are_drawn(when):
    cases = [make_case(seed) for seed in range(3)]
    once = source("once", cases, augmentation=WILD)
    redrawn = source(when, cases, augmentation=WILD)
    for step in range(5):
        ours, theirs = redrawn.draw(step), once.draw(step)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.hard_target, theirs.hard_target)
        assert not torch.equal(ours.soft_target, theirs.soft_target)


def test_on_average_draws_soften_where_once_does():
    case = make_case()
    drawing = source("every_patch", [case])
    mean = torch.cat([soft_target(drawing, step) for step in range(40)]).mean(0).numpy()
    once = case.soft_label / 255
    ours, theirs = 1 - mean.max(axis=0), 1 - once.max(axis=0)
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.25)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.6


def test_a_case_without_contrast_stays_hard():
    case = make_case()
    flat = replace(case, image=np.full_like(case.image, 3))
    for when in ("every_epoch", "every_patch"):
        soft = soft_target(source(when, [flat]), 0)[0].numpy()
        np.testing.assert_array_equal(soft, one_hot(case.hard_label, 2))


def test_drawing_changes_nothing_of_a_case():
    for when in ("every_epoch", "every_patch"):
        drawing = source(when, [make_case()], augmentation=WILD)
        for case in drawing.cases:
            case.levels.flags.writeable = case.hard_label.flags.writeable = False
        for step in range(3):
            drawing.draw(step)


@pytest.mark.parametrize("method", ["none", "distance", "gaussian"])
def test_rules_without_superpixels_cannot_be_drawn_anew(method):
    with pytest.raises(ValidationError, match=f"when must be \"once\" for the method '{method}'"):
        SofteningSettings(method=method, when="every_patch")
