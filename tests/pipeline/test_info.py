import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_an_image_is_described_by_its_grid(sfumato: Callable, volume_data: Path) -> None:
    image = volume_data / "images" / "case_00.nii.gz"
    facts = json.loads(sfumato("info", image, "--json").out)
    assert facts["kind"] == "image"
    assert facts["shape"] == [14, 22, 20]
    assert facts["channels"] == 2
    assert facts["spacing_mm"] == [2.5, 1.0, 1.2]
    assert facts["extent_mm"] == [35.0, 22.0, 24.0]
    assert facts["affine"][0] == [0.0, -1.0, 0.0, 31.5]
    low, high = (facts["intensity"][name] for name in ("percentile_0_5", "percentile_99_5"))
    assert facts["intensity"]["minimum"] < low < high < facts["intensity"]["maximum"]


def test_an_image_is_described_in_words(sfumato: Callable, volume_data: Path) -> None:
    lines = sfumato("info", volume_data / "images" / "case_00.nii.gz").out.splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert "shape 14 × 22 × 20" in words
    assert "spacing mm 2.5 × 1 × 1.2" in words
    assert any("percentile 0.5 " in line and "maximum" in line for line in words)


def test_a_data_set_is_described_by_its_cases_and_classes(
    sfumato: Callable, volume_data: Path, rater_data: Path
) -> None:
    facts = json.loads(sfumato("info", volume_data, "--json").out)
    assert facts["kind"] == "dataset"
    assert facts["cases"] == facts["groups"] == 10
    assert facts["classes"] == {"background": 0, "shell [outer]": 2, "core": 7}
    assert facts["problems"] == {}
    assert facts["spacing_mm_median"] == [2.5, 1.0, 1.2]
    facts = json.loads(sfumato("info", rater_data, "--json").out)
    assert (facts["groups"], facts["raters"]) == (7, [2])


def test_it_is_said_where_millimetres_are_pixels(
    sfumato: Callable, flat_data: Path, volume_data: Path
) -> None:
    for path in (flat_data, flat_data / "images" / "case_00.png"):
        assert "read mm as pixels" in sfumato("info", path).out
    for path in (volume_data, volume_data / "images" / "case_00.nii.gz"):
        assert "read mm as pixels" not in sfumato("info", path).out


def test_names_in_brackets_are_shown(sfumato: Callable, volume_data: Path) -> None:
    assert "2 shell [outer]" in sfumato("info", volume_data).out


@pytest.mark.parametrize("place", [".", "model", "best_model"])
def test_a_model_is_described_by_its_classes_and_origin(
    sfumato: Callable, flat_run: Path, place: str
) -> None:
    facts = json.loads(sfumato("info", flat_run / place, "--json").out)
    assert facts["kind"] == "model"
    assert facts["classes"] == {"background": 0, "foreground": 255}
    assert facts["window"] == [16, 16]
    assert facts["training_cases"] == 8
    assert "0 background, 255 foreground" in sfumato("info", flat_run / place).out


def test_bad_cases_are_listed_and_the_others_described(sfumato: Callable, small_flat: Path) -> None:
    (small_flat / "images" / "case_01.png").write_bytes(b"\x89PNG")
    outcome = sfumato("info", small_flat)
    assert outcome.code == 1
    first, second = outcome.err.splitlines()
    assert first == "1 of 3 cases failed:"
    assert second.startswith("  case_01: ")
    assert "case_01.png: is damaged" in second
    outcome = sfumato("info", small_flat, "--json")
    assert outcome.code == 1
    facts = json.loads(outcome.out)
    assert list(facts["problems"]) == ["case_01"]
    assert facts["shape_median"] == [40.0, 52.0]
    assert facts["classes"] == {"background": 0, "foreground": 255}


def test_what_is_nothing_of_these_is_refused(sfumato: Callable, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    for path, reason in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "text.txt", "unknown file type '.txt'"),
        (tmp_path, "holds no images"),
    ):
        outcome = sfumato("info", path)
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: {path}: ")
        assert reason in outcome.err


def test_a_run_without_a_model_says_how_to_get_one(sfumato: Callable, tmp_path: Path) -> None:
    (tmp_path / "wishes.toml").touch()
    outcome = sfumato("info", tmp_path)
    assert outcome.code == 2
    assert "--resume finishes it" in outcome.err
