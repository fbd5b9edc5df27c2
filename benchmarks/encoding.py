"""How small soft labels are on disk, beside the hard label as nibabel compresses it.

    python benchmarks/encoding.py ../shared/data/hippocampus_msd

Softens every case of a data set with default settings, and the brain template that nilearn
brings: as the demo's slices, and as a volume. Sizes are divided by that of the hard label alone
as .nii.gz, at gzip's level 1 (nibabel's own), 6 (sfumato's and most programs') and 9.
"""

import argparse
import gzip
import time
from pathlib import Path

import nibabel
import numpy as np
from nilearn import datasets

from sfumato import SuperpixelSettings, soften_image_label
from sfumato.cases.dataset import Dataset
from sfumato.labels.encoding import decode_soft_label, encode_soft_label
from sfumato.workflow.demo import SLICES

LEVELS = (1, 6, 9)
"""Of gzip: nibabel's own, the one that sfumato and most programs write with, the highest."""


def measure(
    image: np.ndarray, label: np.ndarray, spacing: tuple[float, ...], n: int
) -> list[float]:
    """Return ratios to the hard labels, milliseconds to encode and decode, and an error."""
    soft_label = soften_image_label(image, label, spacing, n, SuperpixelSettings())
    started = time.perf_counter()
    data = encode_soft_label(soft_label, spacing)
    encoded = time.perf_counter()
    again = decode_soft_label(data)
    decoded = time.perf_counter()
    if not np.array_equal(again.argmax(axis=0), label) or ((again > 0) != (soft_label > 0)).any():
        raise SystemExit("the hard label or the uncertain region did not come back")
    hard = nibabel.Nifti1Image(label, np.diag([*spacing, *[1.0] * (4 - len(spacing))])).to_bytes()
    sizes = [len(gzip.compress(hard, level)) for level in LEVELS]
    return [
        *(len(data) / size for size in sizes),
        1000 * (encoded - started),
        1000 * (decoded - encoded),
        float(np.abs(again - soft_label).max()),
    ]


def template() -> tuple[np.ndarray, np.ndarray]:
    """Return the template and the most probable tissue, as the demo finds it."""
    image, grey, white = (
        np.asarray(load(resolution=1).dataobj, np.float32)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    label = np.stack([1 - grey - white, grey, white]).argmax(axis=0).astype(np.uint8)
    return image, label


def report(name: str, examples: list[list[float]]) -> None:
    """Print one line."""
    figures = np.array(examples)
    mean, worst = figures.mean(axis=0), figures.max(axis=0)
    ratios = " | ".join(f"{mean[i]:.3f}, {worst[i]:.3f}" for i in range(len(LEVELS)))
    print(f"| {name} | {ratios} | {mean[-3]:.0f} | {mean[-2]:.0f} | {worst[-1]:.0e} |", flush=True)


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a data set with labels")
    dataset = Dataset.open(parser.parse_args().data)
    columns = [f"gzip -{level}: mean, worst" for level in LEVELS]
    print("| data |", " | ".join([*columns, "encode ms", "decode ms", "largest error"]), "|")
    print("|---" * (4 + len(LEVELS)) + "|")
    report(
        dataset.name,
        [
            measure(case.image, case.label, case.geometry.spacing, len(dataset.classes))
            for case in dataset
            if case.label is not None
        ],
    )
    image, label = template()
    slices = [
        [np.ascontiguousarray(volume[:, ::-1, index].T) for volume in (image, label)]
        for index in SLICES
    ]
    report("template, slices", [measure(i[np.newaxis], k, (1.0, 1.0), 3) for i, k in slices])
    report("template, volume", [measure(image[np.newaxis], label, (1.0, 1.0, 1.0), 3)])


if __name__ == "__main__":
    main()
