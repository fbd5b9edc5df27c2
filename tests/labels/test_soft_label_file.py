from pathlib import Path

import numpy as np
import pytest

from sfumato.errors import FileError, InputError
from sfumato.image.geometry import Geometry
from sfumato.labels.soft_label_file import read_soft_label, write_soft_label
from sfumato.labels.softening import soften_label

NAMES = ("background", "organ", "lesion")


def a_soft_label(shape: tuple[int, ...] = (14, 20, 18)) -> tuple[np.ndarray, Geometry]:
    rng = np.random.default_rng(5)
    label = np.sort(rng.integers(0, 3, shape).ravel()).reshape(shape).astype(np.uint8)
    superpixels = (np.arange(label.size).reshape(shape) // 50).astype(np.int32)
    turned = np.array([[0, -1.5, 0.2, 7], [0.9, 0, 0, -3], [0, 0.1, 2.5, 40], [0, 0, 0, 1]])
    affine = turned if len(shape) == 3 else np.diag([0.5, 0.7, 1.0])
    geometry = Geometry(shape=shape, affine=affine)
    return soften_label(label, superpixels, geometry.spacing, 3), geometry


def test_a_soft_label_comes_back_with_place_and_names(tmp_path: Path) -> None:
    probability, geometry = a_soft_label()
    write_soft_label(tmp_path / "a.sfsl", probability, geometry, NAMES)
    again = read_soft_label(tmp_path / "a.sfsl")
    np.testing.assert_allclose(again.probability, probability, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(again.geometry.affine, geometry.affine)
    assert again.class_names == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["a.sfsl"]


def test_a_part_lies_where_it_lay_in_the_whole(tmp_path: Path) -> None:
    probability, geometry = a_soft_label()
    write_soft_label(tmp_path / "a.sfsl", probability, geometry, NAMES)
    part = (slice(3, 9), slice(None), slice(-5, None))
    again = read_soft_label(tmp_path / "a.sfsl", part)
    whole = read_soft_label(tmp_path / "a.sfsl")
    np.testing.assert_array_equal(again.probability, whole.probability[:, *part])
    assert again.geometry.shape == (6, 20, 5)
    first = np.array([3, 0, 13, 1])
    np.testing.assert_allclose(again.geometry.affine[:, 3], geometry.affine @ first)
    np.testing.assert_array_equal(again.geometry.affine[:3, :3], geometry.affine[:3, :3])


def test_a_flat_label_keeps_its_plane(tmp_path: Path) -> None:
    probability, flat = a_soft_label((12, 10))
    plane = np.array([[0, 0.5, 0, 3], [0, 0, 1, 4], [0.7, 0, 0, 5], [0, 0, 0, 1.0]])
    geometry = Geometry(shape=flat.shape, affine=flat.affine, plane=plane, is_placed=False)
    write_soft_label(tmp_path / "a.sfsl", probability, geometry, NAMES)
    again = read_soft_label(tmp_path / "a.sfsl", (slice(2, 4), slice(1, 9)))
    assert not again.geometry.is_placed
    assert again.geometry.plane is not None
    np.testing.assert_allclose(again.geometry.plane[:3, 3], [3.5, 4, 6.4])


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    probability, geometry = a_soft_label()
    path = tmp_path / "a.sfsl"
    write_soft_label(path, probability, geometry, NAMES)
    data = path.read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(FileError, match=r"a\.sfsl: "):
            read_soft_label(path)


@pytest.mark.parametrize("n_kept", [0, 3, 12, 40, -1])
def test_a_file_that_was_cut_short_is_named(tmp_path: Path, n_kept: int) -> None:
    probability, geometry = a_soft_label()
    path = tmp_path / "a.sfsl"
    write_soft_label(path, probability, geometry, NAMES)
    path.write_bytes(path.read_bytes()[:n_kept])
    with pytest.raises(FileError, match=r"a\.sfsl: "):
        read_soft_label(path)


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    probability, geometry = a_soft_label()
    with pytest.raises(InputError, match="one class a name"):
        write_soft_label(tmp_path / "a.sfsl", probability, geometry, NAMES[:2])
    with pytest.raises(FileError, match=r"end in \.sfsl"):
        write_soft_label(tmp_path / "a.nii.gz", probability, geometry, NAMES)
    with pytest.raises(FileError, match="no such file"):
        read_soft_label(tmp_path / "none.sfsl")
    assert not list(tmp_path.iterdir())
