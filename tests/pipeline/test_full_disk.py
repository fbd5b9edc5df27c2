"""A disk that is full ends a command with one line, and leaves nothing half-written."""

import os
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from safetensors.numpy import load_file


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount disks of a few kilobytes."""
    places: list[Path] = []

    def mount(kilobytes: int) -> Path:
        place = tmp_path / f"disk_{kilobytes}k"
        place.mkdir()
        if os.geteuid() != 0:
            pytest.skip("a small disk can only be mounted by root")
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        if result.returncode:
            pytest.skip(f"no small disk can be mounted here: {result.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)


def assert_every_file_is_whole(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.name.startswith(".") or path.name == ".sfumato", path
        if path.suffix == ".gz":
            np.asarray(nibabel.load(path).dataobj)
        elif path.suffix == ".png":
            with Picture.open(path) as picture:
                picture.load()
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text("utf-8"))
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".npy":
            np.load(path)


@pytest.mark.parametrize("kilobytes", [16, 48, 64])
def test_softening_on_a_full_disk_names_the_file(
    sfumato: Callable, small_disk: Callable, small_volumes: Path, kilobytes: int
) -> None:
    out = small_disk(kilobytes) / "soft"
    outcome = sfumato("soften", small_volumes, "--out", out)
    assert outcome.code in (1, 2)
    assert "the disk is full; free some space and run again" in outcome.err.splitlines()[-1]
    assert str(out) in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    assert_every_file_is_whole(out)


@pytest.mark.parametrize("kilobytes", [12, 20])
def test_segmenting_on_a_full_disk_names_the_file(
    sfumato: Callable, small_disk: Callable, volume_run: Path, volume_data: Path, kilobytes: int
) -> None:
    out = small_disk(kilobytes) / "out"
    outcome = sfumato("segment", volume_run, volume_data, "--out", out, "--probabilities",
                      "--device=cpu")  # fmt: skip
    assert outcome.code in (1, 2)
    assert "the disk is full; free some space and run again" in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    assert_every_file_is_whole(out)


@pytest.mark.parametrize("kilobytes", [44, 320, 350, 600, 900])
def test_training_on_a_full_disk_names_the_file(
    sfumato: Callable, quick_flat: tuple, small_disk: Callable, flat_data: Path, kilobytes: int
) -> None:
    out = small_disk(kilobytes) / "run"
    outcome = sfumato(
        "train", flat_data, "--out", out, "--steps=20", *quick_flat,
        "--set=training.validations=10", "--set=training.validation_cases=1",
    )  # fmt: skip
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "the disk is full; free some space and run again" in outcome.err
    assert_every_file_is_whole(out)


def test_evaluating_on_a_full_disk_names_the_file(
    sfumato: Callable, small_disk: Callable, flat_data: Path
) -> None:
    out = small_disk(24) / "evaluation"
    outcome = sfumato("evaluate", flat_data, flat_data / "labels", "--out", out)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert f"error: {out}" in outcome.err
    assert "the disk is full; free some space and run again" in outcome.err
    assert_every_file_is_whole(out)
