"""An experiment that is killed again and again ends as one that never was."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

N_KILLS = 2


def results_of(out: Path) -> dict[str, Any]:
    """Read what an experiment found, without when and how fast."""
    written = json.loads((out / "comparison.json").read_text("utf-8"))
    runs = [{**run, "seconds": None} for run in written["runs"]]
    return {**written, "created": None, "runs": runs}


@pytest.mark.slow
def test_killed_at_random_moments_it_finds_the_same(
    start_sfumato: Callable, sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    rng = random.Random(4)
    settings = (
        "--steps=8", "--folds=0/5", "--seeds=1", "--noise=none,shift:3mm", "--train-cases=3",
        "--set=calibration.cases=1", *quick_flat,
    )  # fmt: skip
    started = time.monotonic()
    whole = sfumato("compare", flat_data, "--out", tmp_path / "whole", *settings)
    seconds = time.monotonic() - started
    assert whole.code == 0, whole.err

    command = ("compare", flat_data, "--out", tmp_path / "killed", "--resume", *settings)
    for _ in range(N_KILLS):
        process = start_sfumato(*command)
        time.sleep(rng.uniform(0.3, 0.8) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ended = sfumato(*command)
    assert ended.code == 0, ended.err
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")
    for path in sorted((tmp_path / "whole").glob("runs/*/model/weights.safetensors")):
        other = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes()
    # Nothing is kept that only going on would have needed.
    assert not [*(tmp_path / "killed").glob("runs/*/prepared")]
    assert not [*(tmp_path / "killed").rglob("checkpoint*")]
    assert not [*(tmp_path / "killed").rglob(".[0-9]*-*")]
