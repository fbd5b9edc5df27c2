import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture


def metrics_in(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


@pytest.fixture
def segmented(sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path: Path) -> Path:
    out = tmp_path / "segmentations"
    # As training computes: other engines may round a few elements to another class.
    flags = ("--probabilities", "--device=cpu", "--engine=torch")
    sfumato("segment", flat_run, flat_data, "--out", out, *flags)
    return out


def test_a_data_set_compared_with_its_own_labels_is_perfect(
    sfumato: Callable, volume_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("evaluate", volume_data, volume_data / "labels", "--out", tmp_path / "out")
    assert outcome.code == 0
    summary = metrics_in(tmp_path / "out")["summary"]
    for name in ("shell [outer]", "core", "mean"):
        assert summary[name]["dice"] == 1
        assert summary[name]["hd95_mm"] == 0
        assert summary[name]["volume_error"] == 0
    assert summary["mean"]["ece"] is None
    assert "Report on 10 of 10 cases" in outcome.out


def test_dice_is_what_counting_pixels_gives(
    sfumato: Callable, flat_data: Path, segmented: Path, tmp_path: Path
) -> None:
    assert sfumato("evaluate", flat_data, segmented, "--out", tmp_path / "out").code == 0
    for row in metrics_in(tmp_path / "out")["cases"]:
        masks = []
        for folder in (segmented, flat_data / "labels"):
            with Picture.open(folder / f"{row['case']}.png") as picture:
                masks.append(np.asarray(picture) > 0)
        expected = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
        assert row["foreground"]["dice"] == pytest.approx(expected)


def test_probabilities_are_judged_where_they_are(
    sfumato: Callable, flat_data: Path, segmented: Path, tmp_path: Path
) -> None:
    sfumato("evaluate", flat_data, segmented, "--out", tmp_path / "with")
    shutil.rmtree(segmented / "probabilities")
    sfumato("evaluate", flat_data, segmented, "--out", tmp_path / "without")
    assert 0 <= metrics_in(tmp_path / "with")["summary"]["mean"]["ece"] <= 1
    assert metrics_in(tmp_path / "without")["summary"]["mean"]["ece"] is None


def test_the_report_of_a_run_can_be_made_again(
    sfumato: Callable, flat_run: Path, flat_data: Path, segmented: Path, tmp_path: Path
) -> None:
    outcome = sfumato(
        "evaluate", flat_data, segmented, "--out", tmp_path / "out", "--run", flat_run
    )
    assert outcome.code == 0
    held_out = metrics_in(flat_run / "evaluation")["cases"]
    again = {row["case"]: row for row in metrics_in(tmp_path / "out")["cases"]}
    for row in held_out:
        assert row["foreground"] == again[row["case"]]["foreground"]
    assert "patches" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_folder_of_label_files_serves_as_references(
    sfumato: Callable, flat_data: Path, segmented: Path, tmp_path: Path
) -> None:
    outcome = sfumato("evaluate", flat_data / "labels", segmented, "--out", tmp_path / "out")
    assert outcome.code == 0
    with (tmp_path / "out" / "metrics.csv").open(encoding="utf-8") as file:
        assert len({row["case"] for row in csv.DictReader(file)}) == 10


def test_references_without_segmentation_are_left_out_and_counted(
    sfumato: Callable, flat_data: Path, segmented: Path, tmp_path: Path
) -> None:
    for name in ("case_00.png", "case_01.png", "case_02.png"):
        (segmented / name).unlink()
    outcome = sfumato("evaluate", flat_data, segmented, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "Report on 7 of 10 cases" in outcome.out
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "3 of 10 references have no segmentation" in report


def test_several_raters_are_read(sfumato: Callable, rater_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    for i in range(10):
        shutil.copy(rater_data / "drawn" / f"{i}b.png", folder / f"case_{i:02}.png")
    outcome = sfumato("evaluate", rater_data, folder, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert 0.8 < metrics_in(tmp_path / "out")["summary"]["mean"]["dice"] < 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "is damaged"),
        (lambda path: Picture.new("L", (52, 40), 9).save(path), "the value 9, which no class has"),
        (lambda path: Picture.new("L", (30, 40)).save(path), "not on the reference's grid"),
    ],
)
def test_a_bad_segmentation_is_listed_last_and_the_others_are_compared(
    sfumato: Callable, flat_data: Path, segmented: Path, tmp_path: Path,
    damage: Callable[[Path], None], reason: str,
) -> None:  # fmt: skip
    damage(segmented / "case_04.png")
    outcome = sfumato("evaluate", flat_data, segmented, "--out", tmp_path / "out")
    assert outcome.code == 1
    first, second = outcome.err.splitlines()
    assert first == "1 of 10 cases failed:"
    assert second.startswith("  case_04: ")
    assert reason in second
    assert len(metrics_in(tmp_path / "out")["cases"]) == 9
    assert "case_04 could not be compared" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_segmentation_without_reference_is_refused(
    sfumato: Callable, flat_data: Path, segmented: Path, tmp_path: Path
) -> None:
    shutil.copy(segmented / "case_00.png", segmented / "stranger.png")
    outcome = sfumato("evaluate", flat_data, segmented, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "there is no reference for 'stranger'" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["references", "segmentations", "run"])
def test_a_missing_folder_is_named(
    sfumato: Callable, flat_data: Path, tmp_path: Path, missing: str
) -> None:
    paths = {"references": flat_data, "segmentations": flat_data / "labels", "run": None}
    paths[missing] = tmp_path / "nowhere"
    run = ["--run", paths["run"]] if paths["run"] else []
    outcome = sfumato(
        "evaluate", paths["references"], paths["segmentations"], "--out", tmp_path / "out", *run
    )
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {tmp_path / 'nowhere'}: ")
    assert not (tmp_path / "out").exists()
