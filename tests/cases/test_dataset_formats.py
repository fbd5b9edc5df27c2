import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sfumato.cases.dataset import Dataset
from sfumato.errors import DatasetError
from sfumato.image.files import write_label
from sfumato.image.geometry import Geometry

LABEL = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)


def save(path: Path, values: np.ndarray = LABEL) -> None:
    """Write a small file; to these tests an image is just another array."""
    write_label(path, values, Geometry.from_spacing(values.shape, (1.0,) * values.ndim))


def save_pairs(folder: Path, *names: str) -> Path:
    for name in names:
        save(folder / "images" / name)
        save(folder / "labels" / name)
    return folder


def test_images_and_labels_are_matched_by_stem(tmp_path: Path) -> None:
    save(tmp_path / "images" / "b.png")
    save(tmp_path / "images" / "a.nii.gz")
    save(tmp_path / "labels" / "a.nii.gz")
    save(tmp_path / "labels" / "b.tif")
    dataset = Dataset.open(tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.case_ids == dataset.groups == ("a", "b")
    assert dataset.has_labels
    assert dataset.records[1].label_paths == (tmp_path / "labels" / "b.tif",)


def test_other_files_and_hidden_ones_are_no_cases(tmp_path: Path) -> None:
    save_pairs(tmp_path, "a.png")
    (tmp_path / "images" / "README.txt").touch()
    (tmp_path / "images" / "._a.png").touch()
    (tmp_path / "labels" / ".DS_Store").touch()
    assert Dataset.open(tmp_path).case_ids == ("a",)


def test_without_labels_a_data_set_is_unlabelled(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    for path in (tmp_path, tmp_path / "images", tmp_path / "images" / "a.png"):
        dataset = Dataset.open(path)
        assert dataset.case_ids == ("a",)
        assert not dataset.has_labels
        assert dataset.load("a").label is None


def test_outside_of_nnunet_a_number_is_part_of_the_name(tmp_path: Path) -> None:
    assert Dataset.open(save_pairs(tmp_path, "a_0000.png")).case_ids == ("a_0000",)


def test_dicom_folders_are_cases(shared_data, tmp_path: Path) -> None:
    study = shared_data("hippocampus_dicom") / "study1"
    assert Dataset.open(study).load("study1").image.shape == (1, 35, 51, 32)
    shutil.copytree(study, tmp_path / "images" / "p1")
    save(tmp_path / "labels" / "p1.png")
    assert Dataset.open(tmp_path).case_ids == ("p1",)


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_manifest_lists_groups_channels_and_raters(tmp_path: Path, named: str) -> None:
    manifest = tmp_path / "cases.csv"
    manifest.write_text(
        "case,group,image,labels\n"
        "b,p1,img/b1.png;img/b2.png,seg/b_r1.png; seg/b_r2.png\n"
        "\n"
        "a,,img/a1.png;img/a2.png,\n"
    )
    dataset = Dataset.open(manifest if named == "file" else tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.case_ids == ("a", "b")
    assert dataset.groups == ("a", "p1")
    assert not dataset.has_labels
    b = dataset.records[1]
    assert b.image_paths == (tmp_path / "img/b1.png", tmp_path / "img/b2.png")
    assert b.label_paths == (tmp_path / "seg/b_r1.png", tmp_path / "seg/b_r2.png")


def test_group_and_labels_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("\ufeffcase,image\na,a.png\n", encoding="utf-8")
    dataset = Dataset.open(tmp_path / "list.csv")
    assert dataset.groups == ("a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,image,label\na,a.png,b.png\n", "unknown column 'label'; did you mean 'labels'"),
        ("case,labels\na,b.png\n", "column image is missing; the first line must be case,group"),
        ("", "column case and image is missing"),
        ("case;image\na;a.png\n", "not separated by commas; save it with commas"),
        ("case\timage\na\ta.png\n", "not separated by commas"),
        ("case,image,image\na,a.png,b.png\n", "column image is there 2 times.*semicolons"),
        ("case,image,labels\na,a.png\n", "line 2: must have 3 entries"),
        ("case,image\na,a.png,b.png\n", "line 2: must have 2 entries"),
        ("case,image\n,a.png\n", "line 2: the case is empty"),
        ("case,image\na,\n", "line 2: the image is empty"),
        ("case,image\na,a.png\na,b.png\n", r"two cases are named 'a' \(a.png and b.png\)"),
        ("case,image\n../a,a.png\n", "case name '../a' cannot name a file"),
        ("case,image\n", "holds no cases"),
        ('case,image\n"a,a.png\n', "cannot be read as a table"),
    ],
)
def test_refuses_manifests_that_make_no_sense(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        Dataset.open(tmp_path)


def describe(folder: Path, **content: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"tumour": 2, "background": 0, "organ": 1},
    "file_ending": ".nii.gz",
}


def save_nnunet(folder: Path, *case_ids: str) -> Path:
    for case_id in case_ids:
        for channel in ("0001", "0000"):
            save(folder / "imagesTr" / f"{case_id}_{channel}.nii.gz")
        save(folder / "labelsTr" / f"{case_id}.nii.gz")
    return folder


def test_nnunet_data_sets_are_understood(tmp_path: Path) -> None:
    describe(save_nnunet(tmp_path, "b_2", "a"), **NNUNET)
    dataset = Dataset.open(tmp_path)
    assert dataset.case_ids == ("a", "b_2")
    assert [path.name for path in dataset.records[1].image_paths] == [
        "b_2_0000.nii.gz",
        "b_2_0001.nii.gz",
    ]
    assert dataset.classes.names == ("background", "organ", "tumour")
    assert dataset.load("a").image.shape[0] == 2
    assert Dataset.open(tmp_path / "dataset.json").case_ids == dataset.case_ids


def test_nnunet_channels_work_in_images_and_labels_too(tmp_path: Path) -> None:
    describe(save_nnunet(tmp_path, "a"), **NNUNET)
    (tmp_path / "imagesTr").rename(tmp_path / "images")
    (tmp_path / "labelsTr").rename(tmp_path / "labels")
    assert Dataset.open(tmp_path).case_ids == ("a",)


def test_an_nnunet_data_set_may_map_its_files(tmp_path: Path) -> None:
    mapped = {"p1": {"images": ["x/t1.png", "x/t2.png"], "label": "y/p1.png"}}
    dataset = Dataset.open(describe(tmp_path, **NNUNET, dataset=mapped))
    assert dataset.records[0].image_paths == (tmp_path / "x/t1.png", tmp_path / "x/t2.png")
    assert dataset.records[0].label_paths == (tmp_path / "y/p1.png",)


def test_refuses_nnunet_data_sets_with_holes(tmp_path: Path) -> None:
    describe(save_nnunet(tmp_path, "a", "b"), **NNUNET)
    (tmp_path / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(DatasetError, match="missing label for b;"):
        Dataset.open(tmp_path)
    (tmp_path / "imagesTr" / "b_0001.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"case 'b' has the channels \[0\], .* declares 2"):
        Dataset.open(tmp_path)
    save(tmp_path / "imagesTr" / "c.nii.gz")
    with pytest.raises(DatasetError, match=r"must be named <case>_<channel>\.nii\.gz"):
        Dataset.open(tmp_path)


def test_refuses_an_nnunet_description_without_images(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder imagesTr; add the images"):
        Dataset.open(describe(tmp_path, **NNUNET))


def test_decathlon_data_sets_are_understood(tmp_path: Path) -> None:
    for name in ("la_003", "la_007"):
        save(tmp_path / "imagesTr" / f"{name}.nii.gz")
        save(tmp_path / "labelsTr" / f"{name}.nii.gz")
    training = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in ("la_007", "._la_003", "la_003")
    ]
    labels = {"0": "background", "2": "left", "1": "right"}
    describe(tmp_path, modality={"0": "MRI"}, labels=labels, training=training)
    dataset = Dataset.open(tmp_path)
    assert dataset.case_ids == ("la_003", "la_007")
    assert dataset.classes.names == ("background", "right", "left")
    assert dataset.load("la_007").label is not None


def test_a_description_of_classes_goes_with_a_folder_or_manifest(tmp_path: Path) -> None:
    save_pairs(tmp_path, "a.png")
    describe(tmp_path, labels={"background": 0, "cell": 1, "nucleus": 2}, photo=True)
    for _ in range(2):
        dataset = Dataset.open(tmp_path)
        assert dataset.classes.names == ("background", "cell", "nucleus")
        assert dataset.is_photo
        (tmp_path / "cases.csv").write_text("case,image,labels\nx,images/a.png,labels/a.png\n")
    assert dataset.case_ids == ("x",)


def test_a_manifest_goes_before_a_description_of_cases(tmp_path: Path) -> None:
    describe(save_nnunet(tmp_path, "a"), **NNUNET)
    (tmp_path / "cases.csv").write_text("case,image\nx,x.png\n")
    assert Dataset.open(tmp_path).case_ids == ("x",)


@pytest.mark.parametrize(
    ("labels", "names", "values"),
    [
        ({"cell": 0, "background": 255}, ("background", "cell"), (255, 0)),
        ({"b": 2, "Background": 1, "a": 0}, ("Background", "a", "b"), (1, 0, 2)),
        ({"0": "cell", "7": "background"}, ("background", "cell"), (7, 0)),
        ({"cell": 3, "outside": 1}, ("outside", "cell"), (1, 3)),
    ],
)
def test_the_class_called_background_comes_first(
    tmp_path: Path, labels: dict, names: tuple[str, ...], values: tuple[int, ...]
) -> None:
    classes = Dataset.open(describe(save_pairs(tmp_path, "a.png"), labels=labels)).classes
    assert classes.names == names
    assert classes.values == values


def test_a_path_may_be_text(tmp_path: Path) -> None:
    assert Dataset.open(str(save_pairs(tmp_path, "a.png"))).case_ids == ("a",)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "cell": 1, "ignore": 2}, "ignore label is not supported yet"),
        ({"background": 0, "whole": [1, 2]}, "'whole' is a region of several labels"),
        ({"background": 0, "cell": 0}, "the classes background and cell are both 0"),
        ({"background": 0}, "2 to 256 classes"),
        ({"background": 0, "cell": "one"}, "declared as \"name\": number, got 'cell': 'one'"),
        ({"background": 0, "cell": -1}, "declared as \"name\": number, got 'cell': -1"),
        ({"0": "cell", "1": "cell"}, "share a name"),
        (["background", "cell"], '"labels" must map names to numbers'),
    ],
)
def test_refuses_classes_that_make_no_sense(tmp_path: Path, labels: object, message: str) -> None:
    describe(save_pairs(tmp_path, "a.png"), labels=labels)
    with pytest.raises(DatasetError, match=message):
        Dataset.open(tmp_path)


def test_refuses_descriptions_that_make_no_sense(tmp_path: Path) -> None:
    save_pairs(tmp_path, "a.png")
    description = tmp_path / "dataset.json"
    description.write_text("{'labels': 1}")
    with pytest.raises(DatasetError, match=r"dataset\.json: is not valid JSON"):
        Dataset.open(tmp_path)
    description.write_text("[1]")
    with pytest.raises(DatasetError, match="must hold one JSON object"):
        Dataset.open(tmp_path)
    describe(tmp_path, photo="yes")
    with pytest.raises(DatasetError, match='"photo" must be true or false'):
        Dataset.open(tmp_path)
    describe(tmp_path, training=[{"picture": "a.png"}])
    with pytest.raises(DatasetError, match="does not list its cases as nnU-Net or the Decathlon"):
        Dataset.open(tmp_path)


def test_refuses_folders_that_do_not_match(tmp_path: Path) -> None:
    save_pairs(tmp_path, "a.png", "b.png")
    save(tmp_path / "images" / "c.png")
    with pytest.raises(DatasetError, match="labels: missing label for c; add the label"):
        Dataset.open(tmp_path)
    (tmp_path / "images" / "c.png").unlink()
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DatasetError, match="images: missing image for the label of b;"):
        Dataset.open(tmp_path)
    save(tmp_path / "images" / "a.nii.gz")
    message = r"two cases are named 'a' \(a\.nii\.gz and a\.png\); rename or remove one"
    with pytest.raises(DatasetError, match=message):
        Dataset.open(tmp_path)


def test_refuses_paths_without_images(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder; check the path"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds no images; .*\.nii\.gz"):
        Dataset.open(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"unknown file type '\.txt'"):
        Dataset.open(tmp_path / "notes.txt")
    (tmp_path / "labels").mkdir()
    with pytest.raises(DatasetError, match="has labels/ but no images/"):
        Dataset.open(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="images: holds no images"):
        Dataset.open(tmp_path)
