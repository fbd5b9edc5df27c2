"""Training, from a data set to a folder with a trained model."""

import copy
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sfumato.cases.dataset import Dataset
from sfumato.errors import TrainingError
from sfumato.inference.averaging import averaged
from sfumato.inference.engines import network_on
from sfumato.inference.probability import most_probable
from sfumato.inference.sliding_window import predict_windows, window_corners
from sfumato.metrics.overlap import dice
from sfumato.model.deep_supervision import DeepSupervision
from sfumato.model.network import build_network
from sfumato.model.tensors import Images, Logits
from sfumato.model.trained import TrainedModel
from sfumato.storage import hold_folder
from sfumato.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from sfumato.training.distributed import ALONE, World
from sfumato.training.loop import DrawBatch, Progress, Validate, compute_dtype, optimize
from sfumato.training.patches import BatchSource
from sfumato.training.redrawing import Redrawing
from sfumato.workflow.calibrating import calibrated
from sfumato.workflow.history import History
from sfumato.workflow.provenance import provenance
from sfumato.workflow.run import Run, RunRequest, start_run
from sfumato.workflow.run_config import RunConfig

CHECKPOINT = "checkpoint.sfumato"
SECONDS_PER_CHECKPOINT = 60.0
OVERLAP = 0.5
VALIDATION_SHARE = 0.1
"""Share of a training by the clock that validation may take."""


def train(
    dataset: Dataset,
    out: Path | str,
    config: RunConfig | None = None,
    request: RunRequest | None = None,
) -> Generator[Progress]:
    """Train a model on a data set, yielding after every step.

    Args:
        dataset: Cases with labels.
        out: Folder of the run; `out/model` is the trained model in the end.
        config: Settings; what they leave open is chosen from the data.
        request: Fold, device, model to start from, and what to do with a folder that exists.

    Raises:
        SfumatoError: If data, settings or folder cannot be used; the text says why.
    """
    with hold_folder(Path(out)):
        yield from run_training(start_run(dataset, Path(out), config, request))


def run_training(
    run: Run, tell: Callable[[str], None] = warnings.warn, world: World = ALONE
) -> Generator[Progress]:
    """Train a run to its end, from its checkpoint if it has one.

    A checkpoint is written every minute, after every validation and when the caller
    closes the generator (Ctrl-C); the trained model at the end.

    Args:
        run: What `start_run` made ready.
        tell: Given one line if the newest checkpoint is damaged and the one before is used.
        world: The processes that train together; the first alone writes.

    Yields:
        Progress after every step.

    Raises:
        TrainingError: If training cannot go on, in this or another process.
        KeyboardInterrupt: If the first process stops, in the others.
    """
    checkpoint = run.folder / CHECKPOINT
    state = _new_state(run)
    _load_together(state, checkpoint, tell, world)
    config, step_before = run.config, state.step
    validate = _validation(run, state) if world.is_first else None
    steps = optimize(state, _drawing(run, world), validate, config.loss, config.training, world)
    if not world.is_first:
        yield from steps
        return
    saved_at = time.monotonic()
    with (
        closing(steps),
        History(run.folder / "history.jsonl", run.folder / "tensorboard", state.step) as history,
    ):
        for progress in steps:
            history.add(progress)
            if progress.is_best:
                trained_model(run, state).save(run.folder / "best_model")
            is_due = time.monotonic() - saved_at > SECONDS_PER_CHECKPOINT
            if is_due or progress.dice is not None or progress.fraction >= 1:
                save_checkpoint(state, checkpoint)
                saved_at = time.monotonic()
            try:
                yield progress
            except GeneratorExit:
                # The caller stops between two steps, so weights and counters fit together.
                save_checkpoint(state, checkpoint)
                if progress.fraction < 1:
                    world.stop()
                raise
    if state.step > step_before or not TrainedModel.is_model(run.folder / "model"):
        calibrated(run, trained_model(run, state)).save(run.folder / "model")


def _load_together(
    state: TrainingState, checkpoint: Path, tell: Callable[[str], None], world: World
) -> None:
    """Bring the training of every process to where its checkpoint left off."""
    # The first alone may put the checkpoint before a damaged one into its place.
    complaint, step = world.of_first(lambda: (load_checkpoint(state, checkpoint), state.step))
    if complaint and world.is_first:
        tell(complaint)

    def load_same() -> None:
        if not world.is_first:
            load_checkpoint(state, checkpoint)
        if state.step != step:
            raise TrainingError(
                f"{checkpoint}: is another one than the first process reads; all processes must see"
                " the same files"
            )

    world.of_each(load_same)


def _drawing(run: Run, world: World) -> DrawBatch:
    """Say how this process draws its share of a step's batch."""
    config = run.config
    source = BatchSource(
        cases=run.train_cases,
        patches=config.patches,
        augmentation=config.augmentation,
        seed=config.training.seed,
        redrawing=Redrawing(
            softening=config.softening,
            superpixels=config.superpixels,
            n_classes=len(run.classes),
        ),
    )
    assert config.patches.batch_size is not None
    return partial(source.draw, share=world.share(config.patches.batch_size))


def _new_state(run: Run) -> TrainingState:
    training, supervision = run.config.training, None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = build_network(run.config.network, len(run.fingerprint.channels), len(run.classes))
        # After the network, whose first weights are the same with and without.
        if run.config.loss.deep_supervision:
            supervision = DeepSupervision(network, run.config.network, len(run.classes))
    learning = (supervision or network).to(run.device)
    if run.start is not None:
        network.load_state_dict(run.start.model.network.state_dict())
    optimizer = torch.optim.AdamW(
        learning.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    return TrainingState(
        network=network,
        average=copy.deepcopy(network).eval().requires_grad_(False),
        optimizer=optimizer,
        supervision=supervision,
        fingerprint=_run_key(run),
    )


def _run_key(run: Run) -> str:
    """Identify what must not change between a run and its resumption: settings and files."""
    places = [place.name for place in (*run.train_cases.places, *run.validation_cases.places)]
    content = json.dumps([run.config.model_dump(mode="json"), places])
    return hashlib.sha256(content.encode()).hexdigest()


def _validation(run: Run, state: TrainingState) -> Validate | None:
    """Say how the training is validated, or None where there is no case or no time for one.

    All validations look at the same cases, also after going on from a checkpoint: the best model
    must not be the one that met easy ones.
    """
    settings, window = run.config.training, run.config.patches.shape
    assert window is not None
    dtype = compute_dtype(settings.precision, run.device)
    if state.n_validation_cases is None:
        compute = network_on(state.average, run.device, dtype)
        state.n_validation_cases = _affordable(run, compute)
    cases = run.validation_cases[: state.n_validation_cases]
    if not cases:
        return None

    def validate(network: torch.nn.Module) -> dict[str, float]:
        predict = averaged([network_on(network, run.device, dtype)])
        values: dict[str, list[float]] = {name: [] for name in run.classes.foreground}
        for case in cases:
            image = np.asarray(case.image)
            segmentation = most_probable(predict_windows(predict, image, window, OVERLAP))
            for index, name in enumerate(run.classes.foreground, start=1):
                values[name].append(dice(case.hard_label == index, segmentation == index))
        return {name: _mean_of_defined(v) for name, v in values.items()}

    return validate


def _affordable(run: Run, compute: Callable[[Images], Logits]) -> int:
    """Count the validation cases that leave a training by the clock most of its time.

    With a number of steps nothing is left out, so that the best model does not depend on the
    machine's speed.
    """
    settings, window = run.config.training, run.config.patches.shape
    assert window is not None
    if settings.steps is not None or not run.validation_cases:
        return len(run.validation_cases)
    images = torch.zeros((1, len(run.fingerprint.channels), *window))
    compute(images)  # The first window takes longer than all others.
    started = time.monotonic()
    compute(images)
    seconds = (time.monotonic() - started) * np.cumsum(
        [len(window_corners(_at_least(case.geometry.shape, window), window, OVERLAP))
         for case in run.validation_cases]
    )  # fmt: skip
    budget = 60 * settings.minutes * VALIDATION_SHARE / settings.validations
    return int(np.searchsorted(seconds, budget, side="right"))


def _at_least(shape: tuple[int, ...], window: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(n, w) for n, w in zip(shape, window, strict=True))


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [v for v in values if not math.isnan(v)]
    return sum(defined) / len(defined) if defined else math.nan


def trained_model(run: Run, state: TrainingState) -> TrainedModel:
    """Gather all that is needed to use the averaged network of a training."""
    config = run.config
    assert config.patches.shape is not None
    assert config.augmentation.mirror_axes is not None
    return TrainedModel(
        network=state.average,
        network_settings=config.network,
        n_channels=len(run.fingerprint.channels),
        window=config.patches.shape,
        mirror_axes=config.augmentation.mirror_axes,
        classes=run.classes,
        preprocessing=config.preprocessing,
        about={
            "softening": config.softening.method,
            "training_cases": len(run.split.train_ids),
            "steps": state.step,
            "minutes": round(state.elapsed_seconds / 60, 2),
            **({} if run.start is None else {"from_model_sha256": run.start.sha256}),
            **provenance(),
        },
    )
