"""Hippocampus (MSD Task04): hard against superpixel labels, with all and with ten training cases.

    python benchmarks/hippocampus.py DATA all --out results       # fold 0 of 5, all other cases
    python benchmarks/hippocampus.py DATA ten --out results       # ten of them, three seeds

DATA is a folder that `sfumato info` understands. All runs of a protocol differ in nothing but
the soft label (and the seed, where it says so). Each run is given a number of steps, not a
time, so that both kinds of label get exactly the same and the result does not depend on what
else the machine was doing; the minutes are recorded. Runs are resumed where they stopped, and
finished ones are skipped. `--parallel 2` trains two at a time and shares out the cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from trials import train_all

METHODS = ("none", "superpixel")
STEPS = {"all": 6000, "ten": 800}
SEEDS = {"all": (0,), "ten": (0, 1, 2)}
METRICS = {
    "dice": "Dice",
    "assd_mm": "ASSD mm",
    "hd95_mm": "HD95 mm",
    "nsd_1mm": "surface Dice 1 mm",
    "ece": "ECE",
    "ece_boundary": "ECE band",
    "brier": "Brier",
    "brier_boundary": "Brier band",
}


def arguments_of(protocol: str, method: str, seed: int) -> list[str]:
    """Return what `sfumato train` is told for one run."""
    settings = [f"softening.method={method}", f"training.seed={seed}"]
    if protocol == "ten":
        settings.append("training.train_cases=10")
    arguments = ["--fold", "0/5", "--steps", str(STEPS[protocol])]
    return arguments + [part for setting in settings for part in ("--set", setting)]


def row(folder: Path, method: str, seed: int) -> str:
    """Return the line of a run for the table of results."""
    mean = json.loads((folder / "evaluation" / "metrics.json").read_text("utf-8"))["summary"][
        "mean"
    ]
    last = json.loads((folder / "history.jsonl").read_text("utf-8").splitlines()[-1])
    numbers = [f"{mean[metric]:.4f}" for metric in METRICS]
    minutes = last["elapsed_seconds"] / 60
    return "| " + " | ".join([method, str(seed), *numbers, f"{minutes:.0f}"]) + " |"


def per_case(folder: Path) -> dict[str, dict[str, float]]:
    """Return every case's numbers: the classes' means, and what concerns the whole image."""
    cases = json.loads((folder / "evaluation" / "metrics.json").read_text("utf-8"))["cases"]
    return {case["case"]: {**case, **case["mean"]} for case in cases}


def difference_row(metric: str, pairs: list[tuple[Path, Path]]) -> str:
    """Compare two kinds of labels case by case, each case averaged over the seeds.

    The interval is the 95 % bootstrap percentile interval over cases; it does not cover what
    other seeds or other training cases would change.
    """
    differences = []
    for hard, soft in pairs:
        before, after = per_case(hard), per_case(soft)
        differences.append([after[case][metric] - before[case][metric] for case in before])
    mean = np.mean(differences, axis=0)
    rng = np.random.default_rng(0)
    resampled = mean[rng.integers(len(mean), size=(5000, len(mean)))].mean(axis=1)
    low, high = np.percentile(resampled, (2.5, 97.5))
    is_higher_better = metric in ("dice", "nsd_1mm")
    better = np.mean(mean > 0 if is_higher_better else mean < 0)
    cells = [METRICS[metric], f"{mean.mean():+.4f}", f"{low:+.4f} to {high:+.4f}", f"{better:.0%}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run a protocol and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("protocol", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=2, help="trainings at a time")
    chosen = parser.parse_args()
    runs = {
        f"{chosen.protocol}-{method}-seed{seed}": (method, seed)
        for seed in SEEDS[chosen.protocol]
        for method in METHODS
    }
    trials = {name: arguments_of(chosen.protocol, *run) for name, run in runs.items()}
    train_all(trials, chosen.data, chosen.out, chosen.parallel)
    print("| labels | seed | " + " | ".join(METRICS.values()) + " | minutes |")
    print("|" + "---|" * (len(METRICS) + 3))
    for name, (method, seed) in runs.items():
        print(row(chosen.out / name, method, seed))
    folders = {run: chosen.out / name for name, run in runs.items()}
    pairs = [
        (folders["none", seed], folders["superpixel", seed]) for seed in SEEDS[chosen.protocol]
    ]
    print("\n| superpixel − none | mean difference | 95 % interval | cases better |")
    print("|---|---|---|---|")
    for metric in METRICS:
        print(difference_row(metric, pairs))


if __name__ == "__main__":
    main()
