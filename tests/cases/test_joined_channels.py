"""Files of nnU-Net's names without its dataset.json, gathered when the channels are known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from sfumato.cases.dataset import Dataset
from sfumato.image.files import write_label
from sfumato.image.geometry import Geometry

ONES = np.ones((2, 3), np.uint8)


def save(folder: Path, *names: str) -> Path:
    """Write small images, the last digit of a name its intensity."""
    for name in names:
        values = ONES * int(name[-1])
        write_label(folder / f"{name}.png", values, Geometry.from_spacing((2, 3), (1.0, 1.0)))
    return folder


def test_files_of_one_prefix_become_channels_in_order(tmp_path: Path) -> None:
    save(tmp_path, "b_0001", "a_1_0001", "b_0000", "a_1_0000")
    dataset = Dataset.open(tmp_path).with_joined_channels(2)
    assert dataset.name == tmp_path.name
    assert dataset.case_ids == dataset.groups == ("a_1", "b")
    image = dataset.load("b").image
    np.testing.assert_array_equal(image[:, 0, 0], [0, 1])


def test_a_single_channel_only_loses_its_number(tmp_path: Path) -> None:
    dataset = Dataset.open(save(tmp_path, "a_0000", "b_0000")).with_joined_channels(1)
    assert dataset.case_ids == ("a", "b")
    one = Dataset.open(tmp_path / "a_0000.png").with_joined_channels(1)
    assert one.case_ids == ("a",)


@pytest.mark.parametrize(
    ("names", "n_channels"),
    [
        (["a_0000", "a_0001", "b_0000"], 2),  # b lacks a channel
        (["a_0000", "a_0001", "a_0002"], 2),  # one too many
        (["a_0001", "a_0002"], 2),  # they begin at 0
        (["a_0000", "a_0001", "b1"], 2),  # another kind of name
        (["a_000", "a_001"], 2),  # three digits
        (["frame_0000", "frame_0001"], 1),  # images of a row, each by itself
    ],
)
def test_other_names_are_left_alone(tmp_path: Path, names: list[str], n_channels: int) -> None:
    dataset = Dataset.open(save(tmp_path, *names))
    assert dataset.with_joined_channels(n_channels) is dataset


def test_cases_with_labels_or_several_files_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path / "images", "a_0000", "a_0001")
    save(tmp_path / "labels", "a_0000", "a_0001")
    labelled = Dataset.open(tmp_path)
    assert labelled.with_joined_channels(2) is labelled
    (tmp_path / "cases.csv").write_text(
        "case,image\na_0000,images/a_0000.png;images/a_0001.png\n", encoding="utf-8"
    )
    listed = Dataset.open(tmp_path)
    assert listed.with_joined_channels(1) is listed


def test_numbered_colour_pictures_are_no_channels(tmp_path: Path) -> None:
    for index in range(3):
        Picture.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / f"frame_000{index}.png")
    dataset = Dataset.open(tmp_path)
    assert dataset.with_joined_channels(3) is dataset


def test_a_damaged_file_is_told_when_its_case_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, "a_0000", "a_0001")
    (tmp_path / "a_0000.png").write_bytes(b"broken")
    assert Dataset.open(tmp_path).with_joined_channels(2).case_ids == ("a",)


def test_no_cases_stay_none(tmp_path: Path) -> None:
    nothing = Dataset.open(save(tmp_path, "a_0000")).select([])
    assert nothing.with_joined_channels(2) is nothing
