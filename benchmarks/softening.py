"""Superpixels and whole soft labels: ours against scikit-image and SciPy, in one process.

    python benchmarks/softening.py                 # all work; about half an hour
    python benchmarks/softening.py "slice 512"     # work whose name holds one of these words

Needs scikit-image and SciPy; with fast-slic (`pip install "cython<3.1"
setuptools`, then `pip install --no-build-isolation fast-slic`) that is compared too. Every time is
the median of `--repeats` runs, arrays ready; peers have as many superpixels and the same
compactness. Quality is measured on the same superpixels: achievable segmentation accuracy
(ASA), undersegmentation error (UE) and boundary recall within one element (BR).
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import slic

from phantoms import Phantom, body, brain, slice_of
from sfumato import SuperpixelSettings, compute_superpixels, soften_image_label
from sfumato.arrays import Label, Probability, Superpixels
from sfumato.evaluation.softness import achievable_accuracy, boundary_recall

PHANTOMS: dict[str, Callable[[], Phantom]] = {
    "slice 512²": partial(slice_of, 512, 1),
    "photo 512²": partial(slice_of, 512, 3),
    "slice 2048²": partial(slice_of, 2048, 1),
    "photo 2048²": partial(slice_of, 2048, 3),
    "brain 240×240×155": partial(brain, 1),
    "brain 240×240×155, 4 channels": partial(brain, 4),
    "body 512×512×120": body,
}
COMPACTNESS = 0.1
GROWTH_EDGES = (46, 100, 215, 464)
N_CLASSES = 3


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Time a call."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def settings_of(phantom: Phantom) -> SuperpixelSettings:
    """Return how we make superpixels for a phantom."""
    return SuperpixelSettings(
        size_mm=phantom.size_mm, compactness=COMPACTNESS, is_photo=phantom.is_photo
    )


def superpixels_by_skimage(phantom: Phantom, n_superpixels: int) -> Superpixels:
    """Run scikit-image's SLIC: the same number of superpixels, 10 iterations, connected."""
    size = (np.prod(phantom.label.shape) / n_superpixels) ** (1 / phantom.label.ndim)
    labels = slic(
        phantom.image / 255 if phantom.is_photo else phantom.image,
        n_segments=n_superpixels,
        # It measures distances in mm and divides them by the seeds' distance in elements.
        spacing=[step_mm * size / phantom.size_mm for step_mm in phantom.spacing],
        compactness=COMPACTNESS * (100 if phantom.is_photo else 1),
        max_num_iter=10,
        convert2lab=phantom.is_photo,
        start_label=0,
        channel_axis=0,
    )
    return labels.astype(np.int32)


def soft_label_by_scipy(phantom: Phantom, n_superpixels: int) -> Probability:
    """Soften by scikit-image's superpixels and SciPy's distances."""
    superpixels = superpixels_by_skimage(phantom, n_superpixels)
    total = np.bincount(superpixels.ravel())
    probability = np.empty((N_CLASSES, *phantom.label.shape), np.float32)
    for k in range(N_CLASSES):
        mask = phantom.label == k
        inside = np.bincount(superpixels.ravel(), mask.ravel())
        uncertain = ((inside > 0) & (inside < total))[superpixels]
        distance = distance_transform_edt(mask, sampling=phantom.spacing)
        distance -= distance_transform_edt(~mask, sampling=phantom.spacing)
        distance /= min(phantom.spacing)
        probability[k] = np.where(uncertain, 0.5 * (distance / (1 + np.abs(distance)) + 1), mask)
    return probability / probability.sum(axis=0)


def quality(superpixels: Superpixels, label: Label) -> tuple[float, float, float]:
    """Return ASA, UE and BR (Stutz et al. 2018, doi:10.1016/j.cviu.2017.03.007)."""
    joint = np.bincount(superpixels.ravel() * np.int64(N_CLASSES) + label.ravel())
    joint = np.pad(joint, (0, -len(joint) % N_CLASSES)).reshape(-1, N_CLASSES)
    total = joint.sum(axis=1, keepdims=True)
    leak = np.minimum(joint, total - joint)[joint > 0].sum() / label.size
    accuracy = achievable_accuracy(label, superpixels)
    return accuracy, float(leak), boundary_recall(label, superpixels)


def gigabytes_a_second() -> float:
    """Measure how fast memory is copied on one thread."""
    source = np.ones(2**26, np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    return 2 * source.nbytes / median_seconds(partial(np.copyto, target, source), 5) / 1e9


def compare(name: str, phantom: Phantom, repeats: int, copied: float) -> None:
    """Print the lines of one phantom."""
    settings = settings_of(phantom)
    ours = partial(compute_superpixels, phantom.image, phantom.spacing, settings)
    soften = partial(
        soften_image_label, phantom.image, phantom.label, phantom.spacing, N_CLASSES, settings
    )
    superpixels = ours()
    in_superpixels = np.array(phantom.label.shape) * phantom.spacing / phantom.size_mm
    n_superpixels = round(np.prod(in_superpixels))
    peer = partial(superpixels_by_skimage, phantom, n_superpixels)
    n_elements = phantom.label.size
    image_bytes, label_bytes = phantom.image.nbytes, n_elements
    works = [
        ("superpixels", ours, peer, image_bytes + 4 * n_elements),
        (
            "soft label",
            soften,
            partial(soft_label_by_scipy, phantom, n_superpixels),
            label_bytes + 4 * N_CLASSES * n_elements,
        ),
    ]
    for work, mine, theirs, n_bytes in works:
        one = median_seconds(partial(mine, n_threads=1), repeats)
        two = median_seconds(partial(mine, n_threads=2), repeats)
        other = median_seconds(theirs, min(repeats, 5 if n_elements < 10**7 else 3))
        floor = n_bytes / copied / 1e9
        print(
            f"| {work}, {name} | {one * 1e3:.1f} | {two * 1e3:.1f} | {one / two:.2f}×"
            f" | {other * 1e3:,.0f} | {other / one:.0f}× | {one / floor:.0f}× |",
            flush=True,
        )
    their_superpixels = peer()
    for who, found in (("sfumato", superpixels), ("scikit-image", their_superpixels)):
        numbers = " | ".join(f"{value:.4f}" for value in quality(found, phantom.label))
        QUALITY.append(f"| {name} | {who} | {found.max() + 1} | {numbers} |")
    if importlib.util.find_spec("fast_slic") and phantom.is_photo:
        compare_with_fast_slic(name, phantom, n_superpixels, repeats)


def compare_with_fast_slic(name: str, phantom: Phantom, n_superpixels: int, repeats: int) -> None:
    """Print the line of fast-slic's AVX2 kernel, which takes colour photographs only."""
    from fast_slic.avx2 import SlicAvx2

    image = np.ascontiguousarray(np.moveaxis(phantom.image, 0, -1))
    engine = SlicAvx2(num_components=n_superpixels, compactness=10)
    one = median_seconds(partial(engine.iterate, image), repeats)
    print(f"| fast-slic (AVX2), {name} | {one * 1e3:.1f} | | | | | |", flush=True)


QUALITY: list[str] = []


def main() -> None:
    """Run the work that was asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only work whose name holds one of these")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    copied = gigabytes_a_second()
    print(f"Memory is copied at {copied:.0f} GB/s on one thread.\n")
    print("| work | 1 thread, ms | 2 threads, ms | gain | peer, ms | faster | above memory floor |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, make in PHANTOMS.items():
        if not chosen.words or any(word in name for word in chosen.words):
            compare(name, make(), chosen.repeats, copied)
    print("\n| input | by | superpixels | ASA | UE | BR |\n|---|---|---|---|---|---|")
    print(*QUALITY, sep="\n")
    if not chosen.words or "growth" in chosen.words:
        print("\n| elements | soft label, ms | ns an element |\n|---|---|---|")
        for edge in GROWTH_EDGES:
            phantom = brain(1, (edge,) * 3)
            work = partial(
                soften_image_label,
                phantom.image,
                phantom.label,
                phantom.spacing,
                N_CLASSES,
                settings_of(phantom),
            )
            seconds = median_seconds(work, 5)
            print(f"| {edge**3:,} | {seconds * 1e3:.1f} | {seconds / edge**3 * 1e9:.1f} |")


if __name__ == "__main__":
    main()
