import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

METHODS = ("superpixel", "distance", "uniform", "gaussian", "svls", "none")


def soft_label(path: Path) -> np.ndarray:
    """Read a soft label as the bytes that are stored, classes last."""
    stored = nibabel.load(path)
    raw = np.asarray(stored.dataobj.get_unscaled())
    assert raw.dtype == np.uint8
    assert stored.dataobj.slope == pytest.approx(1 / 255)
    assert stored.dataobj.inter == 0
    assert (raw.sum(axis=-1, dtype=int) == 255).all()
    return raw


@pytest.mark.parametrize("method", METHODS)
def test_every_method_softens_pictures(
    sfumato: Callable, small_flat: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "soft"
    outcome = sfumato("soften", small_flat, "--out", out, "--method", method)
    assert outcome.code == 0, outcome.err
    for i in range(3):
        raw = soft_label(out / f"case_{i:02}.nii.gz")
        with Picture.open(small_flat / "labels" / f"case_{i:02}.png") as picture:
            label = np.asarray(picture) // 255
        assert raw.shape == (*label.shape, 1, 2)
        if method not in ("gaussian", "svls"):
            np.testing.assert_array_equal(raw[:, :, 0].argmax(axis=-1), label)
        is_hard = set(np.unique(raw)) == {0, 255}
        assert is_hard == (method == "none")
        with Picture.open(out / f"case_{i:02}.png") as picture:
            assert picture.width > 100
    assert json.loads((out / "case_00.json").read_text("utf-8"))["LabelMap"] == [
        "background", "foreground",
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_softens_volumes(
    sfumato: Callable, small_volumes: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "soft"
    outcome = sfumato("soften", small_volumes, "--out", out, "--method", method)
    assert outcome.code == 0, outcome.err
    for i in range(2):
        stored = nibabel.load(out / f"case_{i:02}.nii.gz")
        reference = nibabel.load(small_volumes / "labels" / f"case_{i:02}.nii.gz")
        assert stored.shape == (*reference.shape, 3)
        np.testing.assert_array_equal(stored.affine, reference.affine)
        raw = soft_label(out / f"case_{i:02}.nii.gz")
        if method not in ("gaussian", "svls"):
            values = np.array([0, 2, 7])[raw.argmax(axis=-1)]
            np.testing.assert_array_equal(values, np.asarray(reference.dataobj))
        assert (out / f"case_{i:02}.png").stat().st_size > 1000


def test_superpixel_labels_are_soft_near_the_boundary_only(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    sfumato("soften", small_flat, "--out", tmp_path / "soft")
    raw = soft_label(tmp_path / "soft" / "case_00.nii.gz")[:, :, 0, 1]
    is_soft = (raw > 0) & (raw < 255)
    assert 0.01 < is_soft.mean() < 0.5
    assert raw[0, 0] == 0
    report = json.loads((tmp_path / "soft" / "run.json").read_text("utf-8"))
    assert report["softened_share"]["case_00"] == pytest.approx(is_soft.mean(), abs=0.01)


def test_settings_reach_the_method_and_are_stored(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    outcome = sfumato(
        "soften", small_flat, "--out", out, "--method=uniform", "--set=softening.epsilon=0.4"
    )
    assert outcome.code == 0
    assert set(np.unique(soft_label(out / "case_00.nii.gz"))) == {51, 204}
    assert "epsilon = 0.4" in (out / "config.toml").read_text("utf-8")
    again = sfumato(
        "soften", small_flat, "--out", tmp_path / "again", "--config", out / "config.toml"
    )
    assert again.code == 0
    name = "case_00.nii.gz"
    assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_the_size_of_superpixels_is_chosen_from_the_data_or_set(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "chosen")
    chosen_mm = float(re.search(r"Superpixels of ([\d.]+) mm", outcome.out)[1])
    assert 4 <= chosen_mm < 10
    outcome = sfumato(
        "soften", small_flat, "--out", tmp_path / "set", "--set=superpixels.size_mm=10"
    )
    assert "Superpixels of 10 mm" in outcome.out
    label = "case_00.nii.gz"
    assert (tmp_path / "set" / label).read_bytes() != (tmp_path / "chosen" / label).read_bytes()


@pytest.mark.parametrize("method", ["superpixel", "distance", "gaussian", "svls"])
@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_and_a_full_mask_are_no_errors_and_stay_hard(
    sfumato: Callable, small_flat: Path, tmp_path: Path, value: int, method: str
) -> None:
    Picture.new("L", (52, 40), value).save(small_flat / "labels" / "case_01.png")
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft", "--method", method)
    assert outcome.code == 0, outcome.err
    raw = soft_label(tmp_path / "soft" / "case_01.nii.gz")
    assert (raw[..., value // 255] == 255).all()


def test_a_constant_image_is_no_error_and_its_label_stays_hard(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    Picture.new("L", (52, 40), 77).save(small_flat / "images" / "case_01.png")
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft")
    assert outcome.code == 0, outcome.err
    assert set(np.unique(soft_label(tmp_path / "soft" / "case_01.nii.gz"))) == {0, 255}
    assert (tmp_path / "soft" / "case_01.png").exists()


def test_a_data_set_of_nothing_but_empty_masks_is_softened(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    for path in (small_flat / "labels").iterdir():
        Picture.new("L", (52, 40), 0).save(path)
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft")
    assert outcome.code == 0, outcome.err
    assert (soft_label(tmp_path / "soft" / "case_01.nii.gz")[..., 0] == 255).all()


def test_a_case_named_like_the_report_is_refused_and_the_others_are_softened(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    for folder in ("images", "labels"):
        (small_flat / folder / "case_01.png").rename(small_flat / folder / "run.png")
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft")
    assert outcome.code == 1
    first, second = outcome.err.splitlines()
    assert first == "1 of 3 cases failed:"
    assert second == (
        "  run: its class names and the report would both be run.json; rename the case"
    )
    report = json.loads((tmp_path / "soft" / "run.json").read_text("utf-8"))
    assert list(report["softened_share"]) == ["case_00", "case_02"]
    assert not list((tmp_path / "soft").glob("run.[!j]*"))


PEAK = """
import resource, sys
import nibabel, scipy.ndimage, torch
import sfumato.workflow.softening, sfumato.cli.main
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.argv = ["sfumato", "soften", *sys.argv[1:]]
try:
    sfumato.cli.main.main()
finally:
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("PEAK", 1024 * (after - before))
"""


@pytest.mark.slow
def test_softening_needs_less_memory_than_ten_images(tmp_path: Path) -> None:
    edge = 160
    position = np.indices((edge,) * 3, dtype=np.float32)
    distance = np.sqrt(sum((p - edge / 2) ** 2 for p in position))
    rng = np.random.default_rng(0)
    image = np.tanh((50 - distance) / 4) + rng.normal(0, 0.1, distance.shape)
    label = (distance < 50).astype(np.uint8) + (distance < 30)
    for folder, values in (("images", image.astype(np.float32)), ("labels", label)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        path = tmp_path / "data" / folder / "ball.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    command = [sys.executable, "-c", PEAK, tmp_path / "data", "--out", tmp_path / "soft"]
    result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    peak_bytes = int(result.stdout.rpartition("PEAK")[2])
    assert peak_bytes < 10 * 4 * edge**3
    assert (tmp_path / "soft" / "ball.nii.gz").exists()
