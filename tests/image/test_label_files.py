from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Picture

from sfumato.errors import FileError, InputError
from sfumato.image.files import label_suffix, read_image, read_label, write_label
from sfumato.image.geometry import Geometry

VOLUME_SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]


def a_volume(dtype: type = np.uint8) -> np.ndarray:
    return np.arange(60, dtype=dtype).reshape(3, 4, 5)


def rotated(axis_order: tuple[int, int, int], signs: tuple[int, int, int]) -> Geometry:
    """Axes swapped and flipped, then turned by 12 degrees, at unequal spacing."""
    turn = np.deg2rad(12)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.eye(3)[list(axis_order)] * signs * (0.8, 0.9, 3.0)
    affine[:3, 3] = (-90.5, 12.25, 70.0)
    return Geometry(shape=(3, 4, 5), affine=affine)


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
@pytest.mark.parametrize(
    ("axis_order", "signs"),
    [
        ((0, 1, 2), (1, 1, 1)),
        ((0, 1, 2), (-1, -1, 1)),
        ((1, 2, 0), (1, -1, 1)),
        ((2, 1, 0), (1,) * 3),
    ],
)
def test_a_volume_in_any_orientation_comes_back(
    tmp_path: Path, suffix: str, axis_order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    geometry = rotated(axis_order, signs)
    write_label(tmp_path / f"a{suffix}", a_volume(), geometry)
    values, read_geometry = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(values, a_volume())
    np.testing.assert_allclose(read_geometry.affine, geometry.affine, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_nifti_holds_a_sheared_grid(tmp_path: Path, suffix: str) -> None:
    affine = np.array([[1.0, 0.3, 0, 5], [0, 1, 0.2, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    write_label(tmp_path / f"a{suffix}", a_volume(), Geometry(shape=(3, 4, 5), affine=affine))
    _, geometry = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(geometry.affine, affine, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_volume_formats_refuse_a_sheared_grid(tmp_path: Path, suffix: str) -> None:
    affine = np.array([[1.0, 0.3, 0, 5], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    geometry = Geometry(shape=(3, 4, 5), affine=affine)
    with pytest.raises(FileError, match=r"sheared grid; write it as \.nii\.gz"):
        write_label(tmp_path / f"a{suffix}", a_volume(), geometry)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_a_placed_flat_label_comes_back(tmp_path: Path, suffix: str) -> None:
    affine = np.array([[0.0, 0.7, 3], [-0.5, 0, 4], [0, 0, 1]])
    geometry = Geometry(shape=(3, 4), affine=affine)
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_label(tmp_path / f"a{suffix}", label, geometry)
    values, read_geometry = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(values, label)
    np.testing.assert_allclose(read_geometry.affine, affine, atol=1e-6)


@pytest.mark.parametrize("suffix", [*VOLUME_SUFFIXES, ".png", ".tif"])
@pytest.mark.parametrize("shape", [(3, 4), (5, 3), (3, 3)])
def test_a_flat_label_comes_back(tmp_path: Path, suffix: str, shape: tuple[int, int]) -> None:
    geometry = Geometry.from_spacing(shape, (1.0, 1.0))
    label = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    write_label(tmp_path / f"a{suffix}", label, geometry)
    values, read_geometry = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(values, label)
    assert geometry.difference(read_geometry) is None


@pytest.mark.parametrize("suffix", [*VOLUME_SUFFIXES, ".png", ".tif"])
def test_a_path_may_be_text(tmp_path: Path, suffix: str) -> None:
    label = np.array([[0, 1, 2]], np.uint8)
    write_label(f"{tmp_path}/a{suffix}", label, Geometry.from_spacing((1, 3), (1.0, 1.0)))
    np.testing.assert_array_equal(read_label(f"{tmp_path}/a{suffix}")[0], label)


@pytest.mark.parametrize("shape", [(3, 4, 5), (5, 6, 3), (3, 6, 5), (4, 5, 4)])
def test_tiff_takes_no_axis_of_a_volume_for_colours(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    label = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    write_label(tmp_path / "a.tif", label, Geometry.from_spacing(shape, (1.0,) * 3))
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif")[0], label)


@pytest.mark.parametrize("suffix", [*VOLUME_SUFFIXES, ".png", ".tif"])
@pytest.mark.parametrize(("highest", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_a_label_is_stored_in_the_smallest_type(
    tmp_path: Path, suffix: str, highest: int, dtype: type
) -> None:
    label = np.array([[0, highest], [0, 0]], np.int64)
    write_label(tmp_path / f"a{suffix}", label, Geometry.from_spacing((2, 2), (1.0, 1.0)))
    values, _ = read_label(tmp_path / f"a{suffix}")
    assert values.dtype == dtype
    assert values.max() == highest


def test_the_same_label_gives_the_same_bytes(tmp_path: Path) -> None:
    geometry = rotated((0, 1, 2), (1, 1, 1))
    for name in ("a", "b"):
        write_label(tmp_path / f"{name}.nii.gz", a_volume(), geometry)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_nifti_and_itk_agree_on_the_place(tmp_path: Path) -> None:
    geometry = rotated((1, 2, 0), (1, -1, 1))
    write_label(tmp_path / "a.nii.gz", a_volume(), geometry)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    x, y, z = image.TransformIndexToPhysicalPoint((2, 1, 4))
    np.testing.assert_allclose((-x, -y, z), (geometry.affine @ [2, 1, 4, 1])[:3], atol=1e-4)
    assert image[2, 1, 4] == a_volume()[2, 1, 4]


def test_palette_indices_are_the_label(tmp_path: Path) -> None:
    picture = Picture.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 200, 100, 0, 7, 7, 7])
    picture.save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png")[0].tolist() == [[0, 1], [2, 1]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits_keep_their_indices(tmp_path: Path, bits: int) -> None:
    picture = Picture.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.save(tmp_path / "a.png", bits=bits)
    assert read_label(tmp_path / "a.png")[0].tolist() == [[0, 1], [1, 0]]


def test_a_bilevel_mask_is_zero_and_one(tmp_path: Path) -> None:
    Picture.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png")[0].tolist() == [[1, 0]]


def test_a_mask_of_0_and_255_keeps_its_values(tmp_path: Path) -> None:
    Picture.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png")[0].tolist() == [[0, 255]]


def test_whole_numbers_stored_as_floats_are_fine(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(a_volume(np.float32) * 0 + 300, np.eye(4)), tmp_path / "a.nii")
    values, _ = read_label(tmp_path / "a.nii")
    assert values.dtype == np.uint16


def nifti_label(folder: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "bad.nii.gz")
    return folder / "bad.nii.gz"


def test_refuses_fractional_labels(tmp_path: Path) -> None:
    values = a_volume(np.float32)
    values[0, 0, 0] = 0.5
    with pytest.raises(FileError, match=r"bad\.nii\.gz: holds the value 0\.5, .*whole numbers"):
        read_label(nifti_label(tmp_path, values))


def test_refuses_labels_that_are_not_finite(tmp_path: Path) -> None:
    values = a_volume(np.float32)
    values[0, 0, 0] = np.nan
    with pytest.raises(FileError, match="holds the value nan"):
        read_label(nifti_label(tmp_path, values))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_refuses_negative_labels(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(FileError, match=r"holds the value -3, .*renumber"):
        read_label(nifti_label(tmp_path, a_volume(dtype) - 3))


def test_refuses_labels_with_channels(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="has 2 channels or colours"):
        read_label(nifti_label(tmp_path, np.zeros((3, 4, 5, 2), np.uint8)))


def test_refuses_coloured_label_pictures(tmp_path: Path) -> None:
    Picture.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(FileError, match=r"3 channels or colours.*save class numbers \(indices\)"):
        read_label(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(FileError, match="3 channels or colours"):
        read_label(tmp_path / "a.tif")


def test_refuses_jpeg_labels(tmp_path: Path) -> None:
    Picture.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(FileError, match="JPEG changes the values of a label; save it as PNG"):
        read_label(tmp_path / "a.jpg")


def test_png_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    flat = Geometry.from_spacing((1, 2), (1.0, 1.0))
    with pytest.raises(FileError, match=r"up to 65535, got 65536; write it as \.tif"):
        write_label(tmp_path / "a.png", np.array([[0, 65536]]), flat)
    with pytest.raises(FileError, match="flat images only"):
        write_label(tmp_path / "a.png", a_volume(), rotated((0, 1, 2), (1, 1, 1)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_refuse_a_place_they_cannot_hold(tmp_path: Path, suffix: str) -> None:
    geometry = Geometry.from_spacing((1, 2), (0.5, 0.5))
    with pytest.raises(FileError, match=r"cannot say where an image lies \(spacing 0\.5"):
        write_label(tmp_path / f"a{suffix}", np.array([[0, 1]]), geometry)


def test_refuses_to_write_unsuitable_names_and_values(tmp_path: Path) -> None:
    flat = Geometry.from_spacing((1, 2), (1.0, 1.0))
    label = np.array([[0, 1]])
    with pytest.raises(FileError, match=r"not written as \.jpg; use \.png"):
        write_label(tmp_path / "a.jpg", label, flat)
    with pytest.raises(FileError, match=r"not written as \.mhd; use \.mha"):
        write_label(tmp_path / "a.mhd", label, flat)
    with pytest.raises(FileError, match=r"unknown file type '\.pgn'; did you mean '\.png'"):
        write_label(tmp_path / "a.pgn", label, flat)
    with pytest.raises(InputError, match="0 or more, got -1"):
        write_label(tmp_path / "a.png", -label, flat)
    with pytest.raises(InputError, match="the shape of their geometry"):
        write_label(tmp_path / "a.png", label.T, flat)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    flat = Geometry.from_spacing((1, 2), (1.0, 1.0))
    write_label(tmp_path / "a.nrrd", np.array([[0, 1]]), flat)
    sheared = Geometry(shape=(1, 2), affine=np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]]))
    with pytest.raises(FileError, match="sheared"):
        write_label(tmp_path / "a.nrrd", np.array([[1, 1]]), sheared)
    assert read_label(tmp_path / "a.nrrd")[0].tolist() == [[0, 1]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.nrrd"]


def test_a_label_lies_where_its_real_image_lies(shared_data, tmp_path: Path) -> None:
    folder = shared_data("pyradiomics_cases")
    image, geometry = read_image(folder / "images" / "brain1.nii.gz")
    assert geometry.spacing == pytest.approx((0.78125, 0.78125, 6.5))
    values, label_geometry = read_label(folder / "labels" / "brain1.nii.gz")
    assert geometry.difference(label_geometry) is None
    assert values.shape == image.shape[1:]
    for suffix in VOLUME_SUFFIXES:
        write_label(tmp_path / f"a{suffix}", values, geometry)
        again, place = read_label(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(again, values)
        assert geometry.difference(place, tolerance_mm=1e-4) is None


def test_label_suffix_of_a_dicom_folder_is_nifti(tmp_path: Path) -> None:
    assert label_suffix(tmp_path) == ".nii.gz"
