"""A bundle segments under MONAI's own runner as we do; no sfumato is in its process."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("fire") is None or find_spec("ignite") is None,
        reason="MONAI's runner needs more packages: pip install 'monai[fire,ignite]'",
    ),
]


def run_bundle(bundle: Path, images: Path, *options: str) -> Path:
    out = bundle / "segmentations"
    command = [
        *(sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"),
        *("--bundle_root", ".", "--dataset_dir", str(images), "--output_dir", str(out), *options),
    ]
    done = subprocess.run(command, cwd=bundle, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_pictures_get_the_same_labels(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in (flat_data / "images").iterdir():
        with Picture.open(path) as picture:
            # Of a size that one window may grow to.
            picture.crop((10, 4, 30, 23)).save(images / path.name)
    outcome = sfumato("export", flat_run, "--to=monai-bundle", "--out", tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    found = run_bundle(tmp_path / "bundle", images, "--output_ext", ".png")
    ours = tmp_path / "ours"
    sfumato("segment", flat_run, images, "--out", ours, "--precision=float32",
            "--engine=torch", "--device=cpu")  # fmt: skip
    for path in sorted(ours.glob("*.png")):
        with Picture.open(path) as one, Picture.open(found / path.name) as other:
            labels, theirs = np.asarray(one), np.asarray(other)
        np.testing.assert_array_equal(theirs, labels)
        assert set(np.unique(theirs)) <= {0, 255}


def test_volumes_of_any_orientation_get_the_same_labels_and_almost_so_when_resampled(
    sfumato: Callable, trained_volume_run: Path, volume_data: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    image = nibabel.load(volume_data / "images" / "case_01.nii.gz")
    values, coarser = np.asarray(image.dataobj), image.affine.copy()
    # One window may grow to hold this part.
    part = values[:, 7:15]
    nibabel.save(nibabel.Nifti1Image(part, image.affine), images / "one_window.nii.gz")
    coarser[:3, :3] *= 1.3
    nibabel.save(nibabel.Nifti1Image(values, coarser), images / "resampled.nii.gz")
    bundle = tmp_path / "bundle"
    assert sfumato("export", trained_volume_run, "--to=monai-bundle", "--out", bundle).code == 0
    found, ours = run_bundle(bundle, images), tmp_path / "ours"
    sfumato("segment", trained_volume_run, images, "--out", ours, "--precision=float32",
            "--engine=torch", "--device=cpu")  # fmt: skip
    for name, least in (("one_window", 1.0), ("resampled", 0.85)):
        one, other = (nibabel.load(folder / f"{name}.nii.gz") for folder in (ours, found))
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
        labels, theirs = np.asarray(one.dataobj), np.asarray(other.dataobj)
        assert set(np.unique(theirs)) == {0, 2, 7}
        for value in (2, 7):
            a, b = labels == value, theirs == value
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= least
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text("utf-8"))
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "core"
    assert metadata["sfumato"]["class_values"] == [0, 2, 7]
