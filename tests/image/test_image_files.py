from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Picture

from sfumato.errors import FileError, InputError
from sfumato.image.files import read_channels, read_image


def save_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def numbers(*shape: int, dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def test_a_nifti_volume_is_one_channel_in_index_order(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 3, 4, 1])
    image, geometry = read_image(save_nifti(tmp_path / "a.nii.gz", numbers(3, 4, 5), affine))
    np.testing.assert_array_equal(image[0], numbers(3, 4, 5))
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert geometry.spacing == (2, 3, 4)
    np.testing.assert_array_equal(geometry.affine, affine)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 5, 1, 2)])
def test_a_fourth_or_fifth_nifti_axis_is_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image, geometry = read_image(save_nifti(tmp_path / "a.nii", numbers(*shape)))
    assert image.shape == (2, 3, 4, 5)
    assert geometry.shape == (3, 4, 5)
    np.testing.assert_array_equal(image[1], numbers(*shape).reshape(3, 4, 5, 2)[..., 1])


def test_nifti_2_is_read_too(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(numbers(3, 4, 5), np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz")[0][0], numbers(3, 4, 5))


def test_nifti_colours_are_channels(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 7
    image, _ = read_image(save_nifti(tmp_path / "a.nii", colours))
    assert image[:, 0, 0, 0].tolist() == [0, 7, 0]


def test_the_stored_slope_is_applied(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(numbers(3, 4, 5, dtype=np.uint8), np.eye(4))
    stored.header.set_slope_inter(0.5, -1)
    nibabel.save(stored, tmp_path / "a.nii")
    np.testing.assert_allclose(read_image(tmp_path / "a.nii")[0][0], numbers(3, 4, 5) * 0.5 - 1)


def test_a_tilted_flat_nifti_keeps_its_spacing(tmp_path: Path) -> None:
    coronal = np.array([[2.0, 0, 0, 5], [0, 0, 1, 6], [0, 3, 0, 7], [0, 0, 0, 1]])
    _, geometry = read_image(save_nifti(tmp_path / "a.nii", numbers(3, 4), coronal))
    assert geometry.spacing == (2, 3)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_itk_volumes_are_in_index_order_and_ras(tmp_path: Path, suffix: str) -> None:
    stored = SimpleITK.GetImageFromArray(numbers(5, 4, 3))  # ITK's arrays are z y x
    stored.SetSpacing((2, 3, 4))
    stored.SetOrigin((10, 20, 30))
    SimpleITK.WriteImage(stored, str(tmp_path / f"a{suffix}"))
    image, geometry = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image[0], numbers(5, 4, 3).T)
    np.testing.assert_array_equal(geometry.affine[:3, 3], [-10, -20, 30])
    np.testing.assert_array_equal(np.diag(geometry.affine), [-2, -3, 4, 1])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_vectors_are_channels(tmp_path: Path, suffix: str) -> None:
    volume = SimpleITK.GetImageFromArray(numbers(5, 4, 3, 2), isVector=True)
    SimpleITK.WriteImage(volume, str(tmp_path / f"a{suffix}"))
    image, _ = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image[1], numbers(5, 4, 3, 2)[..., 1].T)
    flat = SimpleITK.GetImageFromArray(numbers(5, 4, 3), isVector=True)
    SimpleITK.WriteImage(flat, str(tmp_path / f"b{suffix}"))
    image, geometry = read_image(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(image[2], numbers(5, 4, 3)[..., 2])
    assert geometry.shape == (5, 4)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_flat_itk_images_are_row_and_column(tmp_path: Path, suffix: str) -> None:
    stored = SimpleITK.GetImageFromArray(numbers(3, 4))
    stored.SetSpacing((0.5, 0.25))  # ITK says x, that is columns, first
    SimpleITK.WriteImage(stored, str(tmp_path / f"a{suffix}"))
    image, geometry = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image[0], numbers(3, 4))
    assert geometry.spacing == (0.25, 0.5)


def picture_of(values: np.ndarray, folder: Path, suffix: str = ".png") -> Path:
    Picture.fromarray(values).save(folder / f"a{suffix}")
    return folder / f"a{suffix}"


def test_grey_pictures_have_one_channel_and_unit_spacing(tmp_path: Path) -> None:
    image, geometry = read_image(picture_of(numbers(3, 4, dtype=np.uint8), tmp_path))
    np.testing.assert_array_equal(image[0], numbers(3, 4))
    assert geometry.spacing == (1, 1)


def test_pictures_and_stacks_do_not_say_where_they_lie_and_other_files_do(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers(5, 4, 3, dtype=np.uint8))
    for path in (picture_of(numbers(3, 4, dtype=np.uint8), tmp_path), tmp_path / "a.tif"):
        assert not read_image(path)[1].is_placed
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(numbers(5, 4, 3)), tmp_path / "a.mha")
    for path in (save_nifti(tmp_path / "a.nii", numbers(5, 4, 3)), tmp_path / "a.mha"):
        assert read_image(path)[1].is_placed


def test_16_bit_pictures_keep_their_depth(tmp_path: Path) -> None:
    values = numbers(3, 4, dtype=np.uint16) * 5000
    np.testing.assert_array_equal(read_image(picture_of(values, tmp_path))[0][0], values)


def test_colours_are_channels_and_transparency_is_dropped(tmp_path: Path) -> None:
    for n_channels in (3, 4):
        values = numbers(2, 5, n_channels, dtype=np.uint8)
        image, _ = read_image(picture_of(values, tmp_path))
        np.testing.assert_array_equal(image, np.moveaxis(values[..., :3], -1, 0))
    image, _ = read_image(picture_of(numbers(2, 5, 2, dtype=np.uint8), tmp_path))
    assert image.shape == (1, 2, 5)


def test_palette_images_become_colours(tmp_path: Path) -> None:
    picture = Picture.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0][:, 0, 1].tolist() == [200, 100, 0]


def test_jpeg_is_read(tmp_path: Path) -> None:
    image, _ = read_image(picture_of(np.full((8, 9), 77, np.uint8), tmp_path, ".jpg"))
    assert image.shape == (1, 8, 9)
    np.testing.assert_allclose(image, 77, atol=2)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((5, 6), {}, (1, 5, 6)),
        ((5, 6, 3), {"photometric": "rgb"}, (3, 5, 6)),
        ((3, 5, 6), {"photometric": "rgb"}, (3, 5, 6)),
        ((4, 5, 6), {"photometric": "minisblack"}, (1, 4, 5, 6)),
        ((4, 5, 6), {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}, (1, 4, 5, 6)),
        ((2, 4, 5, 6), {"imagej": True, "metadata": {"axes": "ZCYX"}}, (4, 2, 5, 6)),
        ((5, 6, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (3, 5, 6)),
        ((5, 6, 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, (3, 5, 6)),
        ((5, 6, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}, (4, 5, 6)),
        ((5, 6, 4), {"photometric": "minisblack", "planarconfig": "contig"}, (4, 5, 6)),
        ((4, 5, 6), {"photometric": "minisblack", "planarconfig": "separate"}, (4, 5, 6)),
    ],
)
def test_tiff_axes_are_understood(
    tmp_path: Path, shape: tuple[int, ...], options: dict, expected: tuple[int, ...]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers(*shape, dtype=np.uint8), **options)
    image, geometry = read_image(tmp_path / "a.tif")
    assert image.shape == expected
    assert geometry.spacing == (1.0,) * (len(expected) - 1)


def test_only_the_transparency_among_extra_samples_is_dropped(tmp_path: Path) -> None:
    samples = ["unspecified", "unassalpha", "unspecified"]
    values = numbers(2, 5, 4, dtype=np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": samples}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    image, _ = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, np.moveaxis(values[..., [0, 1, 3]], -1, 0))


def test_tiff_palettes_become_colours(tmp_path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1] = np.array([200, 100, 0]) * 257
    values = np.array([[0, 1]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=colours)
    assert read_image(tmp_path / "a.tif")[0][:, 0, 1].tolist() == [200, 100, 0]


def test_a_path_may_be_text(tmp_path: Path) -> None:
    image, _ = read_image(str(save_nifti(tmp_path / "a.nii", numbers(3, 4, 5))))
    assert image.shape == (1, 3, 4, 5)


def test_several_files_become_channels_in_order(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{i}.nii", numbers(3, 4, 5) * i) for i in (2, 1)]
    image, geometry = read_channels(paths)
    np.testing.assert_array_equal(image[:, 0, 0, 1], [2, 1])
    assert geometry.shape == (3, 4, 5)


def test_channels_must_share_one_grid(tmp_path: Path) -> None:
    first = save_nifti(tmp_path / "t1.nii", numbers(3, 4, 5))
    smaller = save_nifti(tmp_path / "t2.nii", numbers(3, 4, 4))
    elsewhere = np.eye(4)
    elsewhere[0, 3] = 2.5
    moved = save_nifti(tmp_path / "flair.nii", numbers(3, 4, 5), elsewhere)
    with pytest.raises(FileError, match=r"t2\.nii: .*grid of t1\.nii: shape 3×4×4 instead of"):
        read_channels([first, smaller])
    with pytest.raises(FileError, match=r"flair\.nii: .*a place up to 2\.5 mm away"):
        read_channels([first, moved])
    with pytest.raises(InputError, match="at least one image"):
        read_channels([])


def test_a_real_micrograph_is_read(shared_data) -> None:
    path = sorted((shared_data("axon_sem") / "images").glob("*.png"))[0]
    image, geometry = read_image(path)
    assert image.shape == (1, *geometry.shape)
    assert 0 < image.mean() < 255


def test_a_real_dicom_series_is_one_volume(shared_data) -> None:
    image, geometry = read_image(shared_data("hippocampus_dicom") / "study1")
    assert image.shape == (1, 35, 51, 32)
    np.testing.assert_allclose(
        geometry.affine, [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], atol=1e-6
    )
