import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

N_CASES = 10


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "audit.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def shift_picture(path: Path, n: int) -> None:
    with Picture.open(path) as picture:
        values = np.asarray(picture)
    Picture.fromarray(np.roll(values, n, axis=1)).save(path)


@pytest.fixture
def copied_flat(flat_data: Path, tmp_path: Path) -> Path:
    """Give the pictures, for one test to damage."""
    import shutil

    return shutil.copytree(flat_data, tmp_path / "data")


def test_a_shifted_mask_comes_first(sfumato: Callable, copied_flat: Path, tmp_path: Path) -> None:
    shift_picture(copied_flat / "labels" / "case_04.png", 3)
    out = tmp_path / "audit"
    outcome = sfumato("audit", copied_flat, "--out", out, "--pictures", 2)
    assert outcome.code == 0, outcome.err
    assert "Superpixels of" in outcome.out
    rows = rows_of(out)
    assert len(rows) == N_CASES
    assert rows[0]["case"] == "case_04"
    assert rows[0]["rank"] == rows[0]["stands_out"] == "1"
    assert rows[0]["better_supported"] == "2 mm left"
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    document = json.loads((out / "audit.json").read_text("utf-8"))
    assert [case["case"] for case in document["cases"]] == [row["case"] for row in rows]
    first = document["cases"][0]["classes"]["foreground"]
    assert first["move"] == {"shift": [0, -2], "growth_mm": 0.0}
    assert first["places"][0]["element"] == [int(rows[0]["i"]), int(rows[0]["j"])]
    page = (out / "report.html").read_text("utf-8")
    assert "1. case_04, score" in page
    assert page.count("<img") == 3  # two cases, and the spread of scores


def test_volumes_are_audited_class_by_class_in_the_patients_millimetres(
    sfumato: Callable, small_volumes: Path, tmp_path: Path
) -> None:
    path = small_volumes / "labels" / "case_01.nii.gz"
    stored = nibabel.load(path)
    affine, values = stored.affine, np.asarray(stored.dataobj)
    nibabel.save(nibabel.Nifti1Image(np.roll(values, 2, axis=2), affine), path)
    out = tmp_path / "audit"
    outcome = sfumato("audit", small_volumes, "--out", out, "--set=superpixels.size_mm=5")
    assert outcome.code == 0, outcome.err
    rows = rows_of(out)
    assert [row["case"] for row in rows] == ["case_01"] * 2 + ["case_00"] * 2
    assert {row["class"] for row in rows} == {"shell [outer]", "core"}
    for row in rows:
        element = [int(row[name]) for name in "ijk"]
        position = [float(row[f"{name}_mm"]) for name in "xyz"]
        np.testing.assert_allclose((affine @ [*element, 1])[:3], position, atol=0.01)
    assert "size_mm = 5.0" in (out / "config.toml").read_text("utf-8")


def test_a_bad_case_does_not_stop_the_others(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    Picture.new("L", (52, 40), 77).save(small_flat / "images" / "case_01.png")
    Picture.new("L", (52, 40), 0).save(small_flat / "labels" / "case_02.png")
    out = tmp_path / "audit"
    outcome = sfumato("audit", small_flat, "--out", out)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "1 of 3 cases failed:",
        "  case_01: its image is of one intensity throughout; is it the right file?",
    ]
    first, second = rows_of(out)
    assert (first["case"], second["case"]) == ("case_00", "case_02")
    assert second["score"] == second["class"] == ""
    document = json.loads((out / "audit.json").read_text("utf-8"))
    assert document["cases"][1]["score"] is None
    assert list(document["failures"]) == ["case_01"]
    assert "Case case_01 could not be audited" in (out / "report.html").read_text("utf-8")


def test_an_audit_of_nothing_but_bad_cases_writes_nothing(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    for path in (small_flat / "images").iterdir():
        Picture.new("L", (52, 40), 77).save(path)
    outcome = sfumato("audit", small_flat, "--out", tmp_path / "audit")
    assert outcome.code == 2
    assert not (tmp_path / "audit").exists()


def test_images_without_labels_cannot_be_audited(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    outcome = sfumato("audit", small_flat / "images", "--out", tmp_path / "audit")
    assert outcome.code == 2
    assert "nothing to audit" in outcome.err


def test_an_audit_is_overwritten_only_when_told_so(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    command = ("audit", small_flat, "--out", tmp_path / "audit", "--pictures=0")
    assert sfumato(*command).code == 0
    table = (tmp_path / "audit" / "audit.csv").read_bytes()
    assert sfumato(*command).code == 2
    assert sfumato(*command, "--overwrite").code == 0
    assert (tmp_path / "audit" / "audit.csv").read_bytes() == table
