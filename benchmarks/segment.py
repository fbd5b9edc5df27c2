"""Segmenting: peak memory of long scans, and speed beside MONAI's sliding windows.

    python benchmarks/segment.py memory                       # both scans, small network; long
    python benchmarks/segment.py memory --length 0.2          # shorter scans
    python benchmarks/segment.py speed                        # 256×256×128; some minutes
    python benchmarks/segment.py speed --engine openvino --features 16 32 64 128

`memory` runs `sfumato segment` on a file in a process of its own and prints the most memory that
process ever held (`maximum resident set size` of `/usr/bin/time -v`). `speed` segments one file
with the same weights and windows that overlap by half: by MONAI's usual chain (load, orient, space,
normalise, SlidingWindowInferer, softmax, invert, save) and by ours, in turn. Where an axis is up to
a third longer than the window, ours grows to hold it and so needs fewer windows, as at the default
128; `--shape 256 256 144` compares the same windows. Weights are
random, which takes as long as trained ones. Seconds are the processor's, over all threads, so that
other work on the machine disturbs little; seconds by the clock stand beside them.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai import transforms
from monai.inferers import SlidingWindowInferer

from sfumato.image.files import read_channels, write_label
from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.inference.predictor import Predictor
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


def write_scan(path: Path, shape: tuple[int, ...], spacing: float) -> None:
    """Write a noisy body in air, as int16, slice by slice."""
    rng = np.random.default_rng(0)
    x, y = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40.0, -1000.0)
    values = np.empty(shape, np.int16, order="F")
    for k in range(shape[2]):
        values[..., k] = body + rng.normal(scale=30, size=shape[:2]) * (body > 0)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([spacing] * 3 + [1])), path)


def memory(length: float, engine: str, spacing: float) -> None:
    """Print the most memory that each scan took."""
    for name, (shape, n_classes) in SCANS.items():
        shape = (*shape[:2], round(shape[2] * length))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_scan(place / "scan.nii.gz", shape, spacing)
            make_model([4, 8, 8], n_classes).save(place / "model")
            started = time.monotonic()
            subprocess.run(
                [
                    *(sys.executable, "-m", "sfumato", "segment", place / "model"),
                    *(place / "scan.nii.gz", "--out", place / "out", "--engine", engine),
                ],
                check=True,
            )
            # Of all processes so far, so scans stand from the smaller to the larger.
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            print(
                f"{name} ({'×'.join(map(str, shape))}, {engine}): at most {peak:.2f} GiB,"
                f" {time.monotonic() - started:.0f} s"
            )


class Stopwatch:
    """Adds up the processor's time of calls of a network."""

    def __init__(self, network: Callable[[Images], Logits]) -> None:
        self.network, self.seconds, self.windows = network, 0.0, 0

    def __call__(self, images: Images) -> Logits:
        """Compute, and add up the time."""
        started = time.process_time()
        logits = self.network(images)
        self.seconds += time.process_time() - started
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
    """Print how long both chains take, and how much of it is the network."""
    shape, features, engine = tuple(options.shape), options.features, options.engine
    half, spacing, repeats = options.half, options.spacing, options.repeats
    model = make_model(features, 3)
    dtype = torch.bfloat16 if half else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "scan.nii.gz", Path(folder) / "out"
        write_scan(path, shape, spacing)
        predictor = Predictor(model, dtype=dtype, engine=engine)
        chains = {
            "MONAI": lambda: monai_chain(model, path, out),
            f"sfumato, {predictor.engine}": lambda: our_chain(predictor, path, out),
        }
        seconds: dict[str, list[float]] = {name: [] for name in chains}
        for _ in range(repeats):
            for name, chain in chains.items():
                wall, processor = time.perf_counter(), time.process_time()
                watch = chain()
                spent = time.process_time() - processor
                seconds[name].append(spent)
                print(
                    f"{name}: {spent:.1f} s of the processor, {watch.windows} windows,"
                    f" network {100 * watch.seconds / spent:.0f} %;"
                    f" {time.perf_counter() - wall:.1f} s by the clock",
                    flush=True,
                )
        first, second = (min(values) for values in seconds.values())
        print(f"sfumato is {first / second:.2f} times as fast as MONAI's chain")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "speed"])
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--length", type=float, default=1.0, help="share of the scans' length")
    parser.add_argument("--shape", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256, 320])
    parser.add_argument("--spacing", type=float, default=1.0, help="of the scan; the model has 1")
    parser.add_argument("--half", action="store_true", help="ours in bfloat16")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    if options.what == "memory":
        memory(options.length, options.engine, options.spacing)
    else:
        speed(options)


if __name__ == "__main__":
    main()
