"""Reading DICOM: series in folders and archives, multi-frame files, and what is refused."""

import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from tests.dicom_series import (
    DIRECTIONS,
    PATIENT,
    ras_affine,
    volume,
    write_multi_frame,
    write_series,
)

from sfumato.errors import FileError
from sfumato.image.dicom import read_dicom
from sfumato.image.files import read_image, read_label


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_slices_are_sorted_by_place_in_any_direction(tmp_path: Path, directions: str) -> None:
    values = volume()
    image, geometry = read_image(write_series(tmp_path / "s", values, directions))
    np.testing.assert_array_equal(image[0], values)
    np.testing.assert_allclose(geometry.affine, ras_affine(directions), atol=1e-6)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_another_reader_sees_the_same_place(tmp_path: Path, directions: str) -> None:
    folder = write_series(tmp_path / "s", volume(), directions)
    image, geometry = read_image(folder)
    other = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(image[0], SimpleITK.GetArrayFromImage(other).T)
    for index in ((0, 0, 0), (6, 0, 0), (0, 5, 4)):
        point = np.array(other.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((geometry.affine @ [*index, 1])[:3], point, atol=1e-4)


def test_a_real_series_is_what_another_reader_sees(shared_data) -> None:
    folder = shared_data("hippocampus_dicom") / "study1"
    image, _ = read_image(folder)
    other = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(image[0], SimpleITK.GetArrayFromImage(other).T)


def test_values_are_rescaled_slice_by_slice(tmp_path: Path) -> None:
    def rescale(index: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + index), "-1024"

    image, _ = read_image(write_series(tmp_path / "s", volume(), change=rescale))
    np.testing.assert_allclose(image[0], volume() * np.arange(1.0, 6) - 1024)


def test_where_white_is_low_values_are_turned_around(tmp_path: Path) -> None:
    def invert(index: int, dataset: pydicom.Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    image, _ = read_image(write_series(tmp_path / "s", volume(), change=invert))
    np.testing.assert_array_equal(image[0], 65535 - volume().astype(int))
    signed = volume().astype(np.int16) - 500
    image, _ = read_image(write_series(tmp_path / "t", signed, change=invert))
    np.testing.assert_array_equal(image[0], -1 - signed)


def test_physical_values_stay_where_white_is_low(tmp_path: Path) -> None:
    def invert(index: int, dataset: pydicom.Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"

    image, _ = read_image(write_series(tmp_path / "s", volume(), change=invert))
    np.testing.assert_array_equal(image[0], volume().astype(int) - 1024)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_series_are_read(tmp_path: Path, syntax: str) -> None:
    def compress(index: int, dataset: pydicom.Dataset) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    values = volume((72, 64, 3))
    image, _ = read_image(write_series(tmp_path / "s", values, change=compress))
    np.testing.assert_array_equal(image[0], values)


def test_lossless_jpeg_of_another_writer_is_read(tmp_path: Path) -> None:
    values = volume((40, 30, 1))[..., 0]
    image = SimpleITK.GetImageFromArray(values.T[np.newaxis])
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(image)
    syntax = pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID
    assert syntax.is_compressed
    assert "JPEG Lossless" in syntax.name
    read, _ = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read[0], values.T)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_multi_frame_file_is_a_volume(tmp_path: Path, directions: str) -> None:
    path = write_multi_frame(tmp_path / "enhanced.dcm", volume(), directions)
    image, geometry = read_image(path)
    np.testing.assert_array_equal(image[0], 2.0 * volume() + np.arange(5))
    np.testing.assert_allclose(geometry.affine, ras_affine(directions), atol=1e-6)


def test_a_single_slice_is_a_flat_image_that_lies_in_space(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", volume()[:, :, :1], "sagittal")
    image, geometry = read_image(next(folder.iterdir()))
    np.testing.assert_array_equal(image[0], volume()[:, :, 0].T)
    assert geometry.spacing == pytest.approx((1.5, 0.8))
    assert geometry.plane is not None
    rows_and_columns = ras_affine("sagittal")[:, [1, 0, 3]]
    np.testing.assert_allclose(geometry.plane[:, [0, 1, 3]], rows_and_columns, atol=1e-6)


def test_an_x_ray_without_a_place_has_the_spacing_of_its_detector(tmp_path: Path) -> None:
    def unplace(index: int, dataset: pydicom.Dataset) -> None:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
        dataset.ImagerPixelSpacing = [0.2, 0.1]

    _, geometry = read_image(write_series(tmp_path / "s", volume()[:, :, :1], change=unplace))
    assert geometry.spacing == (0.2, 0.1)
    assert geometry.is_placed


def test_a_photograph_has_channels_and_no_spacing(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (6, 7, 3)).astype(np.uint8)

    def colour(index: int, dataset: pydicom.Dataset) -> None:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
        dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = colours.tobytes()

    image, geometry = read_image(write_series(tmp_path / "s", volume()[:, :, :1], change=colour))
    np.testing.assert_array_equal(image, np.moveaxis(colours, -1, 0))
    assert not geometry.is_placed


def test_folders_within_folders_and_other_files_do_not_matter(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s" / "deep" / "er", volume())
    for index, path in enumerate(sorted(folder.iterdir())):
        (tmp_path / "s" / f"part{index % 2}").mkdir(exist_ok=True)
        path.rename(tmp_path / "s" / f"part{index % 2}" / path.stem)
    (tmp_path / "s" / "README.txt").write_text("not an image")
    (tmp_path / "s" / ".DS_Store").write_bytes(bytes(128) + b"DICM")
    shutil.copy(tmp_path / "s" / "part0" / "0", tmp_path / "s" / "copy_of_an_image")
    image, _ = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image[0], volume())


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, prefix + file.name)
    return path


def test_an_archive_is_read_without_unpacking_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", volume())
    # Names that would lead out of the folder lead nowhere.
    (tmp_path / "inside").mkdir()
    path = zipped(folder, tmp_path / "inside" / "a.zip", "../../escaped/")
    before = sorted(tmp_path.rglob("*"))
    image, _ = read_image(path)
    np.testing.assert_array_equal(image[0], volume())
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_that_are_damaged_too_large_or_locked_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_series(tmp_path / "s", volume((64, 64, 5)))
    path = zipped(folder, tmp_path / "a.zip")
    whole = path.read_bytes()
    (tmp_path / "b.zip").write_bytes(whole[:2000])
    with pytest.raises(FileError, match=r"b\.zip: is damaged, cut short"):
        read_image(tmp_path / "b.zip")
    flipped = bytearray(whole)
    flipped[4000] ^= 0xFF
    (tmp_path / "c.zip").write_bytes(flipped)
    with pytest.raises(FileError, match="is damaged, cut short"):
        read_image(tmp_path / "c.zip")
    locked = bytearray(whole)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "d.zip").write_bytes(locked)
    with pytest.raises(FileError, match="locked by a password"):
        read_image(tmp_path / "d.zip")
    monkeypatch.setattr("sfumato.image.dicom_files._LARGEST_ARCHIVE_BYTES", 30_000)
    with pytest.raises(FileError, match="would unpack to"):
        read_image(path)


def test_a_missing_slice_is_told_with_its_place(tmp_path: Path) -> None:
    def forget(index: int, dataset: pydicom.Dataset) -> None:
        if index > 2:
            dataset.ImagePositionPatient[2] += 2.5

    folder = write_series(tmp_path / "s", volume(), change=forget)
    expected = r"lie 2\.5 to 5 mm apart: one is missing, the first after slice 3 of 5"
    with pytest.raises(FileError, match=expected):
        read_image(folder)


def test_uneven_steps_are_refused_and_rounded_places_are_not(tmp_path: Path) -> None:
    def places(*z: float):
        def change(index: int, dataset: pydicom.Dataset) -> None:
            dataset.ImagePositionPatient[2] = z[index]

        return change

    folder = write_series(tmp_path / "s", volume(), change=places(0, 1, 2.4, 3.4, 4.4))
    with pytest.raises(FileError, match=r"lie 1 to 1\.4 mm apart, but a volume needs even steps"):
        read_image(folder)
    folder = write_series(tmp_path / "t", volume(), change=places(0, 0.6, 1.3, 1.9, 2.5))
    assert read_image(folder)[1].spacing[2] == pytest.approx(0.625)


def test_two_images_at_one_place_are_told_with_what_differs(tmp_path: Path) -> None:
    def echoes(index: int, dataset: pydicom.Dataset) -> None:
        dataset.EchoTime = str(10 * (1 + index % 2))
        dataset.ImagePositionPatient[2] = index // 2

    folder = write_series(tmp_path / "s", volume((7, 6, 8)), change=echoes)
    with pytest.raises(FileError, match="8 images at 4 places, which differ in echo time"):
        read_image(folder)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path) -> None:
    def tilt(index: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient[1] += 2.5 * index * np.tan(np.radians(15))

    folder = write_series(tmp_path / "s", volume(), change=tilt)
    with pytest.raises(FileError, match=r"stacked at 15\.0° to their normal \(a tilted gantry\)"):
        read_image(folder)


def test_images_unlike_each_other_are_refused(tmp_path: Path) -> None:
    def enlarge(index: int, dataset: pydicom.Dataset) -> None:
        if index == 3:
            dataset.Rows, dataset.PixelData = 12, dataset.PixelData * 2

    def turn(index: int, dataset: pydicom.Dataset) -> None:
        if index == 3:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    def zoom(index: int, dataset: pydicom.Dataset) -> None:
        if index == 3:
            dataset.PixelSpacing = [1, 1]

    for name, change, text in (
        ("size", enlarge, r"different sizes \(12×7, 6×7\)"),
        ("direction", turn, "different directions"),
        ("zoom", zoom, r"different pixel spacings \(.*1\.5/0\.8"),
    ):
        with pytest.raises(FileError, match=text):
            read_image(write_series(tmp_path / name, volume(), change=change))


def test_an_overview_in_the_series_is_left_out(tmp_path: Path) -> None:
    def overview(index: int, dataset: pydicom.Dataset) -> None:
        if index == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    image, _ = read_image(write_series(tmp_path / "s", volume(), change=overview))
    np.testing.assert_array_equal(image[0], volume()[:, :, 1:])


def test_a_film_and_a_palette_are_refused(tmp_path: Path) -> None:
    def unplace(index: int, dataset: pydicom.Dataset) -> None:
        del dataset.ImagePositionPatient

    def palette(index: int, dataset: pydicom.Dataset) -> None:
        dataset.PhotometricInterpretation = "PALETTE COLOR"

    with pytest.raises(FileError, match="5 images that do not say where they lie"):
        read_image(write_series(tmp_path / "film", volume(), change=unplace))
    with pytest.raises(FileError, match="colours by a palette"):
        read_image(write_series(tmp_path / "palette", volume(), change=palette))


def test_one_of_several_series_is_chosen_by_its_uid(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "study" / "a", volume(seed=1), seed=1)
    write_series(tmp_path / "study" / "b", volume(seed=2), seed=2)
    with pytest.raises(FileError, match=r"holds 2 DICOM series; .* as if it were a file") as caught:
        read_image(tmp_path / "study")
    assert "(CT, series 302, images: 5)" in str(caught.value)
    uid = pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID
    assert f"{tmp_path / 'study' / uid} (" in str(caught.value)
    image, _ = read_image(tmp_path / "study" / uid)
    np.testing.assert_array_equal(image[0], volume(seed=1))
    with pytest.raises(FileError, match=r"holds no DICOM series 1\.2\.3"):
        read_image(tmp_path / "study" / "1.2.3")


def test_a_series_in_an_archive_is_chosen_by_its_uid(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_series(tmp_path / "s", volume(seed=seed), seed=seed)
        for path in list((tmp_path / "s").glob("?.dcm")):
            path.rename(path.with_name(f"{seed}{path.name}"))
    path = zipped(tmp_path / "s", tmp_path / "a.zip")
    uid = pydicom.dcmread(tmp_path / "s" / "20.dcm").SeriesInstanceUID
    image, _ = read_image(path / uid)
    np.testing.assert_array_equal(image[0], volume(seed=2))


def test_a_label_may_be_a_series(tmp_path: Path) -> None:
    label, _ = read_label(write_series(tmp_path / "s", volume() % 4))
    np.testing.assert_array_equal(label, volume() % 4)


def damage_somehow(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        content = content[: rng.integers(len(content))]
    for _ in range(rng.integers(1, 8)):
        if content:
            content[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(content)


def test_whatever_is_damaged_nothing_of_the_patient_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    rng = np.random.default_rng(0)
    told = []
    for attempt in range(150):
        folder = write_series(tmp_path / "s", volume((4, 3, 3)))
        damage_somehow(folder / "1.dcm", rng)
        try:
            read_dicom(folder)
        except FileError as error:
            told.append(f"{attempt}: {error} {error.__cause__}")
        shutil.rmtree(folder)
    printed = capfd.readouterr()
    text = "\n".join([*told, caplog.text, printed.out, printed.err])
    assert len(told) > 20
    for value in PATIENT.values():
        for part in value.split("^"):
            assert part not in text


def test_a_missing_decoder_is_told_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    def compress(index: int, dataset: pydicom.Dataset) -> None:
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)

    folder = write_series(tmp_path / "s", volume((40, 30, 3)), change=compress)
    monkeypatch.setattr(get_decoder(JPEGLSLossless), "_available", {})
    expected = r"compressed as JPEG-LS Lossless.*; to read it, install pip install 'sfumato\[dicom"
    with pytest.raises(FileError, match=expected):
        read_image(folder)
