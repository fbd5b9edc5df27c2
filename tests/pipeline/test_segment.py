import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image as Picture

from sfumato.labels.postprocessing import PostprocessingSettings
from sfumato.model.trained import TrainedModel

# Whichever engine is the fastest at the moment rounds in its own way.
HERE = ("--device=cpu", "--engine=torch")


@pytest.fixture(scope="module")
def flat_segmentations(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("segmented") / "out"
    outcome = sfumato(
        "segment", flat_run, flat_data / "images", "--out", out, "--probabilities", *HERE
    )
    assert outcome.code == 0
    return out


@pytest.fixture(scope="module")
def volume_segmentations(
    sfumato: Callable, volume_run: Path, volume_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("segmented") / "out"
    outcome = sfumato("segment", volume_run, volume_data, "--out", out, "--probabilities", *HERE)
    assert outcome.code == 0
    return out


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern) if path.is_file())


def test_pictures_become_pictures_of_the_same_name_with_the_labels_own_values(
    flat_segmentations: Path, flat_data: Path
) -> None:
    assert names_in(flat_segmentations, "*.png") == names_in(flat_data / "images")
    for name in names_in(flat_data / "images"):
        with Picture.open(flat_segmentations / name) as segmentation:
            values = np.asarray(segmentation)
        with Picture.open(flat_data / "images" / name) as image:
            assert values.shape == np.asarray(image).shape
        assert values.dtype == np.uint8
        assert set(np.unique(values)) <= {0, 255}


def test_volumes_keep_name_type_grid_and_values(
    volume_segmentations: Path, volume_data: Path
) -> None:
    assert names_in(volume_segmentations, "*.nii.gz") == names_in(volume_data / "images")
    found = set()
    for name in names_in(volume_data / "images"):
        segmentation = nibabel.load(volume_segmentations / name)
        image = nibabel.load(volume_data / "images" / name)
        assert segmentation.shape == image.shape[:3]
        np.testing.assert_array_equal(segmentation.affine, image.affine)
        found |= set(np.unique(segmentation.dataobj).tolist())
    assert found <= {0, 2, 7}
    assert len(found) > 1


def test_a_segmentation_lies_where_the_structure_is(
    sfumato: Callable, trained_volume_run: Path, volume_data: Path, tmp_path: Path
) -> None:
    image = volume_data / "images" / "case_03.nii.gz"
    sfumato("segment", trained_volume_run, image, "--out", tmp_path / "out", *HERE)
    segmentation = np.asarray(nibabel.load(tmp_path / "out" / "case_03.nii.gz").dataobj)
    label = np.asarray(nibabel.load(volume_data / "labels" / "case_03.nii.gz").dataobj)
    both = ((segmentation > 0) & (label > 0)).sum()
    assert 2 * both / ((segmentation > 0).sum() + (label > 0).sum()) > 0.8


def test_each_case_gets_one_probability_file_that_agrees_with_its_segmentation(
    volume_segmentations: Path, volume_data: Path
) -> None:
    folder = volume_segmentations / "probabilities"
    assert names_in(folder, "*.nii.gz") == names_in(volume_data / "images")
    for name in names_in(folder, "*.nii.gz"):
        stored = nibabel.load(folder / name)
        raw = np.asarray(stored.dataobj.get_unscaled())
        label = np.asarray(nibabel.load(volume_segmentations / name).dataobj)
        assert raw.dtype == np.uint8
        assert raw.shape == (*label.shape, 3)
        assert stored.dataobj.slope == pytest.approx(1 / 255)
        assert (raw.sum(axis=-1, dtype=int) == 255).all()
        np.testing.assert_array_equal(np.array([0, 2, 7])[raw.argmax(axis=-1)], label)
        np.testing.assert_array_equal(
            stored.affine, nibabel.load(volume_data / "images" / name).affine
        )
    names = json.loads((folder / "case_00.json").read_text("utf-8"))["LabelMap"]
    assert names == ["background", "shell [outer]", "core"]


def test_a_picture_gets_a_probability_file_too(flat_segmentations: Path) -> None:
    stored = nibabel.load(flat_segmentations / "probabilities" / "case_00.nii.gz")
    assert stored.shape == (40, 52, 1, 2)


def test_a_report_tells_how_it_was_done(
    flat_segmentations: Path, volume_segmentations: Path, volume_data: Path
) -> None:
    report = json.loads((flat_segmentations / "run.json").read_text("utf-8"))
    assert report["failures"] == {}
    assert report["model"]["steps"] == 20
    assert (report["device"], len(report["engines"])) == ("cpu", 1)
    assert len(report["seconds"]) == len(report["areas_mm2"]) == 10
    assert set(report["seconds"]["case_00"]) == {"read", "segment", "tidy", "write"}
    report = json.loads((volume_segmentations / "run.json").read_text("utf-8"))
    for case_id, volumes in report["volumes_ml"].items():
        label = np.asarray(nibabel.load(volume_segmentations / f"{case_id}.nii.gz").dataobj)
        for name, value in (("shell [outer]", 2), ("core", 7)):
            ml = 2.5 * 1.0 * 1.2 * (label == value).sum() / 1000
            assert volumes[name] == pytest.approx(ml, abs=1e-6)


def test_files_and_folders_are_segmented_together_each_as_its_own_type(
    sfumato: Callable, volume_run: Path, volume_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(volume_data / "images" / "case_00.nii.gz", folder / "a.nii.gz")
    image = nibabel.load(volume_data / "images" / "case_01.nii.gz")
    vectors = np.moveaxis(np.asarray(image.dataobj), (0, 1, 2), (2, 1, 0))
    for name in ("b.nrrd", "c.mha"):
        volume = SimpleITK.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
        volume.SetSpacing((2.5, 1.0, 1.2))
        volume.SetOrigin((-31.5, 12.0, 7.25))
        SimpleITK.WriteImage(volume, tmp_path / name)
    outcome = sfumato(
        "segment", volume_run, folder, tmp_path / "b.nrrd", tmp_path / "c.mha",
        "--out", tmp_path / "out", *HERE,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert names_in(tmp_path / "out") == [
        ".sfumato", "a.nii.gz", "b.nrrd", "c.mha", "cases.jsonl", "run.json"
    ]  # fmt: skip
    for name in ("b.nrrd", "c.mha"):
        segmentation = SimpleITK.ReadImage(tmp_path / "out" / name)
        assert segmentation.GetSize() == (14, 22, 20)
        assert segmentation.GetSpacing() == pytest.approx((2.5, 1.0, 1.2))
        assert segmentation.GetOrigin() == pytest.approx((-31.5, 12.0, 7.25))


def test_the_run_its_model_and_its_best_model_can_be_used(
    sfumato: Callable, flat_run: Path, flat_data: Path, flat_segmentations: Path, tmp_path: Path
) -> None:
    image = flat_data / "images" / "case_00.png"
    for model in (flat_run / "model", flat_run / "best_model"):
        out = tmp_path / model.name
        assert sfumato("segment", model, image, "--out", out, *HERE).code == 0
        assert (out / "case_00.png").exists()
    of_run = (flat_segmentations / "case_00.png").read_bytes()
    assert (tmp_path / "model" / "case_00.png").read_bytes() == of_run


def test_mirroring_changes_probabilities_a_little(
    sfumato: Callable, flat_run: Path, flat_data: Path, flat_segmentations: Path, tmp_path: Path
) -> None:
    image = flat_data / "images" / "case_00.png"
    outcome = sfumato("segment", flat_run, image, "--out", tmp_path / "out", "--mirror",
                      "--probabilities", *HERE)  # fmt: skip
    assert outcome.code == 0
    name = Path("probabilities") / "case_00.nii.gz"
    mirrored = nibabel.load(tmp_path / "out" / name).get_fdata()
    plain = nibabel.load(flat_segmentations / name).get_fdata()
    assert 0 < np.abs(mirrored - plain).mean() < 0.2


def test_labels_of_a_data_set_are_not_looked_at(
    sfumato: Callable, flat_run: Path, flat_data: Path, flat_segmentations: Path, tmp_path: Path
) -> None:
    shutil.copytree(flat_data, tmp_path / "data")
    for path in (tmp_path / "data" / "labels").iterdir():
        path.write_bytes(b"no label")
    outcome = sfumato("segment", flat_run, tmp_path / "data", "--out", tmp_path / "out", *HERE)
    assert outcome.code == 0
    assert names_in(tmp_path / "out", "*.png") == names_in(flat_segmentations, "*.png")


def test_segmenting_twice_gives_the_same_files(
    sfumato: Callable, flat_run: Path, flat_data: Path, flat_segmentations: Path, tmp_path: Path
) -> None:
    sfumato("segment", flat_run, flat_data, "--out", tmp_path / "out", *HERE)
    for name in names_in(flat_segmentations, "*.png"):
        assert (tmp_path / "out" / name).read_bytes() == (flat_segmentations / name).read_bytes()


def test_several_models_give_the_mean_of_their_probabilities(
    sfumato: Callable, flat_run: Path, flat_data: Path, flat_segmentations: Path, tmp_path: Path
) -> None:
    best, picture = flat_run / "best_model", flat_data / "images" / "case_00.png"
    options = ("--probabilities", *HERE)
    assert sfumato("segment", best, picture, "--out", tmp_path / "best", *options).code == 0
    outcome = sfumato(
        "segment", flat_run, picture, "--with", best, "--with", flat_run,
        "--out", tmp_path / "both", *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err

    def probability(folder: Path) -> np.ndarray:
        return nibabel.load(folder / "probabilities" / "case_00.nii.gz").get_fdata()

    expected = (2 * probability(flat_segmentations) + probability(tmp_path / "best")) / 3
    np.testing.assert_allclose(probability(tmp_path / "both"), expected, atol=1.01 / 255)
    report = json.loads((tmp_path / "both" / "run.json").read_text("utf-8"))
    assert len(report["with"]) == 2
    assert len(report["engines"]) == 3
    alone = json.loads((flat_segmentations / "run.json").read_text("utf-8"))
    assert alone["with"] == []


def test_models_of_another_kind_are_refused_before_anything_is_written(
    sfumato: Callable, flat_run: Path, volume_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = sfumato("segment", flat_run, flat_data / "images", "--with", volume_run, "--out", out)
    assert outcome.code == 2
    assert outcome.err.strip().startswith(
        f"error: {volume_run}: its probabilities cannot be averaged with others, since its classes"
        f" are shell [outer], core, but those of {flat_run} foreground; it takes images with 2"
        f" channels, but those of {flat_run} have 1; it takes 3-D images"
    )
    assert not out.exists()


@pytest.fixture(scope="module")
def uncertain(
    sfumato: Callable,
    calibrated_run: Path,
    volume_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("uncertain") / "out"
    outcome = sfumato(
        "segment", calibrated_run, volume_data, "--out", out, "--uncertainty", "--level=0.8",
        *HERE,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "no interval" not in outcome.out
    return out


def test_contours_of_each_structure_are_those_of_its_probability(
    uncertain: Path, volume_data: Path
) -> None:
    for name in names_in(volume_data / "images"):
        stored = nibabel.load(uncertain / "probabilities" / name)
        case_id = name.removesuffix(".nii.gz")
        for index, word in ((1, "shellouter"), (2, "core")):
            found = nibabel.load(uncertain / "contours" / f"{case_id}_label-{word}.nii.gz")
            np.testing.assert_array_equal(found.affine, stored.affine)
            contours = np.asarray(found.dataobj)
            probability = stored.get_fdata()[..., index]
            for least, level in ((1, 0.1), (2, 0.5), (3, 0.9)):
                # Probabilities are stored in steps of 1/255.
                assert probability[contours >= least].min(initial=1) >= level - 1 / 255
                assert probability[contours < least].max(initial=0) <= level + 1 / 255


def test_volumes_are_those_of_the_files_and_have_intervals(uncertain: Path) -> None:
    with (uncertain / "volumes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    document = json.loads((uncertain / "volumes.json").read_text("utf-8"))
    assert (document["level"], document["calibration_cases"], document["notes"]) == (0.8, 5, [])
    assert len(rows) == len(document["volumes"]) == 20
    for row, entry in zip(rows, document["volumes"], strict=True):
        assert {k: v if k in ("case", "structure") else float(v) for k, v in row.items()} == entry
        values = np.asarray(nibabel.load(uncertain / f"{entry['case']}.nii.gz").dataobj)
        index = {"shell [outer]": 1, "core": 2}[entry["structure"]]
        mm3 = 2.5 * 1.0 * 1.2 * (values == (0, 2, 7)[index]).sum()
        assert entry["volume_mm3"] == pytest.approx(mm3)
        assert entry["volume_ml"] == pytest.approx(mm3 / 1000)
        probability = nibabel.load(uncertain / "probabilities" / f"{entry['case']}.nii.gz")
        summed = 3.0 * probability.get_fdata()[..., index].sum()
        assert entry["expected_mm3"] == pytest.approx(summed, rel=0.05)
        assert 0 <= entry["low_mm3"] < entry["expected_mm3"] < entry["high_mm3"]


def test_intervals_that_are_not_known_are_left_open_with_the_reason(
    sfumato: Callable, calibrated_run: Path, flat_run: Path, flat_data: Path, volume_data: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    volume = volume_data / "images" / "case_00.nii.gz"
    picture = flat_data / "images" / "case_00.png"
    reasons = {
        "few": ("5 cases that were held back are too few", calibrated_run, volume),
        "several": ("not of the mean of several", calibrated_run, volume, "--with", calibrated_run),
        "mirrored": ("without mirroring", calibrated_run, volume, "--mirror"),
        "flat": ("no cases were held back", flat_run, picture),
    }
    for name, (reason, *arguments) in reasons.items():
        out = tmp_path / name
        outcome = sfumato("segment", *arguments, "--out", out, "--uncertainty", *HERE)
        assert outcome.code == 0, outcome.err
        document = json.loads((out / "volumes.json").read_text("utf-8"))
        assert reason in outcome.out
        assert reason in document["notes"][0]
        unit = "mm2" if name == "flat" else "mm3"
        assert {row[f"low_{unit}"] for row in document["volumes"]} == {None}
        assert ",,,0.9" in (out / "volumes.csv").read_text("utf-8")
    assert "read mm as pixels" in document["notes"][1]


def test_a_level_that_is_none_is_refused_before_anything_is_written(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato(
        "segment", flat_run, flat_data, "--out", tmp_path / "out", "--uncertainty", "--level=90"
    )
    assert outcome.code == 2
    assert "level must be between 0 and 1, such as 0.9, got 90" in outcome.err
    assert not (tmp_path / "out").exists()


def test_post_processing_of_the_model_is_applied_and_can_be_left_out(
    sfumato: Callable, flat_run: Path, flat_data: Path, flat_segmentations: Path, tmp_path: Path
) -> None:
    settings = PostprocessingSettings(minimum_volume_mm3={"foreground": 1e6})
    replace(TrainedModel.load(flat_run), postprocessing=settings).save(tmp_path / "model")
    picture = flat_data / "images" / "case_00.png"
    found = {}
    for name, options in (("tidy", ()), ("raw", ("--no-postprocessing",))):
        out = tmp_path / name
        outcome = sfumato("segment", tmp_path / "model", picture, "--out", out, *HERE, *options)
        assert outcome.code == 0, outcome.err
        found[name] = (out / "case_00.png").read_bytes()
        report = json.loads((out / "run.json").read_text("utf-8"))
        assert bool(report["postprocessing"]) == (name == "tidy")
    assert found["raw"] == (flat_segmentations / "case_00.png").read_bytes()
    with Picture.open(tmp_path / "tidy" / "case_00.png") as segmentation:
        assert not np.asarray(segmentation).any()


def test_a_spacing_far_from_training_is_warned_of_with_both_values(
    sfumato: Callable, volume_run: Path, volume_data: Path, tmp_path: Path
) -> None:
    image = nibabel.load(volume_data / "images" / "case_00.nii.gz")
    affine = image.affine.copy()
    affine[:3, 0] *= 4
    far = nibabel.Nifti1Image(np.asarray(image.dataobj)[::4], affine)
    nibabel.save(far, tmp_path / "far.nii.gz")
    outcome = sfumato("segment", volume_run, tmp_path / "far.nii.gz",
                      volume_data / "images" / "case_00.nii.gz", "--out", tmp_path / "out",
                      *HERE)  # fmt: skip
    assert outcome.code == 0, outcome.err
    said = "far: its spacing is 1 × 1.2 × 10 mm, far from the 1 × 1.2 × 2.5 mm of training"
    assert said in outcome.out
    report = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    assert list(report["warnings"]) == ["far"]


def test_previews_are_pictures_or_pages_of_their_own(
    sfumato: Callable, flat_run: Path, flat_data: Path, volume_run: Path, volume_data: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    picture = flat_data / "images" / "case_00.png"
    outcome = sfumato("segment", flat_run, picture, "--out", tmp_path / "flat", "--overlay=png",
                      *HERE)  # fmt: skip
    assert outcome.code == 0, outcome.err
    with Picture.open(tmp_path / "flat" / "overlays" / "case_00.png") as preview:
        assert preview.width > 400
    volume = volume_data / "images" / "case_00.nii.gz"
    outcome = sfumato("segment", volume_run, volume, "--out", tmp_path / "volume",
                      "--overlay=html", *HERE)  # fmt: skip
    assert outcome.code == 0, outcome.err
    page = (tmp_path / "volume" / "overlays" / "case_00.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert "shell [outer]" in page
    assert "volume, ml" in page
    report = json.loads((tmp_path / "volume" / "run.json").read_text("utf-8"))
    assert report["seconds"]["case_00"]["draw"] > 0


def test_segmentations_for_3d_slicer_name_their_segments(
    sfumato: Callable, trained_volume_run: Path, volume_data: Path, tmp_path: Path
) -> None:
    volume, out = volume_data / "images" / "case_03.nii.gz", tmp_path / "out"
    outcome = sfumato("segment", trained_volume_run, volume, "--out", out, "--format=seg.nrrd",
                      *HERE)  # fmt: skip
    assert outcome.code == 0, outcome.err
    outcome = sfumato("segment", trained_volume_run, volume, "--out", tmp_path / "nifti",
                      *HERE)  # fmt: skip
    found = SimpleITK.ReadImage(out / "case_03.seg.nrrd")
    expected = SimpleITK.ReadImage(tmp_path / "nifti" / "case_03.nii.gz")
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(found), SimpleITK.GetArrayFromImage(expected)
    )
    assert found.GetOrigin() == pytest.approx(expected.GetOrigin(), abs=1e-4)
    assert found.GetDirection() == pytest.approx(expected.GetDirection(), abs=1e-6)
    assert found.GetMetaData("Segment0_Name") == "shell [outer]"
    assert found.GetMetaData("Segment1_LabelValue") == "7"
    assert "SCT^85756007^Tissue" in found.GetMetaData("Segment1_Tags")
    assert found.GetMetaData("Segmentation_MasterRepresentation") == "Binary labelmap"
    # Read back under the case's own name.
    outcome = sfumato("evaluate", volume_data, out, "--out", tmp_path / "evaluation")
    assert outcome.code == 0, outcome.err


def test_patterns_and_tables_name_inputs(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    table = tmp_path / "mine.csv"
    picture = flat_data / "images" / "case_07.png"
    table.write_text(f"case,image\nlast,{picture}\n")
    outcome = sfumato("segment", flat_run, flat_data / "images" / "case_0[01].png", table,
                      "--out", tmp_path / "out", *HERE)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert names_in(tmp_path / "out", "*.png") == ["case_00.png", "case_01.png", "last.png"]
    outcome = sfumato(
        "segment", flat_run, flat_data / "images" / "no*.png", "--out", tmp_path / "x"
    )
    assert outcome.code == 2
    assert "no*.png: nothing has such a name; check the pattern" in outcome.err
