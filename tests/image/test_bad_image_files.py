import gzip
import shutil
from pathlib import Path
from zlib import compress, crc32

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Picture

from sfumato.errors import FileError
from sfumato.image.files import read_image

NOISE = np.random.default_rng(0).integers(0, 200, (12, 13, 14)).astype(np.uint8)


def a_file(folder: Path, suffix: str) -> Path:
    path = folder / f"a{suffix}"
    if suffix.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(NOISE, np.eye(4)), path)
    elif suffix in (".nrrd", ".mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(path), useCompression=True)
    elif suffix == ".tif":
        tifffile.imwrite(path, NOISE)
    else:
        Picture.fromarray(NOISE[0]).save(path)
    return path


ALL = [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".tif"]


@pytest.mark.parametrize("suffix", ALL)
def test_a_truncated_file_is_one_plain_line(tmp_path: Path, suffix: str) -> None:
    path = a_file(tmp_path, suffix)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(FileError, match="damaged, cut short or of another format") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.65, 0.8, 0.95])
def test_a_compressed_tiff_volume_cut_anywhere_is_refused(tmp_path: Path, kept: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", NOISE, compression="zlib")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(FileError, match="damaged, cut short"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 2000])
def test_a_file_of_something_else_is_one_plain_line(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(FileError, match="damaged, cut short or of another format") as caught:
        read_image(tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_flipped_bits_in_compressed_data_are_noticed(tmp_path: Path, suffix: str) -> None:
    path = a_file(tmp_path, suffix)
    content = path.read_bytes()
    for position in np.linspace(len(content) // 3, len(content) - 2, 20).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= 16
        path.write_bytes(bytes(damaged))
        with pytest.raises(FileError, match="damaged"):
            read_image(path)


def test_a_missing_file_and_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file; check the path"):
        read_image(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.zg").touch()
    with pytest.raises(FileError, match=r"unknown file type '\.zg'.*Known: .*\.nii\.gz"):
        read_image(tmp_path / "a.nii.zg")
    (tmp_path / "a.tiv").touch()
    with pytest.raises(FileError, match=r"did you mean '\.tif+'\?"):
        read_image(tmp_path / "a.tiv")
    (tmp_path / "1.dcm").touch()
    with pytest.raises(FileError, match="is damaged, cut short or no DICOM"):
        read_image(tmp_path / "1.dcm")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_intensities_must_be_finite(tmp_path: Path, bad: float) -> None:
    values = NOISE.astype(np.float64)
    values[0, 0, :3] = bad
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(FileError, match="3 of 2184 intensities are NaN or infinite; replace"):
        read_image(tmp_path / "a.nii.gz")


def test_complex_images_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(NOISE.astype(np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(FileError, match="complex64 elements; save its magnitude"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize(("axis", "word"), [(0, "first"), (1, "second"), (2, "third")])
def test_volumes_one_element_thick_are_refused(tmp_path: Path, axis: int, word: str) -> None:
    thin = NOISE.take([0], axis=axis)
    nibabel.save(nibabel.Nifti1Image(thin, np.eye(4)), tmp_path / "a.nii.gz")
    message = rf"one element along its {word} axis .*save it as a flat image, such as PNG"
    with pytest.raises(FileError, match=message):
        read_image(tmp_path / "a.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(thin.T), str(tmp_path / "a.mha"))
    with pytest.raises(FileError, match=message):
        read_image(tmp_path / "a.mha")


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_impossible_nifti_spacing_is_not_repaired(
    tmp_path: Path, suffix: str, spacing: float
) -> None:
    content = bytearray(a_file(tmp_path, ".nii").read_bytes())
    content[80:84] = np.float32(spacing).tobytes()  # pixdim[1]
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(FileError, match=r"spacing .* × 1 × 1 mm, but spacing must be positive"):
        read_image(path)


@pytest.mark.parametrize("spacing", ["0", "-1", "nan"])
def test_impossible_metaimage_spacing_is_not_repaired(tmp_path: Path, spacing: str) -> None:
    path = a_file(tmp_path, ".mha")
    line = f"ElementSpacing = {spacing} 1 1".encode()
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", line))
    with pytest.raises(FileError, match=r"× 1 × 1 mm, but spacing must be positive"):
        read_image(path)


@pytest.mark.parametrize("vector", ["(0,0,0)", "(nan,0,0)"])
def test_impossible_nrrd_directions_are_not_repaired(tmp_path: Path, vector: str) -> None:
    path = a_file(tmp_path, ".nrrd")
    path.write_bytes(path.read_bytes().replace(b"(1,0,0)", vector.encode()))
    with pytest.raises(FileError, match=r"× 1 × 1 mm, but spacing must be positive"):
        read_image(path)


@pytest.mark.parametrize("spacing", ["0 1 1", "-1 1 1"])
def test_impossible_nrrd_spacings_are_not_repaired(tmp_path: Path, spacing: str) -> None:
    header = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nspacings: {spacing}\n"
    (tmp_path / "a.nrrd").write_bytes(f"{header}encoding: raw\n\n".encode() + bytes(8))
    with pytest.raises(FileError, match=r"× 1 × 1 mm, but spacing must be positive"):
        read_image(tmp_path / "a.nrrd")


def test_an_affine_that_flattens_space_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(NOISE, np.eye(4))
    image.header["srow_x"] = image.header["srow_y"]
    image.set_sform(None, code=2)
    content = bytearray(image.to_bytes())
    content[280:296] = np.array([0, 1, 0, 0], np.float32).tobytes()  # srow_x as srow_y
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(FileError, match=r"spacing must be positive .*correct the header"):
        read_image(tmp_path / "a.nii")


def test_empty_and_strangely_shaped_images_are_refused(tmp_path: Path) -> None:
    content = bytearray(a_file(tmp_path, ".nii").read_bytes())
    content[42:44] = bytes(2)  # dim[1] = 0
    (tmp_path / "empty.nii").write_bytes(content)
    with pytest.raises(FileError, match=r"is empty \(shape 0×13×14\)"):
        read_image(tmp_path / "empty.nii")
    series = np.zeros((3, 4, 5, 2, 2), np.uint8)
    nibabel.save(nibabel.Nifti1Image(series, np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(FileError, match=r"has 4 spatial axes \(3×4×5×2\)"):
        read_image(tmp_path / "b.nii")
    line = np.zeros(7, np.uint8)
    nibabel.save(nibabel.Nifti1Image(line, np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(FileError, match="has 1 spatial axes"):
        read_image(tmp_path / "c.nii")
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(series[..., 0], isVector=False), str(tmp_path / "d.nrrd")
    )
    with pytest.raises(FileError, match="has 4 spatial axes"):
        read_image(tmp_path / "d.nrrd")


def test_tiff_files_of_several_pictures_or_axes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(NOISE[0])
        tiff.write(NOISE[0, :5])
    with pytest.raises(FileError, match="holds 2 pictures of different sizes"):
        read_image(tmp_path / "a.tif")
    options = {"imagej": True, "metadata": {"axes": "TZYX"}}
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 3, 4, 5), np.uint8), **options)
    with pytest.raises(FileError, match="has 4 spatial axes"):
        read_image(tmp_path / "b.tif")
    options["metadata"] = {"axes": "TYX"}
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((3, 4, 5), np.uint8), **options)
    with pytest.raises(FileError, match="has the axes TYX; save it as YX, ZYX"):
        read_image(tmp_path / "c.tif")


def test_16_bit_colours_in_png_are_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        length, check = len(content).to_bytes(4, "big"), crc32(kind + content).to_bytes(4, "big")
        return length + kind + content + check

    header = (1).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", compress(bytes(7))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(FileError, match=r"16-bit colours.*save it as TIFF"):
        read_image(tmp_path / "a.png")


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no DICOM series"):
        read_image(tmp_path)


def test_a_dicom_series_with_a_missing_slice_is_refused(shared_data, tmp_path: Path) -> None:
    shutil.copytree(shared_data("hippocampus_dicom") / "study1", tmp_path / "study")
    (tmp_path / "study" / "14.dcm").unlink()
    with pytest.raises(FileError, match=r"lie 1 to 2 mm apart: one is missing, the first"):
        read_image(tmp_path / "study")


def test_two_dicom_series_in_one_folder_are_refused(shared_data, tmp_path: Path) -> None:
    shutil.copytree(shared_data("hippocampus_dicom") / "study1", tmp_path / "study")
    other = SimpleITK.GetImageFromArray(NOISE[:1])
    other.SetMetaData("0008|0060", "MR")
    SimpleITK.WriteImage(other, str(tmp_path / "study" / "other.dcm"))
    with pytest.raises(FileError, match="holds 2 DICOM series"):
        read_image(tmp_path / "study")
