"""nnU-Net as one of the tools that `peers.py` compares.

    PEERS_PYTHON benchmarks/peers_nnunet.py JOB

Its own plan (3d_fullres), trainer, loss, augmentation and test-time mirroring. As its users do
for a short training, epochs are shortened so that its polynomial schedule ends with the time:
with 1000 epochs of 250 steps, ten minutes on a processor end within the first epoch, at the
first learning rate. Variants:

    nnunet        the plan as it is, in float32, as nnU-Net computes on a processor
    nnunet-small  batches of two (its smallest) and, where it is fast, bfloat16: several times
                  as many steps in the same time
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from peers_job import Job, bfloat16_is_fast, note, read_job, write_prediction

CONFIGURATION = "3d_fullres"
DATASET = "Dataset001_Peers"
EPOCHS = 20
FIRST_STEPS = 4
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from the plan.

    Attributes:
        batch_size: Patches in a step; None keeps the plan's.
        is_bfloat16: Whether convolutions are computed in bfloat16, if that is fast.
    """

    batch_size: int | None
    is_bfloat16: bool


VARIANTS = {
    "nnunet": Variant(batch_size=None, is_bfloat16=False),
    "nnunet-small": Variant(batch_size=2, is_bfloat16=True),
}


class BudgetTrainer(nnUNetTrainer):
    """nnU-Net's trainer with few epochs, each as long as the time that is left allows.

    The first epoch has a few steps and times them. After each epoch the length of the next one
    follows from the time left, so that the last one, and with it the schedule, ends in time.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int | str,
        dataset_json: dict[str, Any],
        device: torch.device = CPU,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = EPOCHS
        self.num_iterations_per_epoch = FIRST_STEPS
        self.num_val_iterations_per_epoch = 1
        self.disable_checkpointing = True  # The state at the end is saved, no other is needed.
        self.seconds, self.steps, self.is_bfloat16 = 0.0, 0, False
        self.started: float | None = None
        self.elapsed = 0.0

    def initialize(self) -> None:
        """Build everything; let the network compute in bfloat16 if that is wanted."""
        super().initialize()
        if not self.is_bfloat16:
            return
        compute = self.network.forward

        def forward(images: torch.Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                outputs = compute(images)
            if isinstance(outputs, torch.Tensor):
                return outputs.float()
            return [output.float() for output in outputs]

        self.network.forward = forward

    def on_epoch_start(self) -> None:
        """Choose the number of steps."""
        super().on_epoch_start()
        if self.started is None:
            self.started = time.monotonic()
            return
        left = (self.seconds - self.elapsed) / (self.num_epochs - self.current_epoch)
        self.num_iterations_per_epoch = max(1, round(left * self.steps / self.elapsed))

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take a step and count it."""
        self.steps += 1
        result: dict[str, Any] = super().train_step(batch)
        return result

    def on_epoch_end(self) -> None:
        """Look at the clock."""
        super().on_epoch_end()
        assert self.started is not None
        self.elapsed = time.monotonic() - self.started


def prepare(job: Job) -> None:
    """Plan and preprocess the training cases, once for all runs."""
    done = job.shared / "prepared.json"
    if done.exists():
        return
    started = time.monotonic()
    folder = job.shared / "raw" / DATASET
    folder.mkdir(parents=True, exist_ok=True)
    cases = {
        case.id: {"images": [str(case.image.resolve())], "label": str(case.label.resolve())}
        for case in job.train
        if case.label is not None
    }
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {name: index for index, name in enumerate(job.class_names)},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "dataset": cases,
    }
    save_json(description, str(folder / "dataset.json"), sort_keys=False)
    extract_fingerprints([1], num_processes=2)
    plan_experiments([1])
    preprocess([1], configurations=(CONFIGURATION,), num_processes=(2,))
    save_json({"prepare_seconds": time.monotonic() - started}, str(done))


def build_trainer(job: Job) -> BudgetTrainer:
    """Make the trainer; `all` trains on all cases, as the test cases are not among them."""
    folder = job.shared / "preprocessed" / DATASET
    plans: dict[str, Any] = load_json(str(folder / "nnUNetPlans.json"))
    variant = VARIANTS[job.who]
    if variant.batch_size is not None:
        plans["configurations"][CONFIGURATION]["batch_size"] = variant.batch_size
    plans["continue_training"] = False
    description: dict[str, Any] = load_json(str(folder / "dataset.json"))
    trainer = BudgetTrainer(plans, CONFIGURATION, "all", description, CPU)
    trainer.seconds = job.seconds
    trainer.is_bfloat16 = variant.is_bfloat16 and bfloat16_is_fast()
    return trainer


def train(job: Job, trainer: BudgetTrainer) -> None:
    """Train until the time is over."""
    trainer.run_training()
    prepared: dict[str, float] = load_json(str(job.shared / "prepared.json"))
    note(job, steps=trainer.steps, train_seconds=trainer.elapsed, **prepared)
    trainer.disable_checkpointing = False
    trainer.save_checkpoint(str(job.out / "model.tmp"))
    (job.out / "model.tmp").replace(job.out / "model.pth")


def predict(job: Job, trainer: BudgetTrainer) -> None:
    """Segment the test cases as nnU-Net does by default: half overlap, mirrored on all axes."""
    started = time.monotonic()
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    mirror_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[-1]
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=CPU, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        mirror_axes,
    )
    for case in job.test:
        image, properties = SimpleITKIO().read_images([str(case.image)])
        _, probability = predictor.predict_single_npy_array(
            image, properties, save_or_return_probabilities=True
        )
        # SimpleITK's arrays have the file's axes in reverse order.
        write_prediction(job, case, np.asarray(probability).transpose(0, 3, 2, 1))
    note(job, predict_seconds=time.monotonic() - started)


def main(job: Job) -> None:
    """Do what the job says."""
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)
    prepare(job)
    trainer = build_trainer(job)
    trainer.initialize()
    if (job.out / "model.pth").exists():
        trainer.load_checkpoint(str(job.out / "model.pth"))
    else:
        train(job, trainer)
    predict(job, trainer)


if __name__ == "__main__":
    told = read_job(Path(sys.argv[1]))
    os.environ.update(
        nnUNet_raw=str(told.shared / "raw"),
        nnUNet_preprocessed=str(told.shared / "preprocessed"),
        nnUNet_results=str(told.out / "nnunet"),
        nnUNet_n_proc_DA="1",
    )
    main(told)
