"""Dice against minutes: sfumato, a baseline of MONAI's parts, and nnU-Net, on the same cores.

    python benchmarks/peers.py setup --env PEERS
    python benchmarks/peers.py run DATA --env PEERS --out results --minutes 10 30 60

DATA is a folder that `sfumato info` understands, of NIfTI volumes with one channel and a spacing
of 1 mm, such as hippocampus (MSD Task04). `setup` makes a virtual environment for the others, with
the versions in peers.txt; it takes a few minutes and 2 GB. `run` trains every tool for every
number of minutes, one after the other, so the machine must have nothing else to do; it takes the
sum of the minutes of all tools, and two to five minutes more a training for preparing, segmenting
and scoring. With all four and 10, 30 and 60 minutes that is about seven hours.

Each number of minutes is a training of its own, with a schedule that ends with the time. It counts
training alone, by the wall clock; preparing cases and segmenting are noted apart. All train on the
same cases, those that `sfumato train --fold 0/5` trains on, and all hand back probabilities on the
image's grid, which `sfumato evaluate` scores. What each of them does is told in the files
`peers_sfumato.py`, `peers_monai.py` and `peers_nnunet.py`; `nnunet-small` is nnU-Net with settings
for a short training.

What is done is kept: OUT/results.jsonl has a line a training, and a run that was stopped goes on
with the next one (sfumato in the middle of it, the others from the start of the one that stopped).
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers_job import Job, JobCase, notes
from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.cases.split import Split
from sfumato.storage import write_text
from sfumato.workflow.run import split_cases

HERE = Path(__file__).parent
WORKERS = {
    "sfumato": "peers_sfumato.py",
    "monai": "peers_monai.py",
    "nnunet": "peers_nnunet.py",
    "nnunet-small": "peers_nnunet.py",
}
FOLD = "0/5"
METRICS = {"assd_mm": "ASSD mm", "hd95_mm": "HD95 mm", "ece": "ECE", "brier": "Brier"}


def set_up(folder: Path) -> None:
    """Make the virtual environment of the tools that sfumato is compared with."""
    venv.create(folder, with_pip=True)
    install = [str(python_in(folder)), "-m", "pip", "install", "--no-deps"]
    subprocess.run([*install, "--requirement", str(HERE / "peers.txt")], check=True)


def python_in(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def job_case(record: CaseRecord, *, has_label: bool) -> JobCase:
    """Return the files of a case."""
    label = record.label_paths[0].resolve() if has_label else None
    return JobCase(id=record.id, image=record.image_paths[0].resolve(), label=label)


def make_job(dataset: Dataset, split: Split, who: str, chosen: argparse.Namespace) -> Job:
    """Describe one training; `chosen.minutes` is a single number here."""
    name = f"{who}-{chosen.minutes:g}min-seed{chosen.seed}"
    records = {record.id: record for record in dataset.records}
    return Job(
        who=who,
        minutes=chosen.minutes,
        seed=chosen.seed,
        data=chosen.data.resolve(),
        fold=FOLD,
        class_names=dataset.classes.names,
        train=tuple(job_case(records[case], has_label=True) for case in split.train_ids),
        test=tuple(job_case(records[case], has_label=False) for case in split.held_out_ids),
        shared=(chosen.out / "nnunet").resolve(),
        out=(chosen.out / name).resolve(),
    )


def run_job(job: Job, chosen: argparse.Namespace) -> dict[str, Any]:
    """Train, segment and score, and return the row of results."""
    env: Path | None = chosen.env
    job.out.mkdir(parents=True, exist_ok=True)
    described = job.out / "job.json"
    write_text(described, json.dumps(asdict(job), default=str, indent=2))
    is_ours = job.who == "sfumato"
    if not is_ours and env is None:
        sys.exit(f"{job.who} needs --env; make it with: python benchmarks/peers.py setup --env DIR")
    python = sys.executable if is_ours or env is None else str(python_in(env))
    environment = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads)}
    load = os.getloadavg()[0]
    with (job.out / "log.txt").open("a") as log:
        command = [python, str(HERE / WORKERS[job.who]), str(described)]
        subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
        command = [sys.executable, "-m", "sfumato", "evaluate", str(chosen.data)]
        command += [str(job.out / "segmentations"), "--out", str(job.out / "evaluation")]
        subprocess.run([*command, "--overwrite"], check=True, stdout=log, stderr=log)
    metrics = json.loads((job.out / "evaluation" / "metrics.json").read_text("utf-8"))
    return {
        "who": job.who,
        "minutes": job.minutes,
        "seed": job.seed,
        **notes(job.out),
        "load_before": load,
        "threads": chosen.threads,
        "test_cases": metrics["n_cases"],
        "summary": metrics["summary"],
    }


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows of finished runs."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return all rows as a Markdown table, by minutes."""
    classes = [name for name in rows[0]["summary"] if name != "mean"]
    titles = ["tool", "seed", "minutes", "steps", "Dice", *classes, *METRICS.values()]
    lines = [titles, ["---"] * len(titles)]
    for row in sorted(rows, key=lambda row: (row["minutes"], row["who"], row["seed"])):
        summary = row["summary"]
        dices = [summary[name]["dice"] for name in ("mean", *classes)]
        numbers = [*dices, *(summary["mean"][metric] for metric in METRICS)]
        cells = ["–" if number is None else f"{number:.4f}" for number in numbers]
        minutes = f"{row['train_seconds'] / 60:.1f}"
        lines.append([row["who"], str(row["seed"]), minutes, str(row["steps"]), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run_all(chosen: argparse.Namespace) -> None:
    """Run what is not done yet, the shortest trainings first, and print the table."""
    results = chosen.out / "results.jsonl"
    dataset = Dataset.open(chosen.data)
    split = split_cases(dataset, FOLD, None)
    rows = read_results(results)
    done = {(row["who"], row["minutes"], row["seed"]) for row in rows}
    for minutes in sorted(chosen.minutes):
        for who in chosen.who:
            if (who, minutes, chosen.seed) in done:
                continue
            single = argparse.Namespace(**{**vars(chosen), "minutes": minutes})
            job = make_job(dataset, split, who, single)
            print(f"{job.out.name} ...", file=sys.stderr, flush=True)
            rows.append(run_job(job, chosen))
            write_text(results, "".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="make the environment of the other tools")
    setup.add_argument("--env", type=Path, required=True)
    run = commands.add_parser("run", help="train, segment, score and print the table")
    run.add_argument("data", type=Path)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--env", type=Path, help="what setup made")
    run.add_argument("--who", choices=WORKERS, nargs="+", default=list(WORKERS))
    run.add_argument("--minutes", type=float, nargs="+", default=[10.0, 30.0, 60.0])
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    if chosen.command == "setup":
        set_up(chosen.env)
    else:
        run_all(chosen)


if __name__ == "__main__":
    main()
