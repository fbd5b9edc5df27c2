"""Tiny made-up data sets, and the command line run on them."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from sfumato.cli.main import main

N_CASES = 10
FLAT_SHAPE = (40, 52)
VOLUME_SHAPE = (14, 22, 20)
VOLUME_SPACING = (2.5, 1.0, 1.2)
VOLUME_VALUES = (0, 2, 7)
# Array axes run to superior, left and posterior: as unlike the model's own axes as can be.
VOLUME_DIRECTIONS = ((0, -1, 0), (0, 0, -1), (1, 0, 0))

SMALL = (
    "--set=patches.batch_size=2",
    "--set=training.validations=2",
    "--set=training.validation_cases=2",
    "--device=cpu",
)
SMALL_FLAT = ("--set=patches.shape=[16,16]", "--set=network.features=[4,8,8]", *SMALL)
SMALL_VOLUME = ("--set=patches.shape=[8,16,16]", "--set=network.features=[4,8,8]", *SMALL)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


def run_here(*arguments: object) -> Outcome:
    """Run a command in this process."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["sfumato", *map(str, arguments)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


def start_process(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sfumato", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Where tests run in the background, the shell has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run_process(*arguments: object) -> Outcome:
    """Run a command in a process of its own."""
    process = start_process(*arguments)
    out, err = process.communicate()
    return Outcome(code=process.returncode, out=out, err=err)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Let tests that run side by side not fight for the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def quick_flat() -> tuple[str, ...]:
    """Give settings with which training on pictures takes seconds."""
    return SMALL_FLAT


@pytest.fixture(scope="session")
def quick_volume() -> tuple[str, ...]:
    """Give settings with which training on volumes takes seconds."""
    return SMALL_VOLUME


@pytest.fixture(scope="session")
def sfumato() -> Callable[..., Outcome]:
    return run_here


@pytest.fixture(scope="session")
def sfumato_process() -> Callable[..., Outcome]:
    return run_process


@pytest.fixture
def start_sfumato() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands that a test interrupts; none outlives it."""
    processes = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        processes.append(start_process(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def disc(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a picture of a blurred disc (uint8), and its mask."""
    rng = np.random.default_rng(index)
    rows, columns = np.indices(FLAT_SHAPE)
    row, column = rng.uniform(14, 26), rng.uniform(16, 36)
    mask = (rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(8, 12) ** 2
    image = 60 + 120 * gaussian_filter(mask.astype(float), 1.5) + rng.normal(0, 8, FLAT_SHAPE)
    return image.clip(0, 255).astype(np.uint8), mask


def ball(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a volume of a ball in a shell, two channels (channel last), and its class indices."""
    rng = np.random.default_rng(index)
    position = np.moveaxis(np.indices(VOLUME_SHAPE), 0, -1) * VOLUME_SPACING
    centre = np.array(VOLUME_SHAPE) * VOLUME_SPACING / 2 + rng.uniform(-2, 2, 3)
    distance = np.linalg.norm(position - centre, axis=-1)
    label = (distance < 8.5).astype(np.uint8) + (distance < 5)
    bright = gaussian_filter(np.stack([label > 0, label > 1], axis=-1).astype(float), (1, 1, 1, 0))
    image = 100 * bright + rng.normal(0, 6, bright.shape)
    return image.astype(np.float32), label


def volume_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(VOLUME_DIRECTIONS) * VOLUME_SPACING
    affine[:3, 3] = (31.5, -12.0, 7.25)
    return affine


def save_picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(values).save(path)


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = volume_affine() if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(values, place), path)


def write_flat(folder: Path, n_cases: int = N_CASES) -> Path:
    """Write PNG images with masks of 0 and 255."""
    for i in range(n_cases):
        image, mask = disc(i)
        save_picture(folder / "images" / f"case_{i:02}.png", image)
        save_picture(folder / "labels" / f"case_{i:02}.png", 255 * mask.astype(np.uint8))
    return folder


def write_volumes(folder: Path, n_cases: int = N_CASES) -> Path:
    """Write NIfTI volumes: two channels, an odd orientation, classes 0, 2 and 7."""
    for i in range(n_cases):
        image, label = ball(i)
        save_volume(folder / "images" / f"case_{i:02}.nii.gz", image)
        values = np.array(VOLUME_VALUES, np.uint8)[label]
        save_volume(folder / "labels" / f"case_{i:02}.nii.gz", values)
    labels = {"background": 0, "shell [outer]": 2, "core": 7}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def write_raters(folder: Path, groups: Sequence[str]) -> Path:
    """Write pictures that two raters drew, listed in a manifest with groups."""
    rows = ["case,group,image,labels"]
    for i, group in enumerate(groups):
        image, mask = disc(i)
        save_picture(folder / "img" / f"{i}.png", image)
        for rater, shift in (("a", 0), ("b", 1)):
            drawn = np.roll(mask, shift, axis=0).astype(np.uint8)
            save_picture(folder / "drawn" / f"{i}{rater}.png", drawn)
        rows.append(f"case_{i:02},{group},img/{i}.png,drawn/{i}a.png;drawn/{i}b.png")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_nnunet(folder: Path, n_cases: int = N_CASES) -> Path:
    """Write volumes as nnU-Net keeps them: a file for each channel."""
    for i in range(n_cases):
        image, label = ball(i)
        for channel in range(2):
            path = folder / "imagesTr" / f"ball_{i:03}_{channel:04}.nii.gz"
            save_volume(path, image[..., channel])
        save_volume(folder / "labelsTr" / f"ball_{i:03}.nii.gz", label)
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="session")
def flat_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flat(tmp_path_factory.mktemp("flat") / "discs")


@pytest.fixture(scope="session")
def volume_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("volumes") / "balls")


@pytest.fixture
def small_flat(tmp_path: Path) -> Path:
    """Give three pictures, for one test to damage."""
    return write_flat(tmp_path / "discs", n_cases=3)


@pytest.fixture
def small_volumes(tmp_path: Path) -> Path:
    """Give two volumes, for one test to damage."""
    return write_volumes(tmp_path / "balls", n_cases=2)


@pytest.fixture(scope="session")
def rater_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    groups = ["p3", "p1", "p1", "p2", "p2", "p4", "p5", "p5", "p6", "p7"]
    return write_raters(tmp_path_factory.mktemp("raters") / "drawn_twice", groups)


@pytest.fixture(scope="session")
def nnunet_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nnunet(tmp_path_factory.mktemp("nnunet") / "Dataset001_Balls", n_cases=5)


@pytest.fixture(scope="session")
def flat_run(tmp_path_factory: pytest.TempPathFactory, flat_data: Path) -> Path:
    """Give a finished training on pictures."""
    return train_briefly(tmp_path_factory.mktemp("flat_run") / "run", flat_data, SMALL_FLAT)


@pytest.fixture(scope="session")
def volume_run(tmp_path_factory: pytest.TempPathFactory, volume_data: Path) -> Path:
    """Give a finished training on volumes."""
    return train_briefly(tmp_path_factory.mktemp("volume_run") / "run", volume_data, SMALL_VOLUME)


@pytest.fixture(scope="session")
def trained_volume_run(tmp_path_factory: pytest.TempPathFactory, volume_data: Path) -> Path:
    """Give a training on volumes that was long enough to learn something."""
    out = tmp_path_factory.mktemp("trained_volume_run") / "run"
    return train_briefly(out, volume_data, (*SMALL_VOLUME, "--fold=none"), steps=200)


@pytest.fixture(scope="session")
def calibrated_run(tmp_path_factory: pytest.TempPathFactory, volume_data: Path) -> Path:
    """Give a training on three volumes, with five held back to calibrate the model."""
    out = tmp_path_factory.mktemp("calibrated_run") / "run"
    return train_briefly(out, volume_data, (*SMALL_VOLUME, "--set=calibration.cases=5"), steps=60)


def train_briefly(out: Path, data: Path, settings: Sequence[str], steps: int = 20) -> Path:
    outcome = run_here("train", data, "--out", out, f"--steps={steps}", *settings)
    assert outcome.code == 0, outcome.err
    return out
