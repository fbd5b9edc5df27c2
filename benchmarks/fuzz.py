"""Call the compiled core with random input, built to stop at the first wrong memory access.

    bash benchmarks/fuzz.sh 1000000

builds the core with AddressSanitizer and UndefinedBehaviorSanitizer and runs this file. Shapes,
spacings, masks, superpixels, classes, threads and intensities are drawn at random, sensible or
not; results are only checked for being probabilities.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

DTYPES = (np.float32, np.int16, np.uint16, np.uint8)


def image_of(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw intensities of any kind, sometimes NaN or infinite."""
    dtype = DTYPES[rng.integers(len(DTYPES))]
    if dtype != np.float32:
        information = np.iinfo(dtype)
        return rng.integers(information.min, information.max, shape, dtype, endpoint=True)
    image = rng.standard_normal(shape, np.float32) * np.float32(10.0 ** rng.integers(-30, 30))
    if rng.random() < 0.1:
        image.flat[rng.integers(image.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return image


def problem(core: object, rng: np.random.Generator) -> None:
    """Run every function of the core once."""
    shape = tuple(rng.integers(1, 1 + rng.choice([2, 5, 12]), 3).tolist())
    if rng.random() < 0.3:
        shape = (1, *(3 * n for n in shape[1:]))
    n_channels, n_classes = int(rng.integers(1, 7)), int(rng.choice([2, 3, 5, 70, 256]))
    n_cells = [int(rng.integers(1, n + 1)) for n in shape]
    image = image_of((n_channels, *shape), rng)
    label = rng.integers(0, n_classes, shape).astype(np.uint8)
    if rng.random() < 0.7:
        label = np.sort(label.ravel()).reshape(shape)
    n_threads = int(rng.integers(1, 3)) if rng.random() < 0.02 else 1
    spacing = (10.0 ** rng.uniform(-4, 4, 3)).tolist()
    scale_mm = min(spacing) * 10.0 ** rng.uniform(-4, 4)
    shifts = rng.uniform(-1, 1, (np.prod(n_cells), 3)).astype(np.float32)
    settings = core.Superpixels(
        low=rng.normal(size=n_channels).tolist(),
        gain=(10.0 ** rng.uniform(-9, 9, n_channels)).tolist(),
        n_cells=n_cells,
        weights=(10.0 ** rng.uniform(-9, 9, 3)).tolist(),
        n_iterations=int(rng.integers(1, 6)),
        shifts=shifts if rng.random() < 0.3 else None,
        is_photo=n_channels == 3 and image.dtype in (np.float32, np.uint8) and rng.random() < 0.5,
    )
    where = (rng.random(shape) < 0.7).view(np.uint8) if rng.random() < 0.3 else None
    superpixels = np.full(shape, -1, np.int32)
    n = core.compute_superpixels(image, settings, where, superpixels, n_threads)
    assert superpixels.max() + 1 == max(n, 0), "superpixels are not numbered 0 to n-1"
    soft_labels = np.zeros((2, n_classes, *shape), np.float32)
    core.soften_label(label, superpixels, max(n, 0), spacing, scale_mm, soft_labels[0], n_threads)
    n = core.soften_image_label(
        image, settings, label, spacing, scale_mm, soft_labels[1], n_threads
    )
    for soft_label in soft_labels[: 1 if n < 0 else 2]:
        assert np.abs(soft_label.sum(axis=0) - 1).max() < 1e-5, "probabilities do not sum to 1"
    distance = np.empty(shape, np.float32)
    core.distance_to_class(label, int(rng.integers(n_classes)), spacing, distance, n_threads)
    assert not np.isnan(distance).any(), "a distance is NaN"


def coding_problem(core: object, rng: np.random.Generator) -> None:
    """Pack a block and unpack it, then unpack damaged bytes and bytes of anything."""
    shape = tuple(rng.integers(1, 1 + rng.choice([2, 5, 12]), 3).tolist())
    n_classes, n_zones = int(rng.choice([1, 2, 5, 256])), int(rng.choice([0, 1, 4, 65535 - 1]))
    label = rng.integers(0, n_classes, shape).astype(np.uint8)
    zones = rng.integers(0, n_zones + 1, shape).astype(np.uint16)
    if rng.random() < 0.7:
        label, zones = (np.sort(values.ravel()).reshape(shape) for values in (label, zones))
    data = core.pack_block(label, zones, n_classes, n_zones)
    again, zones_again = np.empty_like(label), np.empty_like(zones)
    core.unpack_block(data, again, zones_again, n_classes, n_zones)
    assert np.array_equal(again, label), "the label did not come back"
    assert np.array_equal(zones_again, zones), "the zones did not come back"
    damaged = bytearray(data[: rng.integers(len(data) + 1)])
    for _ in range(rng.integers(4) if damaged else 0):
        damaged[rng.integers(len(damaged))] = rng.integers(256)
    for other in (bytes(damaged), rng.bytes(int(rng.integers(60)))):
        core.unpack_block(other, again, zones_again, n_classes, n_zones)
        assert again.max() < n_classes, "a label is no class"
        assert zones_again.max() <= n_zones, "a zone is none of those there are"


def main() -> None:
    """Draw problems until there are enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, help="number of random problems")
    parser.add_argument("--core", type=Path, required=True, help="folder of the built core")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.core))
    import native

    started = time.perf_counter()
    for i in range(chosen.n):
        try:
            rng = np.random.default_rng([chosen.seed, i])
            problem(native, rng)
            coding_problem(native, rng)
        except AssertionError as error:
            sys.exit(f"problem {i} of seed {chosen.seed}: {error}")
        if (i + 1) % 10_000 == 0:
            print(f"{i + 1:,} problems, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{chosen.n:,} problems, nothing found")


if __name__ == "__main__":
    main()
