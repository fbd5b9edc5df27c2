"""How often the intervals of volumes hold the true one: hippocampus (MSD Task04), five folds.

    python benchmarks/coverage.py DATA --out results --steps 400

DATA is a folder that `sfumato info` understands. Of each fold's training cases some are held back
to calibrate the model; the fold's own cases, which chose nothing, are segmented with
`--uncertainty`, and their labels' volumes are looked up in the intervals. Runs are resumed where
they stopped, and finished ones are skipped.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfumato.cases.dataset import Dataset
from trials import train_all


@dataclass(frozen=True, kw_only=True)
class Held:
    """The interval of one structure in one held-out case, and its true volume."""

    fold: int
    structure: str
    true_mm3: float
    expected_mm3: float
    low_mm3: float
    high_mm3: float

    @property
    def is_covered(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low_mm3 <= self.true_mm3 <= self.high_mm3


def look_up(dataset: Dataset, run: Path, fold: int, level: float) -> list[Held]:
    """Segment the held-out cases of a run, and look their true volumes up."""
    ids = json.loads((run / "run.json").read_text("utf-8"))["split"]["held_out"]
    held_out = dataset.select(ids)
    images = [str(path) for record in held_out.records for path in record.image_paths]
    out = run / "uncertain"
    command = [sys.executable, "-m", "sfumato", "segment", str(run), *images, "--out", str(out)]
    command += ["--uncertainty", "--level", str(level), "--overwrite"]
    subprocess.run(command, check=True)
    document = json.loads((out / "volumes.json").read_text("utf-8"))
    if document["notes"]:
        raise SystemExit(f"{out}: {document['notes'][0]}")
    rows = {(row["case"], row["structure"]): row for row in document["volumes"]}
    return [
        Held(
            fold=fold,
            structure=name,
            true_mm3=int((case.label == index).sum()) * case.geometry.element_volume_mm3,
            **{key: rows[case.id, name][key] for key in ("expected_mm3", "low_mm3", "high_mm3")},
        )
        for case in held_out
        for index, name in enumerate(dataset.classes.foreground, start=1)
    ]


def row(name: str, held: list[Held]) -> str:
    """Return a line of the table."""
    is_covered = np.array([one.is_covered for one in held])
    true = np.array([one.true_mm3 for one in held])
    widths = np.array([one.high_mm3 - one.low_mm3 for one in held])
    errors = np.abs(np.array([one.expected_mm3 for one in held]) - true)
    return (
        f"| {name} | {len(held)} | {is_covered.mean():.1%} | {np.median(widths / true):.1%}"
        f" | {np.median(errors / true):.1%} |"
    )


def main() -> None:
    """Train five folds, and print the table of coverages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--calibration-cases", type=int, default=40)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="one more setting of training")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time")
    chosen = parser.parse_args()
    settings = [f"calibration.cases={chosen.calibration_cases}", *chosen.set]
    options = [part for setting in settings for part in ("--set", setting)]
    trials = {
        f"fold{k}": ["--fold", f"{k}/{chosen.folds}", "--steps", str(chosen.steps), *options]
        for k in range(chosen.folds)
    }
    train_all(trials, chosen.data, chosen.out, chosen.parallel)
    dataset = Dataset.open(chosen.data)
    held = [
        one
        for k, name in enumerate(trials)
        for one in look_up(dataset, chosen.out / name, k, chosen.level)
    ]
    print(
        f"| at {chosen.level:.0%} nominal | volumes | covered | median width | median error |\n"
        "|---|---|---|---|---|"
    )
    for name in dataset.classes.foreground:
        print(row(name, [one for one in held if one.structure == name]))
    for k in range(chosen.folds):
        print(row(f"fold {k}", [one for one in held if one.fold == k]))
    print(row("all", held))


if __name__ == "__main__":
    main()
