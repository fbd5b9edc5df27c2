"""Softening an archive: stopped, killed and changed at any moment, nothing is lost or doubled."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture

from sfumato.workflow import softening
from sfumato.workflow.manifest import MANIFEST_NAME, Manifest

QUICK = ("--no-pictures", "--set=superpixels.size_mm=6")


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / MANIFEST_NAME).read_text("utf-8").splitlines()]


def cases_of(out: Path) -> list[str]:
    """Return the cases as they were noted, one as often as it was done."""
    return [line["case"] for line in lines_of(out) if "case" in line]


def soft_labels(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


def wait_for_cases(out: Path, n: int) -> None:
    for _ in range(3000):
        path = out / MANIFEST_NAME
        if path.exists() and path.read_bytes().count(b'{"case"') >= n:
            return
        time.sleep(0.01)
    raise AssertionError("no case was done in half a minute")


@pytest.fixture(scope="module")
def whole(sfumato: Callable, flat_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the soft labels of a run that nothing disturbed, by one process."""
    out = tmp_path_factory.mktemp("whole") / "soft"
    outcome = sfumato("soften", flat_data, "--out", out, *QUICK, "--workers=1")
    assert outcome.code == 0, outcome.err
    return out


def test_the_manifest_holds_the_hashes_of_what_was_read_and_written(
    flat_data: Path, whole: Path
) -> None:
    start, *entries = lines_of(whole)
    assert start["start"]["settings"]["superpixels"]["size_mm"] == 6
    assert start["start"]["sfumato"]
    assert sorted(entry["case"] for entry in entries) == [f"case_{i:02}" for i in range(10)]
    for entry in entries:
        name = entry["case"]
        image, label = flat_data / "images" / f"{name}.png", flat_data / "labels" / f"{name}.png"
        assert list(entry["inputs"]) == [str(image), str(label)]
        files = [(Path(path), state) for path, state in entry["inputs"].items()]
        files += [(whole / path, state) for path, state in entry["outputs"].items()]
        assert len(files) == 4
        assert list(entry["seconds"]) == ["read", "soften", "write"]
        for path, state in files:
            assert state["n_bytes"] == path.stat().st_size
            assert state["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_soft_labels_are_the_same_to_the_bit_however_many_workers_there_are(
    sfumato: Callable, flat_data: Path, whole: Path, tmp_path: Path
) -> None:
    assert sfumato("soften", flat_data, "--out", tmp_path, *QUICK, "--workers=3").code == 0
    assert soft_labels(tmp_path) == soft_labels(whole)


def test_a_killed_run_goes_on_where_it_was(
    sfumato: Callable, start_sfumato: Callable, flat_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", flat_data, "--out", out, *QUICK, "--workers=2")
    process = start_sfumato(*command)
    wait_for_cases(out, 2)
    process.kill()
    process.wait()
    n_done = len(cases_of(out))
    with (out / MANIFEST_NAME).open("a") as file:
        file.write('{"case": "case_0')
    (out / ".4711-case_09.nii.gz").write_bytes(b"half")
    outcome = sfumato(*command, "--resume")
    assert outcome.code == 0, outcome.err
    assert n_done == 10 or f"Softening labels, {n_done} are done ({10 - n_done})" in outcome.out
    assert soft_labels(out) == soft_labels(whole)
    assert set(Counter(cases_of(out)).values()) == {1}
    assert not list(out.glob(".[0-9]*"))
    assert len(json.loads((out / "run.json").read_text("utf-8"))["softened_share"]) == 10


def test_ctrl_c_stops_and_the_same_command_goes_on(
    sfumato: Callable, start_sfumato: Callable, flat_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    # Pictures take so long that the run is not over before it is stopped.
    command = ("soften", flat_data, "--out", out, QUICK[1], "--workers=1")
    process = start_sfumato(*command)
    wait_for_cases(out, 1)
    process.send_signal(signal.SIGINT)
    printed, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command with --resume goes on." in printed
    assert not complaint
    assert not list(out.glob(".[0-9]*"))
    assert 1 <= len(cases_of(out)) < 10
    assert sfumato(*command, "--resume").code == 0
    assert soft_labels(out) == soft_labels(whole)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_worker_that_is_killed_costs_one_case(
    sfumato: Callable, start_sfumato: Callable, flat_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", flat_data, "--out", out, QUICK[1], "--workers=1")
    process = start_sfumato(*command)
    wait_for_cases(out, 1)
    (forkserver,) = (pid for pid in children(process.pid) if children(pid))
    os.kill(children(forkserver)[0], signal.SIGKILL)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 1
    title, case = complaint.splitlines()
    assert title == "1 of 10 cases failed:"
    assert case.endswith(
        ": its process was killed, most likely because memory ran out; run again with fewer"
        " --workers"
    )
    assert len(cases_of(out)) == 9
    assert sfumato(*command, "--resume").code == 0
    assert soft_labels(out) == soft_labels(whole)


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
        except OSError:  # gone meanwhile
            continue
        if int(parent) == pid:
            found.append(int(path.parent.name))
    return found


def test_only_what_changed_is_done_again(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", small_flat, "--out", out, "--no-pictures", "--resume")
    assert sfumato(*command).code == 0
    before = soft_labels(out)
    written = (out / "case_00.nii.gz").stat().st_mtime_ns

    assert sfumato(*command).code == 0
    assert len(cases_of(out)) == 3

    # The same content under a new date is looked at, and left.
    os.utime(small_flat / "labels" / "case_00.png")
    Picture.new("L", (52, 40), 0).save(small_flat / "labels" / "case_01.png")
    (out / "case_02.nii.gz").unlink()
    assert sfumato(*command).code == 0
    assert sorted(cases_of(out)[3:]) == ["case_00", "case_01", "case_02"]
    assert (out / "case_00.nii.gz").stat().st_mtime_ns == written
    after = soft_labels(out)
    assert [name for name in before if before[name] != after[name]] == ["case_01.nii.gz"]

    assert sfumato(*command, "--method=uniform").code == 0
    assert len(cases_of(out)) == 9
    again = soft_labels(out)
    assert all(again[name] != after[name] for name in again)


def test_settings_that_a_rule_does_not_look_at_change_nothing(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", small_flat, "--out", out, "--no-pictures", "--resume", "--method=distance")
    assert sfumato(*command).code == 0
    assert sfumato(*command, "--set=superpixels.size_mm=6").code == 0
    assert len(cases_of(out)) == 3
    assert sfumato(*command, "--set=softening.scale_mm=2").code == 0
    assert len(cases_of(out)) == 6


def test_cases_that_are_added_do_not_change_what_was_chosen(
    sfumato: Callable, flat_data: Path, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", small_flat, "--out", out, "--no-pictures", "--resume")
    assert sfumato(*command).code == 0
    for folder in ("images", "labels"):
        for i in range(3, 10):
            shutil.copy(flat_data / folder / f"case_{i:02}.png", small_flat / folder)
    outcome = sfumato(*command)
    assert "Softening labels, 3 are done (7)" in outcome.out
    assert set(Counter(cases_of(out)).values()) == {1}


def test_what_cannot_be_softened_any_more_leaves_no_old_soft_label(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", small_flat, "--out", out, *QUICK, "--resume")
    assert sfumato(*command).code == 0
    (small_flat / "labels" / "case_01.png").write_bytes(b"damaged")
    outcome = sfumato(*command)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("  case_01: ")
    assert sorted(soft_labels(out)) == ["case_00.nii.gz", "case_02.nii.gz"]
    report = json.loads((out / "run.json").read_text("utf-8"))
    assert list(report["softened_share"]) == ["case_00", "case_02"]
    assert list(report["failures"]) == ["case_01"]


def test_pictures_are_left_out_and_drawn_later(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    command = ("soften", small_flat, "--out", out, QUICK[1])
    assert sfumato(*command, "--no-pictures").code == 0
    assert not list(out.glob("*.png"))
    before = soft_labels(out)
    assert sfumato(*command, "--resume").code == 0
    assert len(list(out.glob("*.png"))) == 3
    assert soft_labels(out) == before
    assert sfumato(*command, "--resume", "--no-pictures").code == 0
    assert len(cases_of(out)) == 6


def test_many_cases_are_spread_over_folders_that_stay(
    sfumato: Callable, monkeypatch: pytest.MonkeyPatch, small_flat: Path, whole: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(softening, "FLAT_CASES", 2)
    out = tmp_path / "soft"
    command = ("soften", small_flat, "--out", out, *QUICK)
    assert sfumato(*command).code == 0
    folder = hashlib.sha256(b"case_00").hexdigest()[:2]
    assert (out / folder / "case_00.nii.gz").exists()
    assert (out / folder / "case_00.json").exists()
    assert not list(out.glob("*.nii.gz"))
    assert soft_labels(out).items() <= soft_labels(whole).items()
    monkeypatch.undo()
    assert sfumato(*command, "--resume").code == 0
    assert len(cases_of(out)) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_which_case_has_the_wrong_channels_does_not_depend_on_the_workers(
    sfumato: Callable, small_flat: Path, tmp_path: Path, workers: int
) -> None:
    path = small_flat / "images" / "case_01.png"
    Picture.new("RGB", (52, 40), (9, 8, 7)).save(path)
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft", *QUICK,
                      f"--workers={workers}")  # fmt: skip
    assert outcome.code == 1
    assert outcome.err.splitlines()[1:] == [
        f"  case_01: {path}: the image has 3 channels, but case 'case_00' has 1;"
        " every case of a data set must have the same channels"
    ]


def test_two_runs_in_one_folder_are_refused(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    assert sfumato("soften", small_flat, "--out", out, *QUICK).code == 0
    with Manifest(out / MANIFEST_NAME):
        outcome = sfumato("soften", small_flat, "--out", out, *QUICK, "--resume")
    assert outcome.code == 2
    assert "another process is working in this folder" in outcome.err


def test_lines_that_were_damaged_count_for_nothing(whole: Path, tmp_path: Path) -> None:
    lines = (whole / MANIFEST_NAME).read_bytes().splitlines(keepends=True)
    lines[3] = b"\0" * len(lines[3][:-1]) + b"\n"
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(b"".join(lines)[:-9])
    with Manifest(path) as manifest:
        known = [manifest.find(f"case_{i:02}") for i in range(10)]
        assert sum(entry is not None for entry in known) == 8
        assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("options", [("--resume", "--overwrite"), ("--workers=1", "--ray=auto")])
def test_options_that_contradict_each_other_are_refused(
    sfumato: Callable, small_flat: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft", *options)
    assert outcome.code == 2
    assert "give one of them" in outcome.err


@pytest.mark.parametrize("module", ["archive", "softening"])
def test_neither_workers_nor_the_command_load_torch_or_what_draws(module: str) -> None:
    code = f"import sfumato.workflow.{module}, sys; print(*sys.modules, sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8"
    )
    assert not {"torch", "monai", "matplotlib"} & set(result.stdout.split())
