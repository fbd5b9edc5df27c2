import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from sfumato.errors import FileError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.probabilities import (
    probability_writer,
    read_class_names,
    read_probability,
    write_class_probabilities,
    write_probability,
)

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


def save(path: Path, values: np.ndarray, slope: float | None = None) -> Path:
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(slope, None if slope is None else 0)
    nibabel.save(image, path)
    return path


def test_reads_numbers_of_other_programs(tmp_path: Path) -> None:
    probability = a_probability(3, 4, 5)
    for values in (probability, probability.astype(np.float64)):
        again, geometry = read_probability(
            save(tmp_path / "sub-01_probseg.nii.gz", np.moveaxis(values, 0, -1))
        )
        np.testing.assert_allclose(again, probability, atol=1e-6)
        assert geometry.spacing == (2.0, 2.0, 3.0)


def test_reads_bytes_that_were_rounded_class_by_class(tmp_path: Path) -> None:
    probability = a_probability(3, 4, 5)
    steps = np.rint(np.moveaxis(probability, 0, -1) * 255).astype(np.uint8)
    assert (steps.sum(axis=-1, dtype=int) != 255).any()
    again, _ = read_probability(save(tmp_path / "a_probseg.nii.gz", steps, 1 / 255))
    np.testing.assert_allclose(again, probability, atol=2 / 255)
    np.testing.assert_allclose(again.sum(axis=0), 1, atol=1e-6)


def test_reads_vectors_as_itk_writes_them(tmp_path: Path) -> None:
    probability = a_probability(3, 4, 5)
    image = SimpleITK.GetImageFromArray(np.transpose(probability, (3, 2, 1, 0)), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
    assert nibabel.load(tmp_path / "a.nii.gz").shape == (3, 4, 5, 1, 3)
    again, _ = read_probability(str(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(again, probability, atol=1e-6)


def test_what_is_read_and_written_again_stays_the_same(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((3, 4, 5), (1.0, 1.0, 2.0))
    write_probability(tmp_path / "a.nii.gz", a_probability(3, 4, 5), geometry, NAMES)
    first, place = read_probability(tmp_path / "a.nii.gz")
    write_probability(tmp_path / "b.nii.gz", first, place, NAMES)
    second, _ = read_probability(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(first, second)


def test_refuses_to_read_what_is_no_probability(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such NIfTI file"):
        read_probability(tmp_path / "a.nii.gz")
    with pytest.raises(FileError, match="has 3 axes, but a probability must have four"):
        read_probability(save(tmp_path / "b.nii", np.zeros((3, 4, 5), np.uint8)))
    with pytest.raises(FileError, match="do not sum to one, but to 0 to 0"):
        read_probability(save(tmp_path / "c.nii", np.zeros((3, 4, 5, 2), np.uint8)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.4], "do not sum to one, but to 0.9 to 0.9, .* add the background"),
        ([1.5, -0.5], "values from -0.5 to 1.5, but probabilities are from 0 to 1"),
        ([255.0, 0.0], "values from 0 to 255, .* store whole numbers with the slope"),
        ([np.nan, 1.0], "values from nan to nan"),
    ],
)
def test_says_what_is_wrong_with_the_values(
    tmp_path: Path, values: list[float], message: str
) -> None:
    stored = np.broadcast_to(np.array(values, np.float32), (3, 4, 5, 2))
    with pytest.raises(FileError, match=message):
        read_probability(save(tmp_path / "a.nii", stored))


def test_class_names_come_back(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((2, 2), (1.0, 1.0))
    write_probability(tmp_path / "a_probseg.nii.gz", a_probability(2, 2), geometry, NAMES)
    assert read_class_names(tmp_path / "a_probseg.nii.gz") == tuple(NAMES)
    (tmp_path / "a_probseg.json").write_text('{"LabelMap": "grey"}')
    with pytest.raises(FileError, match="LabelMap must be a list"):
        read_class_names(tmp_path / "a_probseg.nii.gz")
    (tmp_path / "a_probseg.json").write_text("{")
    with pytest.raises(FileError, match="no JSON object"):
        read_class_names(tmp_path / "a_probseg.nii.gz")
    (tmp_path / "a_probseg.json").unlink()
    assert read_class_names(tmp_path / "a_probseg.nii.gz") is None


@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 7)])
def test_one_file_a_class_comes_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    probability = a_probability(*shape)
    geometry = Geometry.from_spacing(shape, (0.5, 2.0, 3.0)[: len(shape)])
    names = ["background", "white matter", "grey matter"]
    paths = write_class_probabilities(tmp_path / "a_probseg.nii.gz", probability, geometry, names)
    assert [path.name for path in paths][1:] == [
        "a_label-whitematter_probseg.nii.gz",
        "a_label-greymatter_probseg.nii.gz",
    ]
    write_probability(tmp_path / "b_probseg.nii.gz", probability, geometry, names)
    expected, _ = read_probability(tmp_path / "b_probseg.nii.gz")
    again, place = read_probability(paths[1])
    np.testing.assert_array_equal(again, expected)
    assert read_class_names(paths[2]) == tuple(names)
    assert geometry.difference(place) is None


def test_what_tissues_leave_is_background(tmp_path: Path) -> None:
    white = np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    save(tmp_path / "sub-1_label-WM_probseg.nii.gz", white)
    save(tmp_path / "sub-1_label-GM_probseg.nii.gz", (1 - white) / 2)
    save(tmp_path / "sub-2_label-GM_probseg.nii.gz", white)
    path = tmp_path / "sub-1_label-WM_probseg.nii.gz"
    probability, _ = read_probability(path)
    np.testing.assert_allclose(probability, [(1 - white) / 2, (1 - white) / 2, white], atol=1e-6)
    assert read_class_names(path) == ("background", "GM", "WM")


def test_classes_must_share_one_grid_and_have_names(tmp_path: Path) -> None:
    save(tmp_path / "a_label-WM_probseg.nii.gz", np.zeros((3, 4, 5), np.float32))
    save(tmp_path / "a_label-GM_probseg.nii.gz", np.zeros((3, 4, 6), np.float32))
    with pytest.raises(FileError, match="does not lie on the grid"):
        read_probability(tmp_path / "a_label-WM_probseg.nii.gz")
    geometry = Geometry.from_spacing((2, 2), (1.0, 1.0))
    with pytest.raises(FileError, match=r"end the name in _probseg\.nii\.gz"):
        write_class_probabilities(tmp_path / "a.nii", a_probability(2, 2), geometry, NAMES)
    with pytest.raises(InputError, match="must differ in their letters"):
        write_class_probabilities(
            tmp_path / "a_probseg.nii", a_probability(2, 2), geometry, ["a", "b 1", "b1"]
        )


@pytest.mark.parametrize("name", ["p.nii.gz", "p.nii"])
@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5)])
@pytest.mark.parametrize("axis", [0, 1])
def test_written_part_by_part_a_probability_is_the_same_file(tmp_path, name, shape, axis):
    rng = np.random.default_rng(0)
    probability = rng.dirichlet((0.3, 0.3, 0.3), shape).astype(np.float32)
    probability = np.moveaxis(probability, -1, 0)
    geometry = Geometry.from_spacing(shape, (0.7, 0.8, 2.0)[: len(shape)])
    write_probability(tmp_path / "whole" / name, probability, geometry, ("a", "b", "c"))
    with probability_writer(tmp_path / name, geometry, ("a", "b", "c")) as write:
        for start in (4, 2, 0):  # as they come where an axis is flipped
            place = [slice(0, n) for n in shape]
            place[axis] = slice(start, min(start + 2, shape[axis]))
            write(tuple(place), probability[:, *place])
    assert (tmp_path / "p.json").read_text() == (tmp_path / "whole" / "p.json").read_text()
    written, whole = nibabel.load(tmp_path / name), nibabel.load(tmp_path / "whole" / name)
    assert written.header == whole.header
    np.testing.assert_array_equal(written.get_fdata(), whole.get_fdata())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "p.json", "whole"])
