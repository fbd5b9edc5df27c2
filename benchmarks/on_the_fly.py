"""Soft labels drawn once, every epoch or for every patch: what a step costs, what it is good for.

    python benchmarks/on_the_fly.py DATA speed                    # minutes
    python benchmarks/on_the_fly.py DATA accuracy --out results   # hours

DATA is a folder that `sfumato info` understands; figures in the documentation are those of the
hippocampus (MSD Task04). `speed` trains all three ways by turns, some steps at a time, so that
whatever else the machine does slows them alike, and prints medians. A batch is drawn in the
background while the network computes, so it adds less to a step than it takes by itself; where the
network keeps all cores busy it adds at most its share of the processor time, which hardly depends
on what else the machine does.

`accuracy` trains on ten cases, three seeds, with hard labels and all three ways, everything else
alike: the same patches, as many steps. It is resumed where it stopped.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hippocampus import METRICS, difference_row, row
from sfumato.cases.dataset import Dataset
from sfumato.training.loop import Progress
from sfumato.training.patches import BatchSource
from sfumato.training.redrawing import Redrawing
from sfumato.workflow.run import Run, RunRequest, start_run
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.training import run_training
from trials import train_all

WAYS = ("once", "every_epoch", "every_patch")
N_CASES = 10
TURNS = 8
STEPS_PER_TURN = 10
"""The first of them, whose batch was drawn while another way was training, is left out."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Times:
    """What one way of drawing soft labels took, in milliseconds: turn, step.

    Attributes:
        batch: Processor time of drawing a batch.
        step: Wall-clock time of a training step.
        processor: Processor time of a training step, all threads and the next batch included.
    """

    batch: list[list[float]] = field(default_factory=list)
    step: list[list[float]] = field(default_factory=list)
    processor: list[list[float]] = field(default_factory=list)

    def add_turn(self, source: BatchSource, training: Iterator[Progress], first: int) -> None:
        """Draw some batches, and train for as many steps."""
        marks = [time.thread_time()]
        for step in range(first, first + STEPS_PER_TURN):
            source.draw(step)
            marks.append(time.thread_time())
        self.batch.append((1e3 * np.diff(marks)).tolist())
        marks = [(p.elapsed_seconds, time.process_time()) for p in islice(training, STEPS_PER_TURN)]
        elapsed, processor = 1e3 * np.diff(marks, axis=0).T
        self.step.append(elapsed.tolist())
        self.processor.append(processor.tolist())


def batches_of(run: Run) -> BatchSource:
    """Draw batches as the training of a run does."""
    return BatchSource(
        cases=run.train_cases,
        patches=run.config.patches,
        augmentation=run.config.augmentation,
        seed=run.config.training.seed,
        redrawing=Redrawing(
            softening=run.config.softening,
            superpixels=run.config.superpixels,
            n_classes=len(run.classes),
        ),
    )


def start(data: Path, folder: Path, when: str) -> Run:
    """Prepare cases for one way of drawing soft labels."""
    config = RunConfig.model_validate(
        {
            "softening": {"when": when},
            "training": {"train_cases": N_CASES, "steps": TURNS * STEPS_PER_TURN + 1},
        }
    )
    return start_run(Dataset.open(data), folder, config, RunRequest(fold="none", device="cpu"))


def measure_speed(data: Path) -> None:
    """Print how long a step takes, and how long its batch takes to draw."""
    with TemporaryDirectory() as folder:
        runs = {when: start(data, Path(folder, when), when) for when in WAYS}
        times = {when: Times() for when in WAYS}
        sources = {when: batches_of(run) for when, run in runs.items()}
        trainings = {when: run_training(run) for when, run in runs.items()}
        for turn in range(TURNS):
            for when in WAYS:
                times[when].add_turn(sources[when], trainings[when], turn * STEPS_PER_TURN)
        for training in trainings.values():
            training.close()
        patches = runs["once"].config.patches
    print(f"{patches.batch_size} patches of {patches.shape} elements a step\n")
    print("| soft labels | batch, processor ms | step, ms | added | step, processor ms | added |")
    print("|---|---|---|---|---|---|")
    for when, taken in times.items():
        cells = [when, f"{np.mean(taken.batch):.1f}"]
        for ours, once in (
            (taken.step, times["once"].step),
            (taken.processor, times["once"].processor),
        ):
            added = np.median(ours, axis=1) / np.median(once, axis=1) - 1
            low, middle, high = np.percentile(added, (25, 50, 75))
            cells += [f"{np.median(ours):.0f}", f"{middle:+.1%} ({low:+.1%} to {high:+.1%})"]
        print("| " + " | ".join(cells) + " |")
    print("\nadded: median over turns (and its quartiles), against once in the same turn")


def compare_accuracy(data: Path, out: Path, steps: int, parallel: int) -> None:
    """Train hard labels and all three ways, and print the tables."""
    settings = {"none": "softening.method=none", **{w: f"softening.when={w}" for w in WAYS}}
    trials = {
        f"fly-{kind}-seed{seed}": [
            *("--fold", "0/5", "--steps", str(steps), "--set", setting),
            *("--set", f"training.train_cases={N_CASES}", "--set", f"training.seed={seed}"),
        ]
        for seed in SEEDS
        for kind, setting in settings.items()
    }
    train_all(trials, data, out, parallel)
    print("| labels | seed | " + " | ".join(METRICS.values()) + " | minutes |")
    print("|" + "---|" * (len(METRICS) + 3))
    for seed in SEEDS:
        for kind in settings:
            print(row(out / f"fly-{kind}-seed{seed}", kind, seed))
    for before, after in (("none", "once"), ("once", "every_epoch"), ("once", "every_patch")):
        pairs = [(out / f"fly-{before}-seed{s}", out / f"fly-{after}-seed{s}") for s in SEEDS]
        print(f"\n| {after} − {before} | mean difference | 95 % interval | cases better |")
        print("|---|---|---|---|")
        for metric in METRICS:
            print(difference_row(metric, pairs))


def main() -> None:
    """Run a comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=("speed", "accuracy"))
    parser.add_argument("--out", type=Path, help="for accuracy: folder of the trainings")
    parser.add_argument("--steps", type=int, default=800, help="for accuracy: of every training")
    parser.add_argument("--parallel", type=int, default=2, help="trainings at a time")
    chosen = parser.parse_args()
    if chosen.what == "speed":
        measure_speed(chosen.data)
    elif chosen.out is None:
        parser.error("accuracy needs --out")
    else:
        compare_accuracy(chosen.data, chosen.out, chosen.steps, chosen.parallel)


if __name__ == "__main__":
    main()
