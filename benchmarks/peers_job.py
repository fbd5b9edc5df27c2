"""What a tool that is compared is told, and what it hands back; the same for each of them.

The tools run in different environments, so this imports nothing that one of them may lack.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class JobCase:
    """A case: its name and its files. The label of a case to test on is not told."""

    id: str
    image: Path
    label: Path | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training and the segmentation of the test cases.

    Attributes:
        who: What trains, see `peers.WORKERS`.
        minutes: Wall-clock time of training; preparing and predicting do not count.
        seed: Of whatever the tool draws by chance.
        data: The data set, for the one tool that finds cases and split itself.
        fold: The fold that is held out, "K/N".
        class_names: All classes, background first; labels hold their places in the list.
        train: Cases to train on.
        test: Cases to segment.
        shared: Folder for what runs of the same tool have in common.
        out: Folder of this run.
    """

    who: str
    minutes: float
    seed: int
    data: Path
    fold: str
    class_names: tuple[str, ...]
    train: tuple[JobCase, ...]
    test: tuple[JobCase, ...]
    shared: Path
    out: Path

    @property
    def seconds(self) -> float:
        """Wall-clock time of training."""
        return 60 * self.minutes


def read_job(path: Path) -> Job:
    """Read what `write_job` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("data", "shared", "out"):
        content[name] = Path(content[name])
    for name in ("train", "test"):
        content[name] = tuple(_case(case) for case in content[name])
    content["class_names"] = tuple(content["class_names"])
    return Job(**content)


def _case(files: dict[str, Any]) -> JobCase:
    label = None if files["label"] is None else Path(files["label"])
    return JobCase(id=files["id"], image=Path(files["image"]), label=label)


def note(job: Job, **numbers: Any) -> None:
    """Add to what is known of a run, in `notes.json` in its folder."""
    path = job.out / "notes.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**notes(job.out), **numbers}, indent=2), encoding="utf-8")
    temporary.replace(path)


def notes(folder: Path) -> dict[str, Any]:
    """Return what is known of a run."""
    path = folder / "notes.json"
    known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return known


def write_prediction(job: Job, case: JobCase, probability: np.ndarray) -> None:
    """Write the most probable class and all probabilities of a case, on its image's grid.

    Args:
        job: The run.
        case: What was segmented.
        probability: Classes first, then the axes in the order of the image's file.
    """
    image = nibabel.load(case.image)
    if probability.shape != (len(job.class_names), *image.shape):
        raise ValueError(f"{case.id}: {probability.shape} does not fit the image's {image.shape}")
    segmentation = np.argmax(probability, axis=0).astype(np.uint8)
    classes_last = np.moveaxis(probability, 0, -1).astype(np.float32)
    _save(segmentation, image.affine, job.out / "segmentations" / f"{case.id}.nii.gz")
    probabilities = job.out / "segmentations" / "probabilities"
    _save(classes_last, image.affine, probabilities / f"{case.id}.nii.gz")


def _save(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def bfloat16_is_fast() -> bool:
    """Tell whether the processor multiplies bfloat16; sfumato uses it then, by default."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
