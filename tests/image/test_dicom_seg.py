"""Writing DICOM segmentations, read back by other programs."""

import json
import shutil
import subprocess
from pathlib import Path
from sysconfig import get_path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from tests.dicom_series import DIRECTIONS, PATIENT, volume, write_multi_frame, write_series

from sfumato.arrays import Label
from sfumato.errors import ConfigError, FileError
from sfumato.image import dicom_seg
from sfumato.image.dicom_seg import (
    check_can_write_dicom,
    dicom_probability_writer,
    write_dicom_label,
)
from sfumato.image.files import read_image
from sfumato.image.structure_codes import codes_by_name

STRUCTURES = codes_by_name(["hippocampus anterior", "liver tumour"])


def label_for(shape: tuple[int, ...]) -> Label:
    """Make a label whose first and last slice are empty, as is one between of one class."""
    label = np.random.default_rng(5).integers(0, 3, shape).astype(np.uint8)
    label[..., 0] = label[..., -1] = 0
    label[..., 2][label[..., 2] == 1] = 0
    return label


def probability_for(shape: tuple[int, ...]) -> np.ndarray:
    probability = np.random.default_rng(6).random((3, *shape), np.float32)
    return probability / probability.sum(axis=0)


def placed_frames(path: Path) -> dict[tuple[int, tuple[float, ...]], np.ndarray]:
    """Read each frame with plain pydicom, by segment and place."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    frames = {}
    for group, plane in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = group.PlanePositionSequence[0].ImagePositionPatient
        frames[segment, tuple(np.round(np.array(position, float), 4))] = plane
    return frames


def assert_holds(path: Path, source: Path, expected: dict[int, np.ndarray]) -> None:
    """Check that each segment's frames lie where the series' slices of that content lie."""
    frames = placed_frames(path)
    _, geometry = read_image(source)
    n_found = 0
    for segment, values in expected.items():
        for index in range(values.shape[2]):
            place = geometry.affine[:3] @ [0, 0, index, 1] * (-1, -1, 1)
            key = (segment, tuple(np.round(place, 4)))
            if values[:, :, index].any():
                np.testing.assert_array_equal(frames[key], values[:, :, index].T)
                n_found += 1
            else:
                assert key not in frames
    assert n_found == len(frames)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_label_becomes_segments_in_place(tmp_path: Path, directions: str) -> None:
    source = write_series(tmp_path / "s", volume(), directions)
    label = label_for((7, 6, 5))
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    assert_holds(tmp_path / "seg.dcm", source, {k: label == k for k in (1, 2)})


def test_probabilities_become_steps_of_one_255th(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    probability = probability_for((7, 6, 5))
    _, geometry = read_image(source)
    with dicom_probability_writer(tmp_path / "seg.dcm", geometry, source, STRUCTURES) as write:
        for part in (slice(0, 3), slice(3, 7)):
            write((part, slice(0, 6), slice(0, 5)), probability[:, part])
    steps = {k: np.rint(probability[k] * 255).astype(np.uint8) for k in (1, 2)}
    assert_holds(tmp_path / "seg.dcm", source, steps)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert dataset.SegmentationFractionalType == "PROBABILITY"
    assert dataset.MaximumFractionalValue == 255
    other = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "seg.dcm")))
    np.testing.assert_array_equal(other, dataset.pixel_array)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_multi_frame_source_is_followed_frame_by_frame(tmp_path: Path, directions: str) -> None:
    source = write_multi_frame(tmp_path / "enhanced.dcm", volume(), directions)
    label = label_for((7, 6, 5))
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    assert_holds(tmp_path / "seg.dcm", source, {k: label == k for k in (1, 2)})


def test_segmentations_refer_to_the_series_and_say_what_they_hold(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    write_dicom_label(tmp_path / "seg.dcm", label_for((7, 6, 5)), source, STRUCTURES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    slices = [pydicom.dcmread(path) for path in source.iterdir()]
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert dataset.SegmentationType == "BINARY"
    assert dataset.StudyInstanceUID == slices[0].StudyInstanceUID
    assert dataset.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert dataset.PatientID == PATIENT["PatientID"]
    referred = dataset.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == slices[0].SeriesInstanceUID
    instances = {item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence}
    assert instances == {image.SOPInstanceUID for image in slices}
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert dataset[name].value.startswith("2.25.")
    first, second = dataset.SegmentSequence
    assert (first.SegmentNumber, first.SegmentLabel) == (1, "hippocampus anterior")
    kind = first.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("5366008", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Anterior"
    category = second.SegmentedPropertyCategoryCodeSequence[0]
    assert category.CodeMeaning == "Morphologically Abnormal Structure"
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    assert first.SegmentAlgorithmName == "sfumato"
    assert first.TrackingUID != second.TrackingUID


def test_an_empty_segmentation_keeps_its_frames(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    write_dicom_label(tmp_path / "seg.dcm", np.zeros((7, 6, 5), np.uint8), source, STRUCTURES)
    frames = placed_frames(tmp_path / "seg.dcm")
    assert not any(frame.any() for frame in frames.values())


def test_anonymous_series_get_segmentations_too(tmp_path: Path) -> None:
    def anonymise(index: int, dataset: pydicom.Dataset) -> None:
        for name in (*PATIENT, "PatientSex", "StudyTime", "StudyID", "ReferringPhysicianName"):
            delattr(dataset, name)

    source = write_series(tmp_path / "s", volume(), change=anonymise)
    label = label_for((7, 6, 5))
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    assert_holds(tmp_path / "seg.dcm", source, {k: label == k for k in (1, 2)})


def test_a_flat_image_has_a_segmentation_of_one_frame(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume()[:, :, :1], "sagittal")
    label = label_for((6, 7, 5))[:, :, 1]
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    assert {k: v.tolist() for (k, _), v in placed_frames(tmp_path / "seg.dcm").items()} == {
        k: (label == k).astype(int).tolist() for k in (1, 2)
    }


def test_probabilities_of_a_flat_image_are_one_frame_a_class(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume()[:, :, :1])
    _, geometry = read_image(source)
    probability = probability_for((6, 7))
    with dicom_probability_writer(tmp_path / "seg.dcm", geometry, source, STRUCTURES) as write:
        write((slice(0, 6), slice(0, 7)), probability)
    frames = {segment: frame for (segment, _), frame in placed_frames(tmp_path / "seg.dcm").items()}
    for segment, frame in frames.items():
        np.testing.assert_array_equal(frame, np.rint(probability[segment] * 255))
    assert sorted(frames) == [1, 2]


def test_an_x_ray_without_a_place_has_a_plain_error(tmp_path: Path) -> None:
    def unplace(index: int, dataset: pydicom.Dataset) -> None:
        del dataset.ImagePositionPatient, dataset.FrameOfReferenceUID

    source = write_series(tmp_path / "s", volume()[:, :, :1], change=unplace)
    with pytest.raises(FileError, match=r"no frame of reference.*add --format nifti"):
        write_dicom_label(tmp_path / "a.dcm", np.ones((6, 7), np.uint8), source, STRUCTURES)
    assert not list(tmp_path.glob("*.dcm"))


def test_a_series_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    with pytest.raises(FileError, match="changed since it was read"):
        write_dicom_label(tmp_path / "a.dcm", label_for((7, 6, 4)), source, STRUCTURES)


def test_what_a_segmentation_cannot_repeat_is_told_without_the_patient(tmp_path: Path) -> None:
    def contradict(index: int, dataset: pydicom.Dataset) -> None:
        del dataset.StudyInstanceUID

    source = write_series(tmp_path / "s", volume(), change=contradict)
    with pytest.raises(FileError, match="its header lacks or contradicts") as caught:
        write_dicom_label(tmp_path / "a.dcm", label_for((7, 6, 5)), source, STRUCTURES)
    assert caught.value.__cause__ is None


def test_a_segmentation_is_no_image(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    write_dicom_label(tmp_path / "a.dcm", label_for((7, 6, 5)), source, STRUCTURES)
    with pytest.raises(FileError, match="no DICOM series of images, only Segmentation Storage"):
        read_image(tmp_path / "a.dcm")


def test_without_its_writer_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_can_write_dicom()
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sfumato\[dicom\]'.*--format nifti"):
        check_can_write_dicom()


def real_label(image: np.ndarray) -> Label:
    """Make a label with content at the sides, so that a turned or shifted slice is seen."""
    low, high = np.percentile(image, (70, 95))
    return (image[0] > low).astype(np.uint8) + (image[0] > high)


def test_highdicom_reads_the_segmentation_of_a_real_series(shared_data, tmp_path: Path) -> None:
    source = shared_data("hippocampus_dicom") / "study1"
    image, geometry = read_image(source)
    label = real_label(image)
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    assert_holds(tmp_path / "seg.dcm", source, {k: label == k for k in (1, 2)})
    read = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    values = np.zeros(label.shape, np.uint8)
    to_index = np.linalg.inv(geometry.affine) @ np.diag([-1, -1, 1, 1]) @ read.affine
    for index in np.argwhere(read.array):
        values[tuple(np.rint(to_index @ [*index, 1])[:3].astype(int))] = read.array[tuple(index)]
    np.testing.assert_array_equal(values, label)


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_dcmqi_reads_segmentations(shared_data, tmp_path: Path, kind: str) -> None:
    program = shutil.which("segimage2itkimage", path=get_path("scripts"))
    if program is None:
        pytest.skip("dcmqi is not installed (pip install dcmqi)")
    if kind == "real":
        source = shared_data("hippocampus_dicom") / "study1"
    else:
        source = write_series(tmp_path / "s", volume(), "oblique")
    image, geometry = read_image(source)
    label = real_label(image)
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    (tmp_path / "out").mkdir()
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path / "out"]
    subprocess.run([*map(str, command), "--outputType", "nrrd"], check=True, capture_output=True)
    for segment in (1, 2):
        other = SimpleITK.ReadImage(str(tmp_path / "out" / f"{segment}.nrrd"))
        found = np.zeros(label.shape, bool)
        for index in np.argwhere(SimpleITK.GetArrayViewFromImage(other).T):
            point = np.array(other.TransformIndexToPhysicalPoint(index.tolist())) * (-1, -1, 1)
            place = np.linalg.inv(geometry.affine) @ [*point, 1]
            np.testing.assert_allclose(place, np.rint(place), atol=1e-2)
            found[tuple(np.rint(place)[:3].astype(int))] = True
        np.testing.assert_array_equal(found, label == segment)
    about = json.loads((tmp_path / "out" / "meta.json").read_text())
    names = [s["SegmentLabel"] for group in about["segmentAttributes"] for s in group]
    assert names == list(STRUCTURES)
