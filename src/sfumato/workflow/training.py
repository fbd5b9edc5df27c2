"""Training, from a data set to a folder with a trained model."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.cases.dataset import Dataset
from sfumato.cases.preparation import PreparationSettings, PreparedCase
from sfumato.cases.split import Split, fold
from sfumato.cases.store import prepare_dataset
from sfumato.config import load_config, save_config
from sfumato.errors import ConfigError, DatasetError
from sfumato.inference.predictor import network_on
from sfumato.inference.sliding_window import predict_windows
from sfumato.labels.classes import ClassList
from sfumato.metrics.overlap import dice
from sfumato.model.network import build_network
from sfumato.model.trained import TrainedModel
from sfumato.storage import claim_folder, write_text
from sfumato.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from sfumato.training.fingerprint import Fingerprint, measure_fingerprint
from sfumato.training.loop import Progress, Validate, compute_dtype, optimize
from sfumato.training.patches import BatchSource
from sfumato.training.plan import make_plan
from sfumato.workflow.devices import choose_device
from sfumato.workflow.history import History
from sfumato.workflow.provenance import provenance
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.tracking import Track, silently

FINGERPRINT_CASES = 100
"""Cases looked at for the plan; more would change the medians little."""
SUBSET_SEED = 12345
"""Which cases `training.train_cases` takes does not depend on the training's own seed."""
SECONDS_PER_CHECKPOINT = 60.0


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """How a training run is started.

    Attributes:
        fold: "K/N" holds out fold K of N for validation; "none" trains on all cases.
        device: "auto", "cpu", "cuda" or "mps".
        is_resumed: Whether to go on with the run that stands in the folder.
        is_overwritten: Whether a folder that exists may be emptied.
    """

    fold: str = "0/5"
    device: str = "auto"
    is_resumed: bool = False
    is_overwritten: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A training run, ready to go.

    Attributes:
        folder: Where everything is written.
        config: All settings, nothing left open.
        split: Which cases train and which are held out.
        fingerprint: What the data are like.
        classes: The structures to tell apart.
        train_cases: What patches are cut from.
        validation_cases: What is scored along the way.
        device: Where the network computes.
    """

    folder: Path
    config: RunConfig
    split: Split
    fingerprint: Fingerprint
    classes: ClassList
    train_cases: Sequence[PreparedCase]
    validation_cases: Sequence[PreparedCase]
    device: torch.device


def train(
    dataset: Dataset,
    out: Path | str,
    config: RunConfig | None = None,
    request: RunRequest | None = None,
) -> Iterator[Progress]:
    """Train a model on a data set, yielding after every step.

    Args:
        dataset: Cases with labels.
        out: Folder of the run; `out/model` is the trained model in the end.
        config: Settings; what they leave open is chosen from the data.
        request: Fold, device, and what to do with a folder that exists.

    Raises:
        SfumatoError: If data, settings or folder cannot be used; the text says why.
    """
    yield from run_training(start_run(dataset, Path(out), config, request))


def start_run(
    dataset: Dataset,
    out: Path,
    config: RunConfig | None = None,
    request: RunRequest | None = None,
    track: Track = silently,
) -> Run:
    """Split the data, plan, and prepare the cases.

    Args:
        dataset: Cases with labels.
        out: Folder of the run.
        config: Settings; what they leave open is chosen from the data.
        request: Fold, device, and what to do with a folder that exists.
        track: Told how far long steps are.
    """
    request = request or RunRequest()
    config = config or RunConfig()
    if dataset.is_photo:
        superpixels = config.superpixels.model_copy(update={"is_photo": True})
        config = config.model_copy(update={"superpixels": superpixels})
    if not dataset.has_labels:
        raise DatasetError(f"{dataset.name}: has no labels, so there is nothing to train on")
    device = choose_device(request.device)
    split = split_cases(dataset, request.fold, config.training.train_cases)
    if request.is_resumed and (out / "run.json").exists():
        _check_resumed(out, config, split)
        fingerprint = Fingerprint.model_validate_json((out / "fingerprint.json").read_text())
    else:
        claim_folder(out, overwrite=request.is_overwritten)
        fingerprint = measure(dataset, split.train_ids, track)
    wishes = config
    config = config.model_copy(update=dict(make_plan(fingerprint, config)))
    run = Run(
        folder=out,
        config=config,
        split=split,
        fingerprint=fingerprint,
        classes=dataset.classes,
        train_cases=_prepare(dataset, split.train_ids, config, out, track),
        validation_cases=_prepare(
            dataset, _validation_ids(split, config.training.validation_cases), config, out, track
        ),
        device=device,
    )
    _write_start(run, dataset, wishes)
    return run


def run_training(run: Run) -> Iterator[Progress]:
    """Train a run to its end, from its checkpoint if it has one.

    A checkpoint is written every minute, after every validation and when the caller
    closes the generator (Ctrl-C); the trained model at the end.

    Args:
        run: What `start_run` made ready.

    Yields:
        Progress after every step.
    """
    checkpoint = run.folder / "checkpoint.pt"
    state = _new_state(run)
    if checkpoint.exists():
        load_checkpoint(state, checkpoint)
    config = run.config
    batches = BatchSource(
        cases=run.train_cases,
        patches=config.patches,
        augmentation=config.augmentation,
        seed=config.training.seed,
    )
    validate = _validation(run) if run.validation_cases else None
    saved_at = time.monotonic()
    with History(run.folder / "history.jsonl", run.folder / "tensorboard", state.step) as history:
        for progress in optimize(state, batches.draw, validate, config.loss, config.training):
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
                raise
    trained_model(run, state).save(run.folder / "model")


def split_cases(dataset: Dataset, wish: str, train_cases: int | None) -> Split:
    """Split a data set into training and held-out cases.

    Args:
        dataset: Cases, perhaps in groups; a group is never torn apart.
        wish: "K/N", or "none" to train on everything.
        train_cases: How many of the training cases are used, in a fixed random order; None
            uses all.

    Raises:
        ConfigError: If the wish is no such text, or asks for more folds than there are groups.
    """
    ids = [record.id for record in dataset.records]
    groups = [record.group for record in dataset.records]
    if wish == "none":
        split = Split(train_ids=tuple(sorted(ids)), held_out_ids=())
    else:
        try:
            k, n = (int(part) for part in wish.split("/"))
        except ValueError as error:
            raise ConfigError(
                f"--fold takes K/N, such as 0/5, or none to train on all cases; got {wish!r}"
            ) from error
        split = fold(ids, groups, k, n)
    if train_cases is None:
        return split
    if train_cases > len(split.train_ids):
        raise ConfigError(
            f"training.train_cases must be at most {len(split.train_ids)}, the training cases of"
            f" this fold, got {train_cases}"
        )
    order = np.random.RandomState(SUBSET_SEED).permutation(len(split.train_ids))
    chosen = sorted(split.train_ids[i] for i in order[:train_cases])
    return Split(train_ids=tuple(chosen), held_out_ids=split.held_out_ids)


def measure(dataset: Dataset, ids: Sequence[str], track: Track) -> Fingerprint:
    """Look at (a sample of) the named cases of a data set."""
    order = np.random.RandomState(SUBSET_SEED).permutation(len(ids))
    chosen = sorted(ids[i] for i in order[:FINGERPRINT_CASES])
    cases = (dataset.load(case_id) for case_id in chosen)
    return measure_fingerprint(track(cases, "Looking at the data", len(chosen)), dataset.classes)


def _validation_ids(split: Split, limit: int) -> list[str]:
    """Spread a few held-out cases evenly over all of them."""
    step = max(1, math.ceil(len(split.held_out_ids) / limit))
    return list(split.held_out_ids[::step])


def _prepare(
    dataset: Dataset, ids: Sequence[str], config: RunConfig, out: Path, track: Track
) -> list[PreparedCase]:
    settings = PreparationSettings(
        preprocessing=config.preprocessing,
        superpixels=config.superpixels,
        softening=config.softening,
        n_classes=len(dataset.classes),
    )
    cases = prepare_dataset(dataset.select(ids), settings, out / "prepared")
    return list(track(cases, "Softening labels", len(ids)))


def _new_state(run: Run) -> TrainingState:
    training = run.config.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = build_network(
            run.config.network, len(run.fingerprint.channels), len(run.classes)
        ).to(run.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    return TrainingState(
        network=network,
        average=copy.deepcopy(network).eval().requires_grad_(False),
        optimizer=optimizer,
        fingerprint=_run_key(run.config, run.split),
    )


def _run_key(config: RunConfig, split: Split) -> str:
    """Identify what must not change between a run and its resumption."""
    content = json.dumps([config.model_dump(mode="json"), split.train_ids, split.held_out_ids])
    return hashlib.sha256(content.encode()).hexdigest()


def _validation(run: Run) -> Validate:
    settings, window = run.config.training, run.config.patches.shape
    assert window is not None
    dtype = compute_dtype(settings.precision, run.device)

    def validate(network: torch.nn.Module) -> dict[str, float]:
        compute = network_on(network, run.device, dtype)
        values: dict[str, list[float]] = {name: [] for name in run.classes.foreground}
        for case in run.validation_cases:
            image = np.asarray(case.image)
            segmentation = predict_windows(compute, image, window, 0.5).argmax(axis=0)
            for index, name in enumerate(run.classes.foreground, start=1):
                values[name].append(dice(case.hard_label == index, segmentation == index))
        return {name: _mean_of_defined(v) for name, v in values.items()}

    return validate


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
            **provenance(),
        },
    )


def _check_resumed(out: Path, config: RunConfig, split: Split) -> None:
    """Refuse to go on with other settings or other cases than the run began with."""
    start = json.loads((out / "run.json").read_text(encoding="utf-8"))
    stored = load_config(RunConfig, out / "wishes.toml")
    if stored != config:
        raise ConfigError(
            f"{out}: the run was started with other settings; resume with the same command, or"
            " train anew with --overwrite"
        )
    if start["split"]["train"] != list(split.train_ids):
        raise ConfigError(
            f"{out}: the run was started with other cases; resume with the same data and fold,"
            " or train anew with --overwrite"
        )


def _write_start(run: Run, dataset: Dataset, wishes: RunConfig) -> None:
    save_config(wishes, run.folder / "wishes.toml")
    save_config(run.config, run.folder / "config.toml")
    write_text(run.folder / "fingerprint.json", run.fingerprint.model_dump_json(indent=2))
    content: dict[str, Any] = {
        **provenance(),
        "dataset": dataset.name,
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "precision": str(compute_dtype(run.config.training.precision, run.device)),
        "split": {"train": list(run.split.train_ids), "held_out": list(run.split.held_out_ids)},
    }
    write_text(run.folder / "run.json", json.dumps(content, indent=2))
