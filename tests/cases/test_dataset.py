import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError, DatasetError, InputError
from sfumato.image.files import write_label
from sfumato.image.geometry import Geometry

EMPTY = np.zeros((2, 3), np.uint8)
CELL = np.array([[0, 255, 255], [0, 255, 0]], np.uint8)


def save(path: Path, values: np.ndarray) -> None:
    write_label(path, values, Geometry.from_spacing(values.shape, (1.0,) * values.ndim))


def save_dataset(folder: Path, **labels: np.ndarray) -> Dataset:
    for name, label in labels.items():
        save(folder / "images" / f"{name}.png", np.full(label.shape, 9, np.uint8))
        save(folder / "labels" / f"{name}.png", label)
    return Dataset.open(folder)


def test_a_case_has_its_image_and_class_indices(tmp_path: Path) -> None:
    case = save_dataset(tmp_path, a=CELL).load("a")
    assert case.id == "a"
    assert case.image.shape == (1, 2, 3)
    np.testing.assert_array_equal(case.label, CELL // 255)
    assert case.geometry.spacing == (1, 1)


def test_iterates_over_cases_in_order_of_their_names(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path, b=CELL, c=EMPTY, a=CELL)
    assert len(dataset) == 3
    assert [case.id for case in dataset] == ["a", "b", "c"]


def test_the_first_rater_gives_the_label(tmp_path: Path) -> None:
    save_dataset(tmp_path, one=EMPTY, two=CELL)
    (tmp_path / "cases.csv").write_text(
        "case,image,labels\na,images/one.png,labels/two.png;labels/one.png\n"
    )
    case = Dataset.open(tmp_path).load("a")
    assert len(case.rater_labels) == 2
    np.testing.assert_array_equal(case.label, CELL // 255)
    np.testing.assert_array_equal(case.rater_labels[1], EMPTY)


def test_values_in_the_labels_become_classes(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path, a=CELL // 85, b=CELL // 51)
    assert dataset.classes.values == (0, 3, 5)
    assert dataset.classes.names == ("background", "class 1", "class 2")


def test_one_structure_is_called_foreground(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path, a=CELL, b=EMPTY)
    assert dataset.classes.names == ("background", "foreground")
    assert dataset.classes.values == (0, 255)


@pytest.mark.parametrize(("value", "expected"), [(0, (0, 1)), (255, (0, 255))])
def test_labels_of_one_value_still_make_two_classes(
    tmp_path: Path, value: int, expected: tuple[int, int]
) -> None:
    dataset = save_dataset(tmp_path, a=EMPTY + np.uint8(value))
    assert dataset.classes.names == ("background", "foreground")
    assert dataset.classes.values == expected


def test_classes_are_looked_for_only_when_asked(tmp_path: Path) -> None:
    save_dataset(tmp_path, a=CELL)
    (tmp_path / "labels" / "a.png").write_bytes(b"broken")
    dataset = Dataset.open(tmp_path)
    with pytest.raises(CaseError, match=r"case 'a': .*a\.png: is damaged"):
        _ = dataset.classes


def test_an_image_taken_for_a_label_is_noticed(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path, a=np.arange(400, dtype=np.uint16).reshape(20, 20))
    with pytest.raises(DatasetError, match=r"a\.png: .*more than 256 classes; it looks like an im"):
        _ = dataset.classes


def test_without_labels_there_are_no_classes(tmp_path: Path) -> None:
    save(tmp_path / "a.png", CELL)
    with pytest.raises(DatasetError, match="has no labels, so its classes are unknown"):
        _ = Dataset.open(tmp_path).classes


def test_a_selection_keeps_the_classes_of_the_whole(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path, a=CELL, b=EMPTY, c=EMPTY)
    some = dataset.select(["c", "b"])
    assert some.case_ids == ("b", "c")
    assert some.select(["c"]).classes == dataset.classes
    with pytest.raises(InputError, match="unknown case 'd'"):
        dataset.select(["d"])
    with pytest.raises(InputError, match="unknown case 'a'"):
        some.load("a")


def test_a_data_set_can_be_sent_to_another_process(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path, a=CELL).select(["a"])
    again = pickle.loads(pickle.dumps(dataset))
    assert again.load("a").id == "a"
    assert again.classes == dataset.classes


def test_colours_are_channels(tmp_path: Path) -> None:
    Picture.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "a.png")
    dataset = Dataset.open(tmp_path)
    assert dataset.load("a").image.shape == (3, 2, 3)
    assert not dataset.is_photo


def test_all_cases_must_have_the_same_channels(tmp_path: Path) -> None:
    Picture.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "a.png")
    save(tmp_path / "b.png", CELL)
    dataset = Dataset.open(tmp_path)
    dataset.load("a")
    with pytest.raises(CaseError, match=r"b\.png: the image has 1 channels, but case 'a' has 3"):
        dataset.select(["b"]).load("b")


def test_declared_channels_must_be_there(tmp_path: Path) -> None:
    save(tmp_path / "a.png", CELL)
    (tmp_path / "dataset.json").write_text(
        '{"modality": {"0": "T1", "1": "T2"}, "training": [{"image": "a.png"}]}'
    )
    with pytest.raises(CaseError, match=r"1 channels, but dataset\.json has 2"):
        Dataset.open(tmp_path).load("a")


def test_a_label_must_lie_on_the_grid_of_its_image(tmp_path: Path) -> None:
    save_dataset(tmp_path, a=CELL, b=CELL)
    save(tmp_path / "labels" / "a.png", CELL[:, :2])
    with pytest.raises(CaseError, match=r"case 'a': .*a\.png: .*shape 2×2 instead of 2×3; resamp"):
        Dataset.open(tmp_path).load("a")
    (tmp_path / "labels" / "b.png").unlink()
    moved = Geometry(shape=(2, 3), affine=np.array([[1.0, 0, 4], [0, 1, 0], [0, 0, 1]]))
    write_label(tmp_path / "labels" / "b.mha", CELL, moved)
    with pytest.raises(CaseError, match=r"b\.mha: .*a place up to 4 mm away"):
        Dataset.open(tmp_path).load("b")


def test_undeclared_values_are_refused_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "cell": 1}}')
    dataset = save_dataset(tmp_path, a=CELL)
    with pytest.raises(CaseError, match=r"case 'a': .*a\.png: the label holds the value 255"):
        dataset.load("a")


def test_missing_files_are_named(tmp_path: Path) -> None:
    save_dataset(tmp_path, a=CELL)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "cell": 255}}')
    (tmp_path / "cases.csv").write_text(
        "case,image,labels\na,images/a.png,labels/b.png\nb,images/b.png,\n"
    )
    dataset = Dataset.open(tmp_path)
    with pytest.raises(CaseError, match=r"case 'a': .*labels/b\.png: no such file"):
        dataset.load("a")
    with pytest.raises(CaseError, match=r"case 'b': .*images/b\.png: no such file"):
        dataset.load("b")


def test_the_real_hippocampi_open(shared_data) -> None:
    dataset = Dataset.open(shared_data("hippocampus_msd"))
    assert len(dataset) == 260
    assert dataset.has_labels
    assert dataset.classes.values == (0, 1, 2)
    case = dataset.load(dataset.case_ids[0])
    assert case.image.shape == (1, 35, 51, 35)
    assert set(np.unique(case.label)) == {0, 1, 2}


def test_the_real_clinical_cases_open(shared_data) -> None:
    dataset = Dataset.open(shared_data("pyradiomics_cases"))
    assert dataset.load("brain1").geometry.spacing == pytest.approx((0.78125, 0.78125, 6.5))
    assert [case.id for case in dataset] == list(dataset.case_ids)


def test_the_real_cells_have_several_raters(shared_data) -> None:
    dataset = Dataset.open(shared_data("bubil_phase_contrast"))
    assert len(dataset) == 151
    assert dataset.classes.values == (0, 255)
    assert set(dataset.groups) != set(dataset.case_ids)
    assert {len(dataset.load(case_id).rater_labels) for case_id in dataset.case_ids[::10]} <= {3, 5}


def test_the_real_micrographs_open(shared_data) -> None:
    dataset = Dataset.open(shared_data("axon_sem"))
    assert dataset.classes.values == (0, 1, 2)
    assert dataset.load(dataset.case_ids[0]).image.ndim == 3


def test_other_label_files_keep_the_classes_of_the_whole(tmp_path: Path) -> None:
    dataset = save_dataset(tmp_path / "data", a=CELL // 85, b=CELL // 51)
    save(tmp_path / "other.png", CELL // 85)
    changed = dataset.with_labels({"b": (tmp_path / "other.png",)})
    assert changed.classes == dataset.classes
    np.testing.assert_array_equal(changed.load("b").label, CELL // 255)
    np.testing.assert_array_equal(changed.load("a").label, dataset.load("a").label)
    np.testing.assert_array_equal(dataset.load("b").label, 2 * (CELL // 255))
    with pytest.raises(InputError, match="unknown case 'c'"):
        dataset.with_labels({"c": ()})
