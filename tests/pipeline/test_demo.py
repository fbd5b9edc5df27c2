from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_writes_a_report_on_real_images(
    sfumato: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nilearn", reason="the demo's images come with nilearn")
    monkeypatch.setattr("sfumato.cli.demo.STEPS_PER_MODEL", 5)
    outcome = sfumato("demo", "--out", tmp_path / "demo")
    assert outcome.code == 0, outcome.err
    report = (tmp_path / "demo" / "report.html").read_text("utf-8")
    assert "proves no accuracy" in report
    assert "From hard labels to soft ones" in report
    assert "What models learn from them" in report
    for name in (
        "metrics.json",
        "metrics.csv",
        "run/model/model.toml",
        "run_hard/model/model.toml",
    ):
        assert (tmp_path / "demo" / name).exists()
