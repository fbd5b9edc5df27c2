import json
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ("--sizes=6,9", "--compactness=0.1", "--scales=1,2", "--sigmas=1,2")


@pytest.fixture(scope="module")
def swept(
    sfumato: Callable, rater_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Give what a sweep over pictures that two people drew printed and wrote."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    outcome = sfumato("sweep", rater_data, "--out", out, *SMALL)
    assert outcome.code == 0, outcome.err
    return outcome.out, out


def read(out: Path) -> dict:
    return json.loads((out / "sweep.json").read_text("utf-8"))


def test_a_setting_is_recommended_with_its_reason(swept: tuple[str, Path]) -> None:
    printed, out = swept
    written = read(out)
    assert "Recommended: superpixel" in printed
    assert written["reason"] in printed
    assert written["verdict"] in printed
    assert written["criterion"] == "brier"
    assert written["recommended"]["size_mm"] in (6, 9)
    assert len(written["candidates"]) == 2 * 2 + 1 + 2 + 2 + 2 * 2
    assert set(written["differences"]) == {"none", "gaussian", "distance", "grid"}
    page = (out / "report.html").read_text("utf-8")
    assert written["reason"].replace("'", "&#39;")[:60] in page
    assert "Size and compactness" in page


def test_the_halves_share_no_group(swept: tuple[str, Path], rater_data: Path) -> None:
    lines = (rater_data / "cases.csv").read_text("utf-8").splitlines()[1:]
    group_of = dict(line.split(",")[:2] for line in lines)
    cases = read(swept[1])["cases"]
    choosing, held_out = ({group_of[c] for c in cases[half]} for half in ("choosing", "held_out"))
    assert choosing
    assert held_out
    assert not choosing & held_out
    assert len(cases["choosing"]) + len(cases["held_out"]) == len(lines)


def test_the_recommended_settings_go_into_softening(
    sfumato: Callable, swept: tuple[str, Path], small_flat: Path, tmp_path: Path
) -> None:
    config = swept[1] / "config.toml"
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft", "--config", config)
    assert outcome.code == 0, outcome.err
    size_mm = read(swept[1])["recommended"]["size_mm"]
    assert f"Superpixels of {size_mm:g} mm" in outcome.out


def test_the_same_data_give_the_same_recommendation(
    sfumato: Callable, swept: tuple[str, Path], rater_data: Path, tmp_path: Path
) -> None:
    sfumato("sweep", rater_data, "--out", tmp_path / "again", *SMALL)
    again, first = read(tmp_path / "again"), read(swept[1])
    for name in ("candidates", "differences", "cases", "recommended", "best"):
        assert again[name] == first[name]


def test_without_raters_it_is_said_to_be_no_proof(
    sfumato: Callable, volume_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    outcome = sfumato("sweep", volume_data, "--out", out, "--cases=3", "--sizes=4,6")
    assert outcome.code == 0, outcome.err
    assert "no proof" in outcome.out
    written = read(out)
    assert written["criterion"] == "accuracy_gain"
    assert written["differences"] == {}
    assert len(written["cases"]["choosing"] + written["cases"]["held_out"]) == 3
    assert {c["method"] for c in written["candidates"]} == {"superpixel"}
    assert "Nobody drew a case twice" in (out / "report.html").read_text("utf-8")


def test_a_bad_case_does_not_stop_the_others(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    (small_flat / "images" / "case_01.png").write_bytes(b"no picture")
    outcome = sfumato("sweep", small_flat, "--out", tmp_path / "sweep", *SMALL)
    assert outcome.code == 1
    assert "1 of 3 cases failed" in outcome.err
    assert set(read(tmp_path / "sweep")["failures"]) == {"case_01"}
    assert "case_01 could not be measured" in (tmp_path / "sweep/report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--sizes=4,x", "--sizes takes numbers above 0"),
        ("--scales=0", "--scales takes numbers above 0"),
        ("--sigmas=", "--sigmas takes numbers above 0"),
        ("--cases=99", "--cases must be from 1 to 3"),
    ],
)
def test_impossible_wishes_are_one_plain_line(
    sfumato: Callable, small_flat: Path, tmp_path: Path, option: str, words: str
) -> None:
    outcome = sfumato("sweep", small_flat, "--out", tmp_path / "sweep", option)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "sweep").exists()


def test_an_output_folder_is_emptied_only_when_told_so(
    sfumato: Callable, swept: tuple[str, Path], rater_data: Path
) -> None:
    outcome = sfumato("sweep", rater_data, "--out", swept[1], *SMALL)
    assert outcome.code == 2
    assert "add --overwrite" in outcome.err
