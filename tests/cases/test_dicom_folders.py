"""Folders of DICOM files, whatever the files are called."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from sfumato.cases.dataset import Dataset
from sfumato.cases.folder import is_series
from sfumato.errors import DatasetError

SERIES = {
    "0008|0060": "CT",
    "0020|000d": "1.2.826.0.1.3680043.8.498.1",
    "0020|000e": "1.2.826.0.1.3680043.8.498.2",
    "0020|0037": "1\\0\\0\\0\\1\\0",
}


def save_series(folder: Path, name: str) -> Path:
    """Write a series of three slices, called by `name` with the number of the slice in it."""
    folder.mkdir(parents=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(3):
        image = SimpleITK.GetImageFromArray(np.full((4, 5), index, np.int16))
        for tag, value in SERIES.items():
            image.SetMetaData(tag, value)
        image.SetMetaData("0008|0018", f"1.2.826.0.1.3680043.8.498.3.{index}")
        image.SetMetaData("0020|0032", f"0\\0\\{2 * index}")
        image.SetMetaData("0020|0013", str(index))
        writer.SetFileName(str(folder / "slice.dcm"))
        writer.Execute(image)
        (folder / "slice.dcm").rename(folder / name.format(index))
    return folder


@pytest.mark.parametrize("name", ["{}.dcm", "{}.DCM", "IM{:04d}", "1.2.826.0.1.{}", "slice{}.ima"])
def test_dicom_files_are_known_under_any_name(tmp_path: Path, name: str) -> None:
    save_series(tmp_path / "all" / "p1", name)
    save_series(tmp_path / "all" / "p2", name)
    assert Dataset.open(tmp_path / "all" / "p1").case_ids == ("p1",)
    dataset = Dataset.open(tmp_path / "all")
    assert dataset.case_ids == ("p1", "p2")
    case = dataset.load("p2")
    assert case.image.shape == (1, 5, 4, 3)
    assert case.image[0, 0, 0].tolist() == [0, 1, 2]
    assert case.geometry.spacing[2] == 2


def test_real_dicom_files_are_known_without_their_suffix(shared_data, tmp_path: Path) -> None:
    study = shutil.copytree(shared_data("hippocampus_dicom") / "study1", tmp_path / "study")
    for path in list(study.glob("*.dcm")):
        path.rename(path.with_suffix(""))
    assert Dataset.open(study).load("study").image.shape == (1, 35, 51, 32)


def test_other_files_are_no_series(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("DICM")
    (tmp_path / "empty").touch()
    (tmp_path / "inside").mkdir()
    assert not is_series(tmp_path)
    assert not is_series(tmp_path / "README")
    with pytest.raises(DatasetError, match="holds no images"):
        Dataset.open(tmp_path)


def test_the_index_of_a_disc_and_hidden_files_are_no_series(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / ".IM0").write_bytes(bytes(128) + b"DICM")
    save_series(tmp_path / "ST0", "IM{}")
    assert Dataset.open(tmp_path).case_ids == ("ST0",)


def test_images_of_other_types_go_before_files_of_unknown_type(tmp_path: Path) -> None:
    save_series(tmp_path / "p", "IM{}")
    SimpleITK.WriteImage(SimpleITK.Image(4, 4, SimpleITK.sitkUInt8), str(tmp_path / "p" / "a.png"))
    assert Dataset.open(tmp_path / "p").case_ids == ("a",)
