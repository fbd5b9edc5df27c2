"""A baseline of MONAI's parts, as one of the tools that `peers.py` compares.

    PEERS_PYTHON benchmarks/peers_monai.py JOB

DynUNet with four levels, DiceCELoss, AdamW with a warm-up and a cosine that ends with the time,
the usual random transforms, cached cases. Patches are mirrored left to right only: front and
back are different classes here. The state at the end is used; no test case chooses anything.
"""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, set_track_meta
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    LoadImaged,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandZoomd,
    SpatialPadd,
)
from monai.utils import set_determinism

from peers_job import Job, bfloat16_is_fast, note, read_job, write_prediction

FEATURES = (16, 32, 64, 128)
PATCH = (32, 48, 32)
CASES_PER_STEP, PATCHES_PER_CASE = 2, 2
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
WARMUP_FRACTION = 0.02
ROTATION_RADIANS = math.radians(20)


def build_network(job: Job) -> torch.nn.Module:
    """Build the U-Net with random weights."""
    strides = [1, *[2] * (len(FEATURES) - 1)]
    network: torch.nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=len(job.class_names),
        kernel_size=[3] * len(FEATURES),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=FEATURES,
        norm_name=("INSTANCE", {"affine": True}),
    )
    return network


def loading(keys: list[str]) -> list[Any]:
    """List the transforms that are the same every time."""
    return [
        LoadImaged(keys, ensure_channel_first=True),
        NormalizeIntensityd("image"),
        SpatialPadd(keys, PATCH),
    ]


def augmenting() -> list[Any]:
    """List the random transforms. Space comes before cropping, so that no patch has corners."""
    keys, modes = ["image", "label"], ("bilinear", "nearest")
    turn = dict.fromkeys(("range_x", "range_y", "range_z"), ROTATION_RADIANS)
    return [
        RandRotated(keys, prob=0.3, mode=modes, padding_mode="border", **turn),
        RandZoomd(keys, prob=0.3, min_zoom=0.8, max_zoom=1.25, mode=("trilinear", "nearest")),
        RandCropByPosNegLabeld(keys, "label", PATCH, pos=1, neg=1, num_samples=PATCHES_PER_CASE),
        RandFlipd(keys, prob=0.5, spatial_axis=0),
        RandGaussianNoised("image", prob=0.1, std=0.1),
        RandGaussianSmoothd(
            "image", prob=0.1, sigma_x=(0.5, 1), sigma_y=(0.5, 1), sigma_z=(0.5, 1)
        ),
        RandScaleIntensityd("image", factors=0.25, prob=0.15),
        RandShiftIntensityd("image", offsets=0.1, prob=0.15),
        RandAdjustContrastd("image", prob=0.15, gamma=(0.7, 1.5), retain_stats=True),
    ]


def batches(job: Job) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches for ever; one process of its own prepares them while the network learns."""
    keys = ["image", "label"]
    files = [{"image": str(case.image), "label": str(case.label)} for case in job.train]
    cases = CacheDataset(files, Compose([*loading(keys), *augmenting()]), progress=False)
    loader = DataLoader(
        cases,
        batch_size=CASES_PER_STEP,
        shuffle=True,
        drop_last=True,
        num_workers=1,
        persistent_workers=True,
        prefetch_factor=8,
    )
    while True:
        yield from loader


def learning_rate(fraction: float) -> float:
    """Return the learning rate at a share of the training's time."""
    if fraction < WARMUP_FRACTION:
        return LEARNING_RATE * (fraction + 1e-3) / (WARMUP_FRACTION + 1e-3)
    rest = (fraction - WARMUP_FRACTION) / (1 - WARMUP_FRACTION)
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def train(job: Job, network: torch.nn.Module) -> None:
    """Train a network until the time is over."""
    loading_since = time.monotonic()
    source = batches(job)
    upcoming = next(source)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    has_bfloat16, steps, started = bfloat16_is_fast(), 0, time.monotonic()
    network.train()
    while (fraction := (time.monotonic() - started) / job.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(fraction)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16):
            logits = network(upcoming["image"])
        loss = loss_of(logits.float(), upcoming["label"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            print(f"step {steps}, {fraction:.1%}: loss {loss.item():.4f}", flush=True)
        upcoming = next(source)
    seconds = time.monotonic() - started
    note(job, steps=steps, train_seconds=seconds, prepare_seconds=started - loading_since)
    temporary = job.out / "model.tmp"
    torch.save(network.state_dict(), temporary)
    temporary.replace(job.out / "model.pt")


@torch.inference_mode()
def predict(job: Job, network: torch.nn.Module) -> None:
    """Segment the test cases with windows that overlap by half."""
    started = time.monotonic()
    load = Compose([LoadImaged(["image"], ensure_channel_first=True), NormalizeIntensityd("image")])
    network.eval()
    for case in job.test:
        image = load({"image": str(case.image)})["image"]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
            logits = sliding_window_inference(
                image[None], PATCH, 4, network, overlap=0.5, mode="gaussian"
            )
        assert isinstance(logits, torch.Tensor)
        values = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
        write_prediction(job, case, torch.softmax(values[0].float(), dim=0).numpy())
    note(job, predict_seconds=time.monotonic() - started)


if __name__ == "__main__":
    job = read_job(Path(sys.argv[1]))
    set_determinism(job.seed)
    set_track_meta(False)
    network = build_network(job)
    if not (job.out / "model.pt").exists():
        train(job, network)
    network.load_state_dict(torch.load(job.out / "model.pt", weights_only=True))
    predict(job, network)
