"""Segmenting goes on where it stopped, and never mixes what different models made."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

OPTIONS = ("--device=cpu", "--engine=torch")


def contents(out: Path) -> dict[str, bytes]:
    """Read what was made of the cases."""
    left_out = {".sfumato", "cases.jsonl", "run.json"}
    files = (path for path in out.rglob("*") if path.is_file() and path.name not in left_out)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def lines_of(out: Path) -> list[str]:
    """Name the cases that were done, in order, as often as they were."""
    lines = map(json.loads, (out / "cases.jsonl").read_text("utf-8").splitlines())
    return [line["case"] for line in lines if "case" in line]


@pytest.fixture(scope="module")
def whole(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    outcome = sfumato("segment", flat_run, flat_data, "--out", out, "--uncertainty", *OPTIONS)
    assert outcome.code == 0, outcome.err
    return out


def test_only_what_is_missing_or_changed_is_done(
    sfumato: Callable, flat_run: Path, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("segment", flat_run, small_flat / "images", "--out", out, "--resume", *OPTIONS)
    assert sfumato(*command).code == 0
    assert lines_of(out) == ["case_00", "case_01", "case_02"]
    before = contents(out)

    assert sfumato(*command).code == 0
    assert lines_of(out) == ["case_00", "case_01", "case_02"]

    (out / "case_01.png").unlink()
    picture = small_flat / "images" / "case_02.png"
    with Picture.open(picture) as image:
        changed = np.asarray(image).copy()
    changed[:5] = 0
    Picture.fromarray(changed).save(picture)
    os.utime(small_flat / "images" / "case_00.png")
    assert sfumato(*command).code == 0
    # A new date alone is noted, with what is known; the content was the same.
    assert lines_of(out)[3:] == ["case_00", "case_01", "case_02"]
    after = contents(out)
    assert after["case_00.png"] == before["case_00.png"]
    assert after["case_01.png"] == before["case_01.png"]
    report = json.loads((out / "run.json").read_text("utf-8"))
    assert set(report["seconds"]) == {"case_00", "case_01", "case_02"}


def test_another_model_or_setting_does_all_again_and_leaves_nothing_of_the_former(
    sfumato: Callable, flat_run: Path, small_flat: Path, tmp_path: Path
) -> None:
    images, out = small_flat / "images", tmp_path / "out"
    command = ("segment", flat_run, images, "--out", out, *OPTIONS)
    assert sfumato(*command, "--uncertainty").code == 0
    (images / "case_02.png").write_bytes(b"no picture")
    outcome = sfumato(*command, "--mirror", "--resume")
    assert outcome.code == 1
    assert "case_02" in outcome.err
    assert sorted(contents(out)) == ["case_00.png", "case_01.png"]
    fresh = tmp_path / "fresh"
    sfumato("segment", flat_run, images, "--out", fresh, *OPTIONS, "--mirror")
    assert contents(out) == contents(fresh)


def test_what_another_model_made_of_other_cases_is_not_mixed_in(
    sfumato: Callable, flat_run: Path, small_flat: Path, tmp_path: Path
) -> None:
    images, out = small_flat / "images", tmp_path / "out"
    assert sfumato("segment", flat_run, images, "--out", out, *OPTIONS).code == 0
    before = contents(out)
    outcome = sfumato("segment", flat_run, images / "case_00.png", "--out", out, "--mirror",
                      "--resume", *OPTIONS)  # fmt: skip
    assert outcome.code == 2
    assert "another model or other settings made" in outcome.err
    assert contents(out) == before


def test_without_resume_a_folder_with_segmentations_is_refused(
    sfumato: Callable, flat_run: Path, small_flat: Path, tmp_path: Path
) -> None:
    images, out = small_flat / "images", tmp_path / "out"
    assert sfumato("segment", flat_run, images / "case_00.png", "--out", out, *OPTIONS).code == 0
    outcome = sfumato("segment", flat_run, images, "--out", out, *OPTIONS)
    assert outcome.code == 2
    assert "exists already" in outcome.err
    outcome = sfumato("segment", flat_run, images, "--out", out, "--resume", "--overwrite")
    assert outcome.code == 2
    assert "give one of them" in outcome.err


def test_a_folder_of_soft_labels_is_not_gone_on_with(
    sfumato: Callable, flat_run: Path, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    assert sfumato("soften", small_flat, "--out", out, "--no-pictures").code == 0
    outcome = sfumato("segment", flat_run, small_flat, "--out", out, "--resume", *OPTIONS)
    assert outcome.code == 2
    assert "exists already" in outcome.err


@pytest.fixture
def many(flat_data: Path, tmp_path: Path) -> Path:
    """Give every picture eight times."""
    data = tmp_path / "many"
    data.mkdir()
    for copy in range(8):
        for path in (flat_data / "images").iterdir():
            shutil.copy(path, data / f"{copy}_{path.name}")
    return data


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_it_ends_as_if_it_never_was(
    start_sfumato: Callable, sfumato: Callable, flat_run: Path, many: Path, whole: Path,
    how: signal.Signals,
) -> None:  # fmt: skip
    out = many.parent / "out"
    command = ("segment", flat_run, many, "--out", out, "--uncertainty", "--resume", *OPTIONS)
    process = start_sfumato(*command)
    while not ((out / "cases.jsonl").is_file() and len(lines_of(out)) >= 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(how)
    said, _ = process.communicate()
    n_done = len(lines_of(out))
    assert n_done < 80
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume goes on" in said
    refused = sfumato(*(word for word in command if word != "--resume"))
    assert refused.code == 2

    assert sfumato(*command).code == 0
    assert len(lines_of(out)) == len(set(lines_of(out))) == 80
    found, expected = contents(out), contents(whole)
    for name, content in expected.items():
        folder, _, file = name.rpartition("/")
        if file.startswith("volumes"):
            continue
        place = f"{folder}/" if folder else ""
        assert all(found[f"{place}{copy}_{file}"] == content for copy in range(8)), name
    assert not [*out.rglob(".[0-9]*-*")]
