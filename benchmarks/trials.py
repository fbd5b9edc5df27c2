"""Trainings that differ in one thing, run side by side, resumed where they stopped."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def train_all(trials: Mapping[str, Sequence[str]], data: Path, out: Path, parallel: int) -> None:
    """Train every trial that is not done yet.

    Args:
        trials: For each folder below `out`, the arguments of its `sfumato train`.
        data: The data set.
        out: Where folders and logs go.
        parallel: How many trainings run at a time; the processor's cores are shared out.
    """
    out.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // parallel)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def train(name: str) -> None:
        if (out / name / "evaluation" / "metrics.json").exists():
            return
        command = [sys.executable, "-m", "sfumato", "train", str(data), "--resume"]
        command += ["--out", str(out / name), *trials[name]]
        with (out / f"{name}.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(train, trials))
