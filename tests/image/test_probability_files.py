import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from sfumato.errors import FileError, InputError
from sfumato.image.files import read_probability, write_probability
from sfumato.image.geometry import Geometry

NAMES = ["background", "anterior", "posterior"]


def a_probability(*shape: int) -> np.ndarray:
    weight = np.random.default_rng(0).random((3, *shape), np.float32)
    return weight / weight.sum(axis=0)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 7)])
def test_a_probability_comes_back(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    probability = a_probability(*shape)
    geometry = Geometry.from_spacing(shape, (0.5, 2.0, 3.0)[: len(shape)])
    write_probability(tmp_path / f"a{suffix}", probability, geometry, NAMES)
    again, place = read_probability(tmp_path / f"a{suffix}")
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, probability, atol=1 / 255 + 1e-6)
    np.testing.assert_allclose(again.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(again.argmax(axis=0), probability.argmax(axis=0))
    assert geometry.difference(place) is None


@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 7)])
def test_others_read_bytes_with_classes_last(tmp_path: Path, shape: tuple[int, ...]) -> None:
    probability = a_probability(*shape)
    geometry = Geometry.from_spacing(shape, (1.0,) * len(shape))
    write_probability(tmp_path / "a.nii.gz", probability, geometry, NAMES)
    stored = nibabel.load(tmp_path / "a.nii.gz")
    assert stored.get_data_dtype() == np.uint8
    assert stored.shape == (*shape, *(1,) * (3 - len(shape)), 3)
    assert stored.dataobj.slope == pytest.approx(1 / 255)
    raw = stored.dataobj.get_unscaled()
    assert (raw.sum(axis=-1, dtype=int) == 255).all()
    expected = np.moveaxis(probability, 0, -1).reshape(stored.shape)
    np.testing.assert_allclose(stored.get_fdata(), expected, atol=1 / 255 + 1e-6)
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")))
    np.testing.assert_allclose(by_itk.T, expected, atol=1 / 255 + 1e-6)


def test_class_names_stand_beside_it(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((2, 2), (1.0, 1.0))
    write_probability(tmp_path / "a_probseg.nii.gz", a_probability(2, 2), geometry, NAMES)
    assert json.loads((tmp_path / "a_probseg.json").read_text("utf-8")) == {"LabelMap": NAMES}


def test_refuses_other_formats_names_and_shapes(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((2, 2), (1.0, 1.0))
    with pytest.raises(FileError, match=r"use a name ending in \.nii\.gz"):
        write_probability(tmp_path / "a.png", a_probability(2, 2), geometry, NAMES)
    with pytest.raises(InputError, match="got 2 names"):
        write_probability(tmp_path / "a.nii", a_probability(2, 2), geometry, NAMES[:2])
    with pytest.raises(InputError, match="sum to one"):
        write_probability(tmp_path / "a.nii", 2 * a_probability(2, 2), geometry, NAMES)
    assert not list(tmp_path.iterdir())


def test_refuses_to_read_what_is_no_probability(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such NIfTI file"):
        read_probability(tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(FileError, match="has 3 axes, but a probability must have four"):
        read_probability(tmp_path / "b.nii")
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "c.nii")
    with pytest.raises(FileError, match="do not sum to one"):
        read_probability(tmp_path / "c.nii")
