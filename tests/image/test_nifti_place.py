"""Where a NIfTI file says its array lies: units, and flat images in space."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from sfumato.errors import FileError
from sfumato.image.files import (
    read_image,
    read_label,
    read_probability,
    write_label,
    write_probability,
)

AXIAL = np.array([[0.5, 0, 0, -10], [0, 2, 0, 20], [0, 0, 3, 37], [0, 0, 0, 1.0]])
CORONAL = np.array([[0.5, 0, 0, -10], [0, 0, 3, 20], [0, 2, 0, 37], [0, 0, 0, 1.0]])
COS, SIN = np.float32(0.96), np.float32(0.28)  # a turn by about 16 degrees, as files hold it
TILTED = np.array([[1, 0, 0, 5], [0, COS, -SIN, 6], [0, SIN, COS, 37], [0, 0, 0, 1.0]])


def save(path: Path, affine: np.ndarray, unit: str = "mm", shape: tuple[int, ...] = (3, 4)) -> Path:
    image = nibabel.Nifti1Image(np.ones(shape, np.uint8), affine)
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("unit", "scale"), [("meter", 1e3), ("mm", 1), ("micron", 1e-3), ("unknown", 1)]
)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4)])
def test_the_unit_of_a_file_is_brought_to_millimetres(
    tmp_path: Path, unit: str, scale: float, shape: tuple[int, ...]
) -> None:
    affine = np.array([[0.5, 0, 0, 8], [0, 2, 0, 16], [0, 0, 4, 32], [0, 0, 0, 1.0]])
    image, geometry = read_image(save(tmp_path / "a.nii", affine, unit, shape))
    np.testing.assert_allclose(geometry.spacing, np.array([0.5, 2, 4])[: len(shape)] * scale)
    np.testing.assert_allclose(geometry.affine[:2, -1], [8 * scale, 16 * scale])
    write_label(tmp_path / "b.nii", image[0].astype(np.uint8), geometry)
    stored = nibabel.load(tmp_path / "b.nii")
    assert stored.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(stored.affine[:3], affine[:3] * scale, rtol=1e-6)
    assert geometry.difference(read_label(tmp_path / "b.nii")[1]) is None


@pytest.mark.parametrize("affine", [AXIAL, CORONAL, TILTED], ids=["axial", "coronal", "tilted"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_label_of_a_flat_image_lies_where_the_image_lies(
    tmp_path: Path, affine: np.ndarray, suffix: str
) -> None:
    image, geometry = read_image(save(tmp_path / f"a{suffix}", affine))
    write_label(tmp_path / f"b{suffix}", image[0].astype(np.uint8), geometry)
    stored = nibabel.load(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(stored.affine, affine)
    np.testing.assert_array_equal(stored.affine, nibabel.load(tmp_path / f"a{suffix}").affine)
    assert stored.shape == (3, 4)


@pytest.mark.parametrize("affine", [AXIAL, CORONAL, TILTED], ids=["axial", "coronal", "tilted"])
def test_a_probability_of_a_flat_image_lies_where_the_image_lies(
    tmp_path: Path, affine: np.ndarray
) -> None:
    _, geometry = read_image(save(tmp_path / "a.nii", affine))
    half = np.full((2, 3, 4), 0.5, np.float32)
    write_probability(tmp_path / "b.nii", half, geometry, ["background", "cell"])
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").affine, affine)
    _, again = read_probability(tmp_path / "b.nii")
    np.testing.assert_array_equal(again.plane, affine)
    assert geometry.difference(again) is None


def test_the_grid_of_a_flat_image_is_its_own(tmp_path: Path) -> None:
    _, axial = read_image(save(tmp_path / "a.nii", AXIAL))
    np.testing.assert_array_equal(axial.affine, [[0.5, 0, -10], [0, 2, 20], [0, 0, 1]])
    _, tilted = read_image(save(tmp_path / "b.nii", TILTED))
    np.testing.assert_allclose(tilted.affine, np.eye(3), atol=1e-6)


def test_a_volume_has_no_plane(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.nii", AXIAL, shape=(3, 4, 5)))[1].plane is None


def save_header(path: Path, **fields: object) -> Path:
    """Save a flat image whose header says what nibabel itself would not write."""
    image = nibabel.Nifti1Image(np.ones((3, 4), np.uint8), None)
    for name, value in fields.items():
        image.header[name] = value
    path.write_bytes(image.header.binaryblock + bytes(4) + image.get_fdata().astype("u1").tobytes())
    return path


def test_a_flat_image_without_a_third_spacing_keeps_its_place(tmp_path: Path) -> None:
    header = {"magic": b"n+1", "vox_offset": 352, "qform_code": 1, "qoffset_z": 37}
    path = save_header(tmp_path / "a.nii", pixdim=[1, 2, 3, 0, 0, 0, 0, 0], **header)
    image, geometry = read_image(path)
    write_label(tmp_path / "b.nii", image[0].astype(np.uint8), geometry)
    expected = [[2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 37], [0, 0, 0, 1]]
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").affine, expected)


def test_a_flat_image_at_no_number_is_refused(tmp_path: Path) -> None:
    header = {"magic": b"n+1", "vox_offset": 352, "qform_code": 1, "qoffset_z": np.nan}
    path = save_header(tmp_path / "a.nii", pixdim=[1, 2, 3, 1, 0, 0, 0, 0], **header)
    with pytest.raises(FileError, match=r"a\.nii: affine must be finite; .*correct the header"):
        read_image(path)


def test_parallel_axes_have_no_plane(tmp_path: Path) -> None:
    path = save_header(
        tmp_path / "a.nii",
        magic=b"n+1",
        vox_offset=352,
        pixdim=[1, 2, 2, 1, 0, 0, 0, 0],
        sform_code=1,
        srow_x=[0, 0, 1, 5],
        srow_y=[0, 0, 1, 6],
        srow_z=[2, 2, 0, 7],
    )
    _, geometry = read_image(path)
    assert geometry.plane is None
    assert geometry.spacing == (2, 2)
