"""Segmenting: peak memory of long scans, and speed beside MONAI's sliding windows.

    python benchmarks/segment.py memory                       # both scans, small network; long
    python benchmarks/segment.py memory --length 0.2 --unbounded   # shorter, and once more whole
    python benchmarks/segment.py speed                        # 256×256×128; some minutes
    python benchmarks/segment.py speed --same-windows

`memory` runs `sfumato segment` on a file in a process of its own and prints the most memory that
process ever held (the `maximum resident set size` of `/usr/bin/time -v`, from the same source). It
does not depend on the network's width but on windows, classes and the scan. With `--unbounded` a
quarter of the scan is segmented, and once more in the way that holds all of its probabilities at
once, and the labels are compared.

`speed` segments one file with the same weights and windows that overlap by half at least: by
MONAI's usual chain (load, orient, space, normalise, SlidingWindowInferer, softmax, invert, save),
and by ours in float32 and in bfloat16. Ours may make a window longer by a third where that is less
work; with `--same-windows` it may not. Weights are random, which takes as long as trained ones. Let
nothing else run meanwhile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai import transforms
from monai.inferers import SlidingWindowInferer

from sfumato.image.files import read_channels, write_label
from sfumato.image.grid import model_grid
from sfumato.image.preprocessing import (
    ChannelSettings,
    PreprocessingSettings,
    normalize_intensities,
)
from sfumato.inference import predictor as predictor_module
from sfumato.inference.predictor import Predictor
from sfumato.inference.sliding_window import fitted_window, gaussian_weight, window_corners
from sfumato.labels.classes import ClassList
from sfumato.model.network import NetworkSettings, build_network
from sfumato.model.tensors import Images, Logits
from sfumato.model.trained import TrainedModel

WINDOW = (96, 96, 96)
SCANS = {"735×512×512, 20 classes": ((512, 512, 735), 20), "512×512×1600": ((512, 512, 1600), 3)}


def make_model(features: list[int], n_classes: int) -> TrainedModel:
    """Make a model with random weights."""
    n = len(features)
    settings = NetworkSettings(
        features=tuple(features),
        strides=((1,) * 3, *((2,) * 3,) * (n - 1)),
        kernels=((3,) * 3,) * n,
    )
    torch.manual_seed(0)
    return TrainedModel(
        network=build_network(settings, 1, n_classes).eval(),
        network_settings=settings,
        n_channels=1,
        window=WINDOW,
        mirror_axes=(0,),
        classes=ClassList(
            names=tuple(f"class {k}" for k in range(n_classes)), values=tuple(range(n_classes))
        ),
        preprocessing=PreprocessingSettings(
            spacing_mm=(1.0, 1.0, 1.0), channels=(ChannelSettings(),)
        ),
    )


def write_scan(
    path: Path, shape: tuple[int, ...], spacing: float, width: tuple[float, float] = (0.8, 0.6)
) -> None:
    """Write a noisy body in air, as int16, slice by slice."""
    rng = np.random.default_rng(0)
    x, y = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = np.where((x / width[0]) ** 2 + (y / width[1]) ** 2 < 1, 40.0, -1000.0)
    values = np.empty(shape, np.int16, order="F")
    for k in range(shape[2]):
        values[..., k] = body + rng.normal(scale=30, size=shape[:2]) * (body > 0)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([spacing] * 3 + [1])), path)


def run_alone(command: list[str]) -> float:
    """Run a command, and return the most memory that it held, in GiB."""
    process = subprocess.Popen(command)
    # Not of all children so far, as `resource.getrusage` would say.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[3]} failed")
    return usage.ru_maxrss / 2**20


def segment_whole(place: Path) -> None:
    """Segment a scan as one would without thinking of memory: all probabilities at once."""
    predictor = Predictor(TrainedModel.load(place / "model"), dtype=torch.float32)
    image, geometry = read_channels([place / "scan.nii.gz"])
    preprocessing = predictor.model.preprocessing
    grid = model_grid(geometry, preprocessing.spacing_mm)
    normal = grid.image_to_model(normalize_intensities(image, preprocessing.channels))
    shape = normal.shape[1:]
    window = fitted_window(shape, WINDOW, predictor.model.divisors)
    weight, n_classes = torch.from_numpy(gaussian_weight(window)), len(predictor.model.classes)
    sums, weights = torch.zeros((n_classes, *shape)), torch.zeros(shape)
    for corner in window_corners(shape, window, 0.5):
        part = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        logits = predictor._compute(torch.from_numpy(normal[:, *part].copy())[None])
        sums[:, *part] += logits[0].softmax(dim=0) * weight
        weights[part] += weight
    label = np.empty(geometry.shape, np.uint8)
    whole = (sums / weights).numpy()
    for where, probability in grid.slabs_to_source([whole], 2):
        label[where] = probability.argmax(axis=0)
    write_label(place / "whole.nii.gz", label, geometry)


def memory(length: float, engine: str, spacing: float, *, is_compared: bool) -> None:
    """Print the most memory that each scan took."""
    for name, (shape, n_classes) in SCANS.items():
        shape = (*shape[:2], round(shape[2] * length))
        if is_compared:
            # So small that all probabilities fit, and by the engine that the other way takes:
            # engines round otherwise, which decides where random weights make no difference.
            shape, engine = (shape[0] // 2, shape[1] // 2, shape[2]), "torch"
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            # A slim body and a narrow network take minutes; memory is that of any.
            write_scan(place / "scan.nii.gz", shape, spacing, width=(0.3, 0.25))
            make_model([4, 8, 8], n_classes).save(place / "model")
            started = time.monotonic()
            scan, out = str(place / "scan.nii.gz"), str(place / "out")
            options = ["--out", out, "--engine", engine, "--precision", "float32"]
            sfumato = [sys.executable, "-m", "sfumato"]
            peak = run_alone([*sfumato, "segment", str(place / "model"), scan, *options])
            print(
                f"{name} ({'×'.join(map(str, shape))}, {engine}): at most {peak:.2f} GiB,"
                f" {time.monotonic() - started:.0f} s",
                flush=True,
            )
            if is_compared:
                peak = run_alone([sys.executable, __file__, "whole", "--place", str(place)])
                labels = [
                    np.asarray(nibabel.load(p).dataobj)
                    for p in (place / "out" / "scan.nii.gz", place / "whole.nii.gz")
                ]
                n_other = np.count_nonzero(labels[0] != labels[1])
                print(
                    f"all probabilities at once: {peak:.2f} GiB; {n_other} of {labels[0].size}"
                    " labels differ",
                    flush=True,
                )


class Stopwatch:
    """Adds up the time of calls of a network."""

    def __init__(self, network: Callable[[Images], Logits]) -> None:
        self.network, self.seconds, self.windows = network, 0.0, 0

    def __call__(self, images: Images) -> Logits:
        """Compute, and add up the time."""
        started = time.perf_counter()
        logits = self.network(images)
        self.seconds += time.perf_counter() - started
        self.windows += len(images)
        return logits


def monai_chain(model: TrainedModel, path: Path, out: Path) -> Stopwatch:
    """Segment a file as is usual with MONAI."""
    watch = Stopwatch(model.network)
    before = transforms.Compose(
        [
            transforms.LoadImaged("image"),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", axcodes="RAS", labels=None),
            transforms.Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
            transforms.NormalizeIntensityd("image"),
        ]
    )
    after = transforms.Compose(
        [
            transforms.Activationsd("pred", softmax=True),
            transforms.Invertd("pred", before, orig_keys="image", nearest_interp=False),
            transforms.AsDiscreted("pred", argmax=True),
            transforms.SaveImaged("pred", output_dir=out, print_log=False, resample=False),
        ]
    )
    inferer = SlidingWindowInferer(WINDOW, sw_batch_size=1, overlap=0.5, mode="gaussian")
    with torch.inference_mode():
        data = before({"image": path})
        data["pred"] = inferer(data["image"][None], watch)[0]
        after(data)
    return watch


def our_chain(predictor: Predictor, path: Path, out: Path) -> Stopwatch:
    """Segment a file as `sfumato segment` does, but for reading and writing beside it."""
    watch = Stopwatch(predictor._compute)
    predictor._compute = watch
    image, geometry = read_channels([path])
    label = np.empty(geometry.shape, np.uint8)
    for slab in predictor.predict_slabs(image, geometry):
        label[slab.place] = slab.segmentation()
    write_label(out / "scan.nii.gz", label, geometry)
    predictor._compute = watch.network
    return watch


def speed(options: argparse.Namespace) -> None:
    """Print how long each chain takes by the clock, and how much of it is the network."""
    if options.same_windows:
        predictor_module.fitted_window = lambda _shape, window, *_: window
    model = make_model(options.features, 3)
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "scan.nii.gz", Path(folder) / "out"
        write_scan(path, tuple(options.shape), options.spacing)
        chains = {"MONAI, float32": lambda: monai_chain(model, path, out)}
        for dtype in (torch.float32, torch.bfloat16):
            predictor = Predictor(model, dtype=dtype, engine=options.engine)
            name = f"sfumato, {predictor.engine}, {str(dtype).removeprefix('torch.')}"
            chains[name] = partial(our_chain, predictor, path, out)
        print(f"{torch.get_num_threads()} threads, {'×'.join(map(str, options.shape))}", flush=True)
        seconds: dict[str, float] = {}
        for name, chain in chains.items():
            started = time.perf_counter()
            watch = chain()
            seconds[name] = time.perf_counter() - started
            ratio = next(iter(seconds.values())) / seconds[name]
            print(
                f"{name}: {seconds[name]:.1f} s, {watch.windows} windows computed,"
                f" network {watch.seconds / seconds[name]:.0%}; {ratio:.2f} times as fast",
                flush=True,
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "speed", "whole"])
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--length", type=float, default=1.0, help="share of the scans' length")
    parser.add_argument("--unbounded", action="store_true", help="also hold all at once, compare")
    parser.add_argument("--same-windows", action="store_true", help="ours are not made longer")
    parser.add_argument("--place", type=Path, help="for `whole`, which `memory` calls")
    parser.add_argument("--shape", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256, 320])
    parser.add_argument("--spacing", type=float, default=1.0, help="of the scan; the model has 1")
    options = parser.parse_args()
    if options.what == "memory":
        memory(options.length, options.engine, options.spacing, is_compared=options.unbounded)
    elif options.what == "whole":
        segment_whole(options.place)
    else:
        speed(options)


if __name__ == "__main__":
    main()
