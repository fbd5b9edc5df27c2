"""Training the models of an experiment, side by side, each once."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError, SfumatoError
from sfumato.evaluation.summary import summarise, write_metrics
from sfumato.inference.predictor import Predictor
from sfumato.model.trained import TrainedModel
from sfumato.storage import remove_leftovers, write_text
from sfumato.training.checkpoint import previous_checkpoint
from sfumato.training.loop import compute_dtype
from sfumato.workflow.devices import choose_device
from sfumato.workflow.evaluating import Segment, score_cases
from sfumato.workflow.experiment import Cell
from sfumato.workflow.failures import Failure
from sfumato.workflow.held_out import segment_with
from sfumato.workflow.ray_cluster import work_on_ray
from sfumato.workflow.run import Run, RunRequest, read_fingerprint, split_cases, start_run
from sfumato.workflow.spoiling import spoil_labels
from sfumato.workflow.training import CHECKPOINT, run_training
from sfumato.workflow.workers import Lost, work_in_processes


@dataclass(frozen=True, kw_only=True)
class ComparisonJob:
    """What is the same for all trainings of an experiment.

    Attributes:
        dataset: Cases with labels.
        out: The experiment's folder.
        device: "auto", "cpu", "cuda" or "mps".
        n_threads: Threads of each training.
    """

    dataset: Dataset
    out: Path
    device: str
    n_threads: int


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where trainings run.

    Attributes:
        device: Where networks compute.
        n_workers: How many trainings run at a time on this machine; they share out the cores.
        ray: Address of a Ray cluster that trains instead, each training on one core and, with
            CUDA, one GPU; "auto" finds it.
    """

    device: str = "auto"
    n_workers: int = 1
    ray: str | None = None


def train_cells(
    dataset: Dataset, cells: Sequence[Cell], out: Path, workplace: Workplace
) -> Generator[tuple[Cell, Failure | None]]:
    """Train the models that are not done yet; one that fails does not stop the others.

    A training that was interrupted goes on from its checkpoint.

    Args:
        dataset: Cases with labels.
        cells: All trainings.
        out: The experiment's folder.
        workplace: Where they run.

    Yields:
        Each training as it is done, and why it failed if it did.

    Raises:
        ConfigError: If there is no such device or cluster.
    """
    remove_leftovers(out)
    missing = []
    for cell in cells:
        if cell.metrics(out) is None:
            missing.append(cell)
        else:  # A process that was killed may have left no time for it.
            _tidy(cell.folder(out))
    with closing(_work(dataset, missing, out, workplace)) as results:
        for cell, result in results:
            if isinstance(result, Lost):
                result = Failure(case_id=cell.words, reason=result.reason)
            yield cell, result


def _work(
    dataset: Dataset, cells: Sequence[Cell], out: Path, workplace: Workplace
) -> Generator[tuple[Cell, Failure | Lost | None]]:
    # Workers get the classes found already, rather than reading all labels each.
    _ = dataset.classes
    device, address = workplace.device, workplace.ray
    # As many as a training by itself would take, which OMP_NUM_THREADS may limit.
    n_threads = 1 if address else max(1, torch.get_num_threads() // workplace.n_workers)
    job = ComparisonJob(
        dataset=dataset.absolute(), out=out.absolute(), device=device, n_threads=n_threads
    )
    work = partial(train_cell, job)
    if address is not None:
        return work_on_ray(work, cells, address, n_gpus=int(device.startswith("cuda")))
    choose_device(device)
    return work_in_processes(work, cells, workplace.n_workers)


def train_cell(job: ComparisonJob, cell: Cell) -> Failure | None:
    """Train a model and score it on the cases that its fold holds out.

    Returns:
        Why that could not be done; None if it is done.
    """
    torch.set_num_threads(job.n_threads)
    folder = cell.folder(job.out)
    try:
        data, known = _training_data(job, cell), cell.fingerprint_path(job.out)
        request = RunRequest(
            fold=cell.fold,
            device=job.device,
            fingerprint=read_fingerprint(known) if known.is_file() else None,
            is_resumed=True,
        )
        run = start_run(data, folder, cell.config, request)
        if request.fingerprint is None:
            write_text(known, run.fingerprint.model_dump_json(indent=2))
        for _ in run_training(run):
            pass
        _score(run, job, cell)
        _tidy(folder)
    except (SfumatoError, OSError, MemoryError) as error:
        return Failure.of(cell.words, error)
    except Exception as error:  # One training that meets a defect does not stop the others.
        return Failure.of_defect(cell.words, error)
    return None


def segment_by(folder: Path, cell: Cell, device: str) -> Segment:
    """Make a finished training segment cases, as it did when it was scored."""
    chosen = choose_device(device)
    return segment_with(
        Predictor(
            TrainedModel.load(folder / "model"),
            device=chosen,
            dtype=compute_dtype(cell.config.training.precision, chosen),
        )
    )


def _training_data(job: ComparisonJob, cell: Cell) -> Dataset:
    """Return the data set, with labels spoilt in what the training learns from only."""
    folder = cell.spoilt_folder(job.out)
    if cell.noise is None or folder is None:
        return job.dataset
    split = split_cases(job.dataset, cell.fold, cell.config)
    return spoil_labels(job.dataset, split.train_ids, cell.noise, cell.seed, folder)


def _score(run: Run, job: ComparisonJob, cell: Cell) -> None:
    """Write `evaluation/metrics.json`, which says that the run is done."""
    held_out = job.dataset.select(run.split.held_out_ids)
    scores, failures = score_cases(held_out, segment_by(run.folder, cell, job.device))
    if failures:
        raise CaseError(failures[0].case_id, failures[0].reason)
    write_metrics(summarise(scores, run.classes), run.folder / "evaluation")


def _tidy(folder: Path) -> None:
    """Remove what only going on would need: an experiment holds many runs."""
    for name in ("prepared", "best_model"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for checkpoint in (folder / CHECKPOINT, previous_checkpoint(folder / CHECKPOINT)):
        checkpoint.unlink(missing_ok=True)
