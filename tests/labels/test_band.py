import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sfumato import SuperpixelSettings, soften_image_label, soften_label
from sfumato.labels.band import compute_superpixels_near_boundaries

SHAPES = st.one_of(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.integers(1, 24)] * 3))


@settings(max_examples=150)
@given(SHAPES, st.integers(0, 2**32), st.sampled_from([1.0, 2.0, 3.0, 8.0]), st.booleans())
def test_these_are_the_superpixels_that_labels_are_softened_by(shape, seed, size_mm, is_photo):
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.choice([0.5, 1.0, 2.5], len(shape)).tolist())
    n_channels = 3 if is_photo else 2
    image = gaussian_filter(255 * rng.random((n_channels, *shape)), 1).astype(np.float32)
    label = (gaussian_filter(rng.random(shape), 2) * 40).astype(np.uint8) % 3
    chosen = SuperpixelSettings(size_mm=size_mm, is_photo=is_photo)
    superpixels = compute_superpixels_near_boundaries(image, label, spacing, chosen)
    expected = soften_image_label(image, label, spacing, 3, chosen)
    if len(np.unique(image)) > 1:  # else the label stays hard whatever superpixels there are
        np.testing.assert_array_equal(soften_label(label, superpixels, spacing, 3), expected)


def test_there_are_none_far_from_boundaries():
    rng = np.random.default_rng(0)
    image = rng.random((1, 64, 64), np.float32)
    label = np.zeros((64, 64), np.uint8)
    label[30:34, 30:34] = 1
    chosen = SuperpixelSettings(size_mm=4)
    superpixels = compute_superpixels_near_boundaries(image, label, (1.0, 1.0), chosen)
    # The boundary touches the cells from 28 to 36; three cells around them are 12 elements.
    is_near = np.zeros((64, 64), bool)
    is_near[16:48, 16:48] = True
    np.testing.assert_array_equal(superpixels >= 0, is_near)
    label[:] = 1
    assert (compute_superpixels_near_boundaries(image, label, (1.0, 1.0), chosen) == -1).all()
