import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("method", ["superpixel", "gaussian"])
def test_a_report_tells_how_far_softening_went(
    sfumato: Callable, small_volumes: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "soft"
    outcome = sfumato("soften", small_volumes, "--out", out, "--method", method, "--report")
    assert outcome.code == 0, outcome.err
    assert f"Report in {out / 'report.html'}" in outcome.out
    page = (out / "report.html").read_text("utf-8")
    assert "of the elements became soft" in page
    assert page.count("data:image/png;base64,") == 2
    cases = json.loads((out / "softness.json").read_text("utf-8"))["cases"]
    shares = json.loads((out / "run.json").read_text("utf-8"))["softened_share"]
    assert [case["case_id"] for case in cases] == list(shares)
    for case in cases:
        # The report tells of what was written, in steps of 1/255.
        assert case["softened_share"] <= shares[case["case_id"]] + 1e-9
        assert case["softened_share"] > 0
        assert (case["n_superpixels"] is None) == (method == "gaussian")
        assert case["brier"] is None
        assert set(case["volume_shift"]) == {"shell [outer]", "core"}


def test_several_raters_tell_how_well_they_are_predicted(
    sfumato: Callable, rater_data: Path, tmp_path: Path
) -> None:
    cross_entropy = {}
    for method in ("none", "superpixel"):
        out = tmp_path / method
        outcome = sfumato("soften", rater_data, "--out", out, "--method", method, "--report")
        assert outcome.code == 0, outcome.err
        cases = json.loads((out / "softness.json").read_text("utf-8"))["cases"]
        assert all(0 < case["brier"] < 2 and case["cross_entropy"] > 0 for case in cases)
        cross_entropy[method] = sum(case["cross_entropy"] for case in cases) / len(cases)
    assert cross_entropy["superpixel"] < cross_entropy["none"]
    assert "Cross-entropy" in (tmp_path / "none" / "report.html").read_text("utf-8")


def test_a_case_that_failed_is_left_out_of_the_report(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    (small_flat / "images" / "case_01.png").write_bytes(b"no picture")
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft", "--report")
    assert outcome.code == 1
    page = (tmp_path / "soft" / "report.html").read_text("utf-8")
    assert "Case case_01 is left out" in page
    assert "2&nbsp;cases" in page or "2\u00a0cases" in page
