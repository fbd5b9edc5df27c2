import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.image.quantise import quantise
from sfumato.labels.encoding import decode_soft_label, encode_soft_label
from sfumato.labels.softening import one_hot, soften_label


def a_random_soft_label(seed: int) -> tuple[np.ndarray, tuple[float, ...], float]:
    """Make what `superpixel` makes of a random label and random superpixels."""
    rng = np.random.default_rng(seed)
    n_axes, n_classes = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    shape = tuple(rng.integers(1, 10, n_axes).tolist())
    n_used = int(rng.integers(1, n_classes + 1))
    label = rng.integers(0, n_used, shape).astype(np.uint8)
    if rng.random() < 0.7:
        label = np.sort(label.ravel()).reshape(shape)
    superpixels = rng.integers(-1, int(rng.integers(1, 6)), shape).astype(np.int32)
    if rng.random() < 0.7:
        superpixels = np.sort(superpixels.ravel()).reshape(shape)
    spacing = tuple((10 ** rng.uniform(-1, 1, n_axes)).tolist())
    scale_mm = min(spacing) * float(10 ** rng.uniform(-1, 1))
    return soften_label(label, superpixels, spacing, n_classes, scale_mm), spacing, scale_mm


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_soft_labels_and_their_parts_come_back(seed: int) -> None:
    soft_label, spacing, scale_mm = a_random_soft_label(seed)
    data = encode_soft_label(soft_label, spacing, scale_mm)
    again = decode_soft_label(data)
    np.testing.assert_allclose(again, soft_label, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(again > 0, soft_label > 0)
    np.testing.assert_array_equal(again.argmax(axis=0), soft_label.argmax(axis=0))
    np.testing.assert_allclose(again.sum(axis=0), 1, atol=1e-6)
    assert encode_soft_label(again, spacing, scale_mm) == data
    rng = np.random.default_rng(seed)
    part = tuple(slice(*sorted(rng.integers(0, n + 1, 2).tolist())) for n in soft_label.shape[1:])
    np.testing.assert_array_equal(decode_soft_label(data, part), again[:, *part])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_other_soft_labels_come_back_in_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, int(rng.integers(1, 4))).tolist())
    weight = rng.random((int(rng.integers(1, 6)), *shape), np.float32) ** 4
    probability = weight / weight.sum(axis=0)
    data = encode_soft_label(probability, (1.0,) * len(shape))
    again = decode_soft_label(data)
    np.testing.assert_array_equal(np.rint(again * 255).astype(np.uint8), quantise(probability))
    np.testing.assert_allclose(again.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(again.argmax(axis=0), probability.argmax(axis=0))
    part = tuple(slice(n // 3, None) for n in shape)
    np.testing.assert_array_equal(decode_soft_label(data, part), again[:, *part])


def a_soft_label(*shape: int, edge: int = 5) -> np.ndarray:
    """Make a ball in cubes of superpixels."""
    axes = np.indices(shape)
    centre = np.array(shape).reshape(-1, *(1,) * len(shape)) / 2
    label = (np.linalg.norm(axes - centre, axis=0) < min(shape) / 3).astype(np.uint8)
    cubes = np.ravel_multi_index(axes // edge, [-(-n // edge) for n in shape])
    return soften_label(label, cubes.astype(np.int32), (1.0,) * len(shape), 2)


@pytest.mark.parametrize("shape", [(110, 100, 130), (520, 1040)])
def test_parts_across_blocks_are_the_same_as_the_whole(shape: tuple[int, ...]) -> None:
    soft_label = a_soft_label(*shape)
    data = encode_soft_label(soft_label, (1.0,) * len(shape))
    again = decode_soft_label(data)
    np.testing.assert_allclose(again, soft_label, rtol=0, atol=1e-6)
    for start in (0, 30, 45):
        part = tuple(slice(start, start + 30) for _ in shape)
        np.testing.assert_array_equal(decode_soft_label(data, part), again[:, *part])


def test_a_part_is_read_without_the_rest_of_the_file(tmp_path: Path) -> None:
    soft_label = a_soft_label(40, 200, 200)
    data = bytearray(encode_soft_label(soft_label, (1.0, 1.0, 1.0)))
    data[-1] ^= 1  # in the last block, which the part does not need
    path = tmp_path / "a.sfsl"
    path.write_bytes(data)
    part = (slice(0, 20), slice(0, 50), slice(0, 60))
    expected = decode_soft_label(encode_soft_label(soft_label, (1.0, 1.0, 1.0)), part)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as held:
        view = memoryview(held)
        np.testing.assert_array_equal(decode_soft_label(view, part), expected)
        with pytest.raises(InputError, match="data is damaged"):
            decode_soft_label(view)
        view.release()


@pytest.mark.parametrize("is_exact", [True, False])
def test_every_flipped_bit_and_every_missing_byte_is_found(is_exact: bool) -> None:
    soft_label = a_soft_label(9, 10, edge=3)
    if not is_exact:
        soft_label = (soft_label + one_hot(soft_label.argmax(axis=0).astype(np.uint8), 2)) / 2
    data = encode_soft_label(soft_label, (1.0, 1.0))
    for i in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[i // 8] ^= 1 << i % 8
        with pytest.raises(InputError, match=r"^data is [^\n]*$"):
            decode_soft_label(damaged)
    for n in range(len(data)):
        with pytest.raises(InputError, match=r"^data is [^\n]*$"):
            decode_soft_label(data[:n])
    with pytest.raises(InputError, match="data is damaged"):
        decode_soft_label(data + b"\0")


def test_a_soft_label_takes_hardly_more_than_its_boundary() -> None:
    soft_label = a_soft_label(64, 64, 64)
    assert len(encode_soft_label(soft_label, (1.0, 1.0, 1.0))) < 1500
    hard = one_hot(np.zeros((300, 300, 300), np.uint8), 2)
    assert len(encode_soft_label(hard, (1.0, 1.0, 1.0))) < 1000


def test_many_classes_come_back() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 256, (6, 7, 8)).astype(np.uint8)
    superpixels = rng.integers(0, 40, label.shape).astype(np.int32)
    soft_label = soften_label(label, superpixels, (1.0, 2.0, 3.0), 256)
    data = encode_soft_label(soft_label, (1.0, 2.0, 3.0))
    again = decode_soft_label(data)
    np.testing.assert_allclose(again, soft_label, rtol=0, atol=1e-6)
    part = (slice(2, 4), slice(0, 3), slice(5, 6))
    np.testing.assert_array_equal(decode_soft_label(data, part), again[:, *part])


def test_refuses_what_is_no_soft_label() -> None:
    with pytest.raises(InputError, match="sum to one"):
        encode_soft_label(np.full((2, 3), 0.4, np.float32), (1.0,))
    with pytest.raises(InputError, match="1 to 3 spatial axes"):
        encode_soft_label(np.ones((1, 2, 2, 2, 2), np.float32), (1.0,) * 4)
    with pytest.raises(InputError, match="does not begin like one"):
        decode_soft_label(b"something else")
    data = encode_soft_label(a_soft_label(4, 4), (1.0, 1.0))
    with pytest.raises(InputError, match="2 slices without steps"):
        decode_soft_label(data, (slice(0, 2),))
    with pytest.raises(InputError, match="2 slices without steps"):
        decode_soft_label(data, (slice(0, 2), slice(0, 4, 2)))
