"""DICOM segmentations come back onto any grid that has their elements."""

from pathlib import Path

import numpy as np
import pytest
from tests.dicom_series import DIRECTIONS, volume, write_series

from sfumato.errors import FileError
from sfumato.image.dicom_seg import dicom_probability_writer, write_dicom_label
from sfumato.image.dicom_seg_reading import (
    is_dicom_segmentation,
    read_dicom_label,
    read_dicom_probability,
)
from sfumato.image.files import read_image
from sfumato.image.geometry import Geometry
from sfumato.image.structure_codes import codes_by_name

NAMES = ("background", "hippocampus anterior", "liver tumour")
STRUCTURES = codes_by_name(NAMES[1:])
SHAPE = (7, 6, 5)


def label_with_gaps() -> np.ndarray:
    label = np.random.default_rng(5).integers(0, 3, SHAPE).astype(np.uint8)
    label[..., 0] = 0
    label[..., 2][label[..., 2] == 1] = 0
    return label


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_label_comes_back_also_onto_turned_and_flipped_axes(
    tmp_path: Path, directions: str
) -> None:
    source, label = write_series(tmp_path / "s", volume(), directions), label_with_gaps()
    path = tmp_path / "seg.dcm"
    write_dicom_label(path, label, source, STRUCTURES)
    assert is_dicom_segmentation(path)
    assert not is_dicom_segmentation(next(source.iterdir()))
    _, geometry = read_image(source)
    np.testing.assert_array_equal(read_dicom_label(path, geometry, NAMES), label)
    # As a NIfTI file of the same series might run: last axis first, and it runs backwards.
    change = np.zeros((4, 4))
    change[0, 1], change[1, 2], change[2, 0], change[3, 3] = 1, 1, -1, 1
    change[2, 3] = SHAPE[2] - 1
    turned = Geometry(shape=(5, 7, 6), affine=geometry.affine @ change)
    found = read_dicom_label(path, turned, NAMES)
    np.testing.assert_array_equal(found, label.transpose(2, 0, 1)[::-1])


def test_segments_go_by_the_names_of_classes_else_by_number(tmp_path: Path) -> None:
    source, label = write_series(tmp_path / "s", volume()), label_with_gaps()
    write_dicom_label(tmp_path / "seg.dcm", label, source, STRUCTURES)
    _, geometry = read_image(source)
    found = read_dicom_label(tmp_path / "seg.dcm", geometry, ("background", *NAMES[:0:-1]))
    np.testing.assert_array_equal(found, np.array([0, 2, 1], np.uint8)[label])
    found = read_dicom_label(tmp_path / "seg.dcm", geometry, ("background", "a", "b", "c"))
    np.testing.assert_array_equal(found, label)
    with pytest.raises(FileError, match="has 2 segments, but there are 1 structures"):
        read_dicom_label(tmp_path / "seg.dcm", geometry, ("background", "a"))


def test_probabilities_come_back_with_the_background(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    probability = np.random.default_rng(6).random((3, *SHAPE), np.float32)
    probability /= probability.sum(axis=0)
    _, geometry = read_image(source)
    path = tmp_path / "seg.dcm"
    with dicom_probability_writer(path, geometry, source, STRUCTURES) as write:
        write((slice(None),) * 3, probability)
    found = read_dicom_probability(path, geometry, NAMES)
    np.testing.assert_allclose(found, probability, atol=1.1 / 255)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    with pytest.raises(FileError, match="is no binary segmentation"):
        read_dicom_label(path, geometry, NAMES)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    write_dicom_label(tmp_path / "seg.dcm", label_with_gaps(), source, STRUCTURES)
    _, geometry = read_image(source)
    half = np.eye(4)
    half[0, 3] = 0.5
    for other in (
        Geometry(shape=SHAPE, affine=geometry.affine @ half),
        Geometry(shape=(7, 6, 4), affine=geometry.affine),
    ):
        with pytest.raises(FileError, match="does not lie on the grid of the reference"):
            read_dicom_label(tmp_path / "seg.dcm", other, NAMES)


def test_a_damaged_file_is_one_plain_line(tmp_path: Path) -> None:
    source = write_series(tmp_path / "s", volume())
    path = tmp_path / "seg.dcm"
    write_dicom_label(path, label_with_gaps(), source, STRUCTURES)
    path.write_bytes(path.read_bytes()[:-20])
    _, geometry = read_image(source)
    with pytest.raises(FileError, match="is damaged, cut short or no DICOM"):
        read_dicom_label(path, geometry, NAMES)
