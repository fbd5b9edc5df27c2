"""Several raters (BU-BIL phase contrast): train on one rater, compare with the mean of all.

    python benchmarks/raters.py DATA --out results

DATA is a manifest whose labels are one file a rater; the first is trained on. Five folds over
the manifest's groups, so that a model is tested on kinds of cells it never saw. Per image:
soft Dice of the predicted probability and Dice of the segmentation against the raters' mean
and majority, and Brier score; over all pixels of a fold: the calibration error against the
mean, which asks whether a pixel with probability 0.7 is called a cell by 7 raters of 10.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sfumato.cases.dataset import Dataset
from sfumato.inference.predictor import Predictor
from sfumato.metrics.overlap import dice
from sfumato.model.trained import TrainedModel
from sfumato.training.loop import compute_dtype
from sfumato.workflow.devices import choose_device
from trials import train_all

METHODS = ("none", "superpixel")
N_FOLDS = 5
STEPS = 200
N_BINS = 15
Flat = Float[np.ndarray, " pixels"]


def soft_dice(probability: Flat, target: Flat) -> float:
    """Measure overlap of two probabilities: twice the common part over the sum of both."""
    return float(2 * np.minimum(probability, target).sum() / (probability.sum() + target.sum()))


def calibration_error(probability: Flat, target: Flat) -> float:
    """Measure how far mean probability and mean target lie apart, bin by bin."""
    bins = np.minimum((probability * N_BINS).astype(int), N_BINS - 1)
    gap = np.bincount(bins, weights=probability - target, minlength=N_BINS)
    return float(np.abs(gap).sum() / len(probability))


def score_fold(dataset: Dataset, folder: Path) -> dict[str, float]:
    """Segment the held-out images of a run and compare them with all raters."""
    held_out = json.loads((folder / "run.json").read_text("utf-8"))["split"]["held_out"]
    device = choose_device("cpu")
    predictor = Predictor(TrainedModel.load(folder), dtype=compute_dtype("auto", device))
    rows, probabilities, targets = [], [], []
    for case_id in held_out:
        case = dataset.load(case_id)
        target = np.mean([label > 0 for label in case.rater_labels], axis=0).ravel()
        probability = predictor.predict(case.image, case.geometry).probability[1].ravel()
        rows.append(
            (
                dice(target > 0.5, probability > 0.5),
                soft_dice(probability, target),
                float(np.mean((probability - target) ** 2)),
            )
        )
        probabilities.append(probability)
        targets.append(target)
    means = dict(zip(("dice", "soft_dice", "brier"), np.mean(rows, axis=0).tolist(), strict=True))
    error = calibration_error(np.concatenate(probabilities), np.concatenate(targets))
    return {"images": len(held_out), **means, "ece": error}


def main() -> None:
    """Train and score all folds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=2, help="trainings at a time")
    chosen = parser.parse_args()
    runs = {f"raters-{method}-fold{k}": (method, k) for k in range(N_FOLDS) for method in METHODS}
    fixed = ["--steps", str(STEPS), "--set"]
    trials = {
        name: ["--fold", f"{k}/{N_FOLDS}", *fixed, f"softening.method={method}"]
        for name, (method, k) in runs.items()
    }
    train_all(trials, chosen.data, chosen.out, chosen.parallel)
    dataset = Dataset.open(chosen.data)
    names = ("images", "dice", "soft_dice", "brier", "ece")
    print("| labels | fold | " + " | ".join(names) + " |")
    print("|" + "---|" * (len(names) + 2))
    for name, (method, k) in runs.items():
        scores = score_fold(dataset, chosen.out / name)
        cells = [f"{scores[n]:.4f}".removesuffix(".0000") for n in names]
        print(f"| {method} | {k} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
