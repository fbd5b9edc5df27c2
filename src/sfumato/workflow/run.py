"""A training run before its first step: cases split, everything planned, cases prepared."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.cases.dataset import Dataset
from sfumato.cases.preparation import PreparationSettings
from sfumato.cases.split import Split, fold, hold_back
from sfumato.cases.store import StoredCases, prepare_dataset
from sfumato.config import load_config, save_config
from sfumato.errors import CaseError, ConfigError, DatasetError, InputError
from sfumato.evaluation.summary import check_class_names
from sfumato.labels.classes import ClassList
from sfumato.storage import MARK, check_output, claim_folder, remove_leftovers, write_text
from sfumato.training.distributed import World
from sfumato.training.fingerprint import (
    SUBSET_SEED,
    Fingerprint,
    fingerprint_sample,
    measure_fingerprint,
)
from sfumato.training.loop import compute_dtype
from sfumato.training.plan import make_plan
from sfumato.workflow.devices import choose_device, choose_device_of
from sfumato.workflow.provenance import provenance
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.starting_model import StartingModel
from sfumato.workflow.tracking import Track, silently


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """How a training run is started.

    Attributes:
        fold: "K/N" holds out fold K of N for validation; "none" trains on all cases.
        device: "auto", "cpu", "cuda" or "mps".
        from_model: Folder of a trained model, or of its run, to start from; None starts from
            random weights.
        fingerprint: What the training cases are like, where that has been measured before; then
            the other cases have been checked, too. None measures and checks.
        is_resumed: Whether to go on with the run that stands in the folder.
        is_overwritten: Whether a folder that exists may be emptied.
        n_processes: How many processes train together.
    """

    fold: str = "0/5"
    device: str = "auto"
    from_model: Path | None = None
    fingerprint: Fingerprint | None = None
    is_resumed: bool = False
    is_overwritten: bool = False
    n_processes: int = 1


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
        calibration_cases: What the model's temperature is fitted on.
        calibration_data: The same cases as they stand in their files.
        device: Where the network computes.
        start: The model whose weights training starts from; None for random ones.
    """

    folder: Path
    config: RunConfig
    split: Split
    fingerprint: Fingerprint
    classes: ClassList
    train_cases: StoredCases
    validation_cases: StoredCases
    calibration_cases: StoredCases
    calibration_data: Dataset
    device: torch.device
    start: StartingModel | None = None


def start_run(
    dataset: Dataset,
    out: Path,
    config: RunConfig | None = None,
    request: RunRequest | None = None,
    track: Track = silently,
) -> Run:
    """Split the data, plan, and prepare the cases.

    Every case that will be needed is read before training begins, so that a bad one does not
    come to light after it.

    Args:
        dataset: Cases with labels.
        out: Folder of the run.
        config: Settings; what they leave open is chosen from the data.
        request: Fold, device, model to start from, and what to do with a folder that exists.
        track: Told how far long steps are.

    Raises:
        SfumatoError: If data, settings or folder cannot be used; the text says why.
    """
    request, wishes = request or RunRequest(), _wishes(dataset, config or RunConfig())
    _check_labels(dataset)
    check_class_names(dataset.classes)
    device = choose_device(request.device)
    start = None if request.from_model is None else StartingModel.load(request.from_model)
    planned = wishes if start is None else start.plan(wishes)
    inputs = [*dataset.paths, *([] if start is None else [start.place])]
    split = split_cases(dataset, request.fold, wishes)
    is_begun = request.is_resumed and (out / "run.json").exists()
    # What was stopped while it prepared cases goes on with those that it has.
    is_kept = is_begun or (request.is_resumed and (out / MARK).exists())
    if is_begun:
        _check_resumed(out, wishes, split, start)
        fingerprint = read_fingerprint(out / "fingerprint.json")
    else:
        if not is_kept:
            check_output(out, overwrite=request.is_overwritten, inputs=inputs)
        if start is not None:
            start.check_data(dataset.classes, dataset.load(split.train_ids[0]))
        fingerprint = request.fingerprint or measure(dataset, split.train_ids, track)
        if request.fingerprint is None:
            _check_readable(dataset, _unseen_ids(split, wishes), track)
    config = planned.model_copy(update=dict(make_plan(fingerprint, planned)))
    _check_processes(config, request.n_processes)
    if not is_kept:
        claim_folder(out, overwrite=request.is_overwritten, inputs=inputs)
    remove_leftovers(out)
    run = Run(
        folder=out,
        config=config,
        split=split,
        fingerprint=fingerprint,
        classes=dataset.classes,
        train_cases=_prepare(dataset.select(split.train_ids), config, out, track),
        validation_cases=_prepare(
            dataset.select(_validation_ids(split, config)), config, out, track
        ),
        calibration_cases=_prepare(dataset.select(split.calibration_ids), config, out, track),
        calibration_data=dataset.select(split.calibration_ids),
        device=device,
        start=start,
    )
    if not is_begun:
        _write_start(run, dataset, wishes, request.n_processes)
    return run


def start_together(
    world: World,
    dataset: Dataset,
    out: Path,
    config: RunConfig,
    request: RunRequest,
    track: Track = silently,
) -> Run:
    """Start a run of several processes: the first does what `start_run` does, for all.

    Raises:
        SfumatoError: If data, settings, folder or a process's device cannot be used.
    """
    device = world.of_each(lambda: choose_device_of(world.place, request.device))
    request = replace(request, device=str(device), n_processes=world.size)
    run = world.of_first(lambda: start_run(dataset, out, config, request, track))
    return replace(run, device=device)


def _wishes(dataset: Dataset, config: RunConfig) -> RunConfig:
    """Add what the data set declares to what the user set."""
    if not dataset.is_photo:
        return config
    superpixels = config.superpixels.model_copy(update={"is_photo": True})
    return config.model_copy(update={"superpixels": superpixels})


def _check_labels(dataset: Dataset) -> None:
    unlabelled = [record.id for record in dataset.records if not record.label_paths]
    if len(unlabelled) == len(dataset):
        raise DatasetError(
            f"{dataset.name}: has no labels, so there is nothing to train on; put labels of the"
            " same names into labels/ beside images/"
        )
    if unlabelled:
        raise CaseError(
            unlabelled[0], "it has no label; add the label, or take the case out of the data set"
        )


def _check_readable(dataset: Dataset, case_ids: Sequence[str], track: Track) -> None:
    for case_id in track(case_ids, "Checking other cases", len(case_ids)):
        dataset.load(case_id)


def read_fingerprint(path: Path) -> Fingerprint:
    """Read what a run found its training cases to be like.

    Raises:
        ConfigError: If the file is missing or damaged.
    """
    try:
        return Fingerprint.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read; train anew with --overwrite") from error


def split_cases(dataset: Dataset, wish: str, config: RunConfig) -> Split:
    """Split a data set into cases that train, are held out, and fit the temperature.

    Args:
        dataset: Cases, perhaps in groups; a group is never torn apart.
        wish: "K/N", or "none" to train on everything.
        config: How many training cases are used, in a fixed random order, and how many of these
            are held back to fit the temperature.

    Raises:
        ConfigError: If the wish is no such text, or asks for more folds than there are groups,
            or there are not as many training cases.
    """
    split = _use_some(_fold_of(dataset, wish), config.training.train_cases)
    groups = {record.id: record.group for record in dataset.records}
    try:
        return hold_back(split, groups, config.calibration.cases)
    except InputError as error:
        raise ConfigError(str(error)) from error


def _fold_of(dataset: Dataset, wish: str) -> Split:
    ids = [record.id for record in dataset.records]
    groups = [record.group for record in dataset.records]
    if wish == "none":
        return Split(train_ids=tuple(sorted(ids)), held_out_ids=())
    try:
        k, n = (int(part) for part in wish.split("/"))
    except ValueError as error:
        raise ConfigError(
            f"--fold takes K/N, such as 0/5, or none to train on all cases; got {wish!r}"
        ) from error
    try:
        return fold(ids, groups, k, n)
    except InputError as error:
        raise ConfigError(f"--fold {wish}: {error}, or --fold none") from error


def _use_some(split: Split, train_cases: int | None) -> Split:
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
    chosen = fingerprint_sample(ids)
    cases = (dataset.load(case_id) for case_id in chosen)
    return measure_fingerprint(track(cases, "Looking at the data", len(chosen)), dataset.classes)


def _validation_ids(split: Split, config: RunConfig) -> list[str]:
    """Spread a few held-out cases evenly over all of them."""
    step = max(1, math.ceil(len(split.held_out_ids) / config.training.validation_cases))
    return list(split.held_out_ids[::step])


def _unseen_ids(split: Split, config: RunConfig) -> list[str]:
    """Name the held-out cases that training does not look at."""
    return sorted(set(split.held_out_ids) - set(_validation_ids(split, config)))


def _prepare(dataset: Dataset, config: RunConfig, out: Path, track: Track) -> StoredCases:
    settings = PreparationSettings(
        preprocessing=config.preprocessing,
        superpixels=config.superpixels,
        softening=config.softening,
        n_classes=len(dataset.classes),
    )
    places = prepare_dataset(dataset, settings, out / "prepared")
    return StoredCases(list(track(places, "Softening labels", len(dataset))))


def _check_resumed(out: Path, config: RunConfig, split: Split, start: StartingModel | None) -> None:
    """Refuse to go on with other settings, cases or weights than the run began with."""
    begun = json.loads((out / "run.json").read_text(encoding="utf-8"))
    stored = load_config(RunConfig, out / "wishes.toml")
    if stored != config:
        raise ConfigError(
            f"{out}: the run was started with other settings; resume with the same command, or"
            " train anew with --overwrite"
        )
    if begun["split"]["train"] != list(split.train_ids):
        raise ConfigError(
            f"{out}: the run was started with other cases; resume with the same data and fold,"
            " or train anew with --overwrite"
        )
    if begun.get("from_model", {}).get("sha256") != (start and start.sha256):
        raise ConfigError(
            f"{out}: the run was started from {_started_from(begun)}; resume with the same"
            " command, or train anew with --overwrite"
        )


def _started_from(begun: dict[str, Any]) -> str:
    if "from_model" not in begun:
        return "random weights"
    return f"the model {begun['from_model']['folder']} as it was then"


def _check_processes(config: RunConfig, n_processes: int) -> None:
    batch_size = config.patches.batch_size
    assert batch_size is not None
    if batch_size < n_processes:
        raise ConfigError(
            f"patches.batch_size is {batch_size}, but each of {n_processes} processes needs a"
            f" patch; start {batch_size} at most, or --set patches.batch_size={n_processes}"
        )


def _write_start(run: Run, dataset: Dataset, wishes: RunConfig, n_processes: int) -> None:
    save_config(wishes, run.folder / "wishes.toml")
    save_config(run.config, run.folder / "config.toml")
    write_text(run.folder / "fingerprint.json", run.fingerprint.model_dump_json(indent=2))
    content: dict[str, Any] = {
        **provenance(),
        "dataset": dataset.name,
        "device": str(run.device),
        "processes": n_processes,
        "threads": torch.get_num_threads(),
        "precision": str(compute_dtype(run.config.training.precision, run.device)),
        "split": {
            "train": list(run.split.train_ids),
            "held_out": list(run.split.held_out_ids),
            "calibration": list(run.split.calibration_ids),
        },
    }
    if run.start is not None:
        content["from_model"] = run.start.origin
    write_text(run.folder / "run.json", json.dumps(content, indent=2))
