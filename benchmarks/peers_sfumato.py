"""sfumato with its defaults, as one of the tools that `peers.py` compares.

python benchmarks/peers_sfumato.py JOB
"""

import sys
import time
from pathlib import Path

from peers_job import Job, note, notes, read_job, write_prediction
from sfumato.cases.dataset import Dataset
from sfumato.config import load_config
from sfumato.inference.predictor import Predictor
from sfumato.model.trained import TrainedModel
from sfumato.training.loop import compute_dtype
from sfumato.workflow.run import Run, RunRequest, start_run
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.training import run_training


def train(job: Job, dataset: Dataset) -> Run:
    """Train, or go on with a training that was stopped."""
    started = time.monotonic()
    wishes = [f"training.minutes={job.minutes}", f"training.seed={job.seed}"]
    request = RunRequest(fold=job.fold, device="cpu", is_resumed=True)
    run = start_run(dataset, job.out / "run", load_config(RunConfig, None, wishes), request)
    assert run.split.train_ids == tuple(case.id for case in job.train)
    if "prepare_seconds" not in notes(job.out):
        note(job, prepare_seconds=time.monotonic() - started)
    for progress in run_training(run):
        if progress.fraction >= 1:
            note(job, steps=progress.step, train_seconds=progress.elapsed_seconds)
    return run


def predict(job: Job, run: Run, dataset: Dataset) -> None:
    """Segment the test cases."""
    started = time.monotonic()
    dtype = compute_dtype(run.config.training.precision, run.device)
    model = TrainedModel.load(run.folder / "model")
    predictor = Predictor(model, device=run.device, dtype=dtype)
    for case in job.test:
        loaded = dataset.load(case.id)
        probability = predictor.predict(loaded.image, loaded.geometry).probability
        write_prediction(job, case, probability)
    note(job, predict_seconds=time.monotonic() - started)


if __name__ == "__main__":
    job = read_job(Path(sys.argv[1]))
    dataset = Dataset.open(job.data)
    predict(job, train(job, dataset), dataset)
