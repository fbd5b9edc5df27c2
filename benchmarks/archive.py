"""How fast `sfumato soften` goes through an archive, and what a million volumes would take.

    python benchmarks/archive.py results/archive.jsonl           # measure; about a quarter hour
    python benchmarks/archive.py results/archive.jsonl --tables  # print the tables of docs/scale.md

Synthetic volumes are written to a temporary folder and softened by the command itself, with one
and with two workers. Every run is a line of the file of results as soon as it is over; what stands
there is not measured again, so a benchmark that was stopped goes on. The cases of a set are copies
of one volume: what softening costs depends on size and content, and copies are files of their own.

Processes are watched from outside, through /proc, so this needs Linux. Other work on the machine
makes runs longer but hardly changes their processor time, which the plan is computed from.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from shutil import copy, rmtree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from phantoms import Phantom, body, brain
from sfumato.image.files import write_label
from sfumato.image.geometry import Geometry
from sfumato.image.nifti import write_nifti
from sfumato.workflow.manifest import MANIFEST_NAME

CLASSES = {"background": 0, "organ": 1, "lesion": 2}
SIZE_MM = 8
LOOK_SECONDS = 0.05
"""How often workers are looked at; what one does after the last look is not seen."""
WORKERS = (1, 2)

N_PLANNED = 1_000_000
PLANNED = "512×512×300"
CORES = (64, 256, 1024)
DOLLARS_PER_CORE_HOUR = 0.04
"""Assumed, not measured: about what large clouds ask for a core they may take back at any time."""
DOLLARS_PER_TERABYTE_MONTH = 20
"""Assumed as well: about what object storage costs."""


@dataclass(frozen=True, kw_only=True)
class VolumeSet:
    """Cases of one size.

    Attributes:
        make: Makes the volume.
        n_cases: How many copies of it there are.
    """

    make: Callable[[], Phantom]
    n_cases: int


SETS = {
    "16×16×4": VolumeSet(make=partial(brain, 1, (4, 16, 16)), n_cases=5000),
    "128×128×96": VolumeSet(make=partial(brain, 1, (96, 128, 128)), n_cases=16),
    "512×512×120": VolumeSet(make=partial(body, (120, 512, 512)), n_cases=2),
    PLANNED: VolumeSet(make=partial(body, (300, 512, 512)), n_cases=2),
}
TINY = next(iter(SETS))
"""So small that all there is to see is what a case costs besides its elements."""


@dataclass
class Watch:
    """What the processes of a command needed so far, by how far they descend from it and their id.

    Attributes:
        peak_mb: The most memory a process ever held, shared pages included.
        cpu_seconds: Its processor time.
    """

    peak_mb: dict[tuple[int, int], float] = field(default_factory=dict)
    cpu_seconds: dict[tuple[int, int], float] = field(default_factory=dict)

    def look(self, pid: int, depth: int = 0) -> None:
        """Look at a process and all that descend from it."""
        process = Path("/proc", str(pid))
        with suppress(OSError):  # gone meanwhile
            status = (process / "status").read_text(encoding="utf-8")
            times = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            children = (process / "task" / str(pid) / "children").read_text(encoding="utf-8")
            if "VmHWM:" in status:  # no zombie
                self.peak_mb[depth, pid] = int(status.split("VmHWM:")[1].split()[0]) / 1e3
                ticks = int(times[11]) + int(times[12])
                self.cpu_seconds[depth, pid] = ticks / os.sysconf("SC_CLK_TCK")
            for child in children.split():
                self.look(int(child), depth + 1)


def write_set(folder: Path, chosen: VolumeSet) -> None:
    """Write a data set of int16 images and labels, compressed, with its classes declared."""
    phantom = chosen.make()
    # Files begin with the axis from right to left, phantoms with the one across slices.
    label = phantom.label.T
    geometry = Geometry.from_spacing(label.shape, phantom.spacing[::-1])
    image = np.round(phantom.image[0].T * 1500 - 1000).astype(np.int16)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    first = "case_0000.nii.gz"
    write_nifti(folder / "images" / first, image, geometry)
    write_label(folder / "labels" / first, label, geometry)
    for name, i in product(("images", "labels"), range(1, chosen.n_cases)):
        copy(folder / name / first, folder / name / f"case_{i:04}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"labels": CLASSES}), encoding="utf-8")


def measure(data: Path, out: Path, n_workers: int) -> dict[str, Any]:
    """Soften a data set, then find that nothing is left to do, and return what that took."""
    command = [sys.executable, "-m", "sfumato", "soften", str(data), "--out", str(out)]
    command += ["--no-pictures", f"--set=superpixels.size_mm={SIZE_MM}", f"--workers={n_workers}"]
    load = os.getloadavg()[0]
    seconds, watch = watched(command)
    idle_seconds, idle = watched([*command, "--resume"])
    lines = (out / MANIFEST_NAME).read_text(encoding="utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if "case" in entry]
    *_, label = entries[0]["inputs"].values()
    return {
        "workers": n_workers,
        "cases": len(entries),
        "load_before": round(load, 1),
        "seconds": seconds,
        "idle_seconds": idle_seconds,
        # The command starts a process that starts the workers.
        "worker_cpu_seconds": sum(s for (depth, _), s in watch.cpu_seconds.items() if depth == 2),
        # What the command itself does for its cases, its start aside.
        "main_cpu_seconds": of_main(watch.cpu_seconds) - of_main(idle.cpu_seconds),
        "worker_peak_mb": max(mb for (depth, _), mb in watch.peak_mb.items() if depth == 2),
        "idle_peak_mb": max(idle.peak_mb.values()),
        "stages": {
            stage: statistics.median(entry["seconds"][stage] for entry in entries)
            for stage in ("read", "soften", "write")
        },
        "input_bytes": sum(state["n_bytes"] for state in entries[0]["inputs"].values()),
        "label_bytes": label["n_bytes"],
        "output_bytes": sum(state["n_bytes"] for state in entries[0]["outputs"].values()),
        "manifest_bytes": sum(map(len, lines)) / len(entries),
        "softened_share": entries[0]["softened_share"],
    }


def of_main(found: dict[tuple[int, int], float]) -> float:
    """Return the number of the command's own process."""
    return next(number for (depth, _), number in found.items() if depth == 0)


def watched(command: Sequence[str]) -> tuple[float, Watch]:
    """Run a command, and return how many seconds it took and what its processes needed."""
    watch = Watch()
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            watch.look(process.pid)
            time.sleep(LOOK_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, watch


def measure_all(results: Path, repeats: int) -> None:
    """Measure what the file of results does not hold yet."""
    results.parent.mkdir(parents=True, exist_ok=True)
    done = Counter((run["set"], run["workers"]) for run in runs_of(results))
    with TemporaryDirectory() as scratch:
        for (name, chosen), n_workers in product(SETS.items(), WORKERS):
            data, out = Path(scratch, "data", name), Path(scratch, "soft")
            for _ in range(done[name, n_workers], repeats):
                if not data.exists():
                    write_set(data, chosen)
                run = {"set": name, **measure(data, out, n_workers)}
                rmtree(out)
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(run) + "\n")
                print(f"{name}, {n_workers} workers: {run['seconds']:.1f} s", flush=True)


def runs_of(results: Path) -> list[dict[str, Any]]:
    """Return all runs that were measured; a line that was cut short is none."""
    if not results.exists():
        return []
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the repeats of one measurement come to: medians, and what the fastest of them took.

    Attributes:
        runs: The repeats.
        n_voxels: Elements of a case.
    """

    runs: Sequence[dict[str, Any]]
    n_voxels: int

    def __getitem__(self, name: str) -> float:
        return statistics.median(run[name] for run in self.runs)

    @property
    def stages(self) -> dict[str, float]:
        """The seconds of each stage of a case in the fastest run: other work only slows it."""
        return min((run["stages"] for run in self.runs), key=lambda stages: sum(stages.values()))

    @property
    def cases_a_second(self) -> float:
        """How many cases the fastest run did in a second, start and planning aside."""
        seconds = min(run["seconds"] for run in self.runs) - self.start_seconds
        return self["cases"] / seconds

    @property
    def start_seconds(self) -> float:
        """What the fastest start took that found everything done."""
        return min(run["idle_seconds"] for run in self.runs)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of a case."""
        return self["worker_cpu_seconds"] / self["cases"]


def figures_of(results: Path) -> dict[tuple[str, int], Figures]:
    """Gather the runs of each set and number of workers."""
    gathered = defaultdict(list)
    for run in runs_of(results):
        gathered[run["set"], run["workers"]].append(run)
    return {
        (name, n_workers): Figures(
            runs=runs, n_voxels=math.prod(int(edge) for edge in name.split("×"))
        )
        for (name, n_workers), runs in gathered.items()
    }


def print_measured(figures: dict[tuple[str, int], Figures]) -> None:
    """Print what was measured."""
    print("| volume | workers | cases/s | million voxels/s | processor time of a case | load |")
    print("|---|---|---|---|---|---|")
    for (name, n_workers), found in figures.items():
        print(
            f"| {name} | {n_workers} | {found.cases_a_second:.3g}"
            f" | {found.cases_a_second * found.n_voxels / 1e6:.3g} | {found.cpu_seconds:.3g} s"
            f" | {found['load_before']:.0f} |"
        )
    print("\n| volume | read | soften | write | all three | memory of a worker |")
    print("|---|---|---|---|---|---|")
    for name in SETS:
        found = figures[name, 1]
        total = sum(found.stages.values())
        shares = " | ".join(f"{seconds / total:.0%}" for seconds in found.stages.values())
        print(f"| {name} | {shares} | {total:.3g} s | {found['worker_peak_mb']:,.0f} MB |")
    print("\n| volume | image and label | label | soft label | softened |\n|---|---|---|---|---|")
    for name in SETS:
        found = figures[name, 1]
        print(
            f"| {name} | {found['input_bytes'] / 1e6:.3g} MB | {found['label_bytes'] / 1e6:.2g} MB"
            f" | {found['output_bytes'] / 1e6:.2g} MB | {found['softened_share']:.1%} |"
        )


def print_plan(figures: dict[tuple[str, int], Figures]) -> None:
    """Print what a million volumes come to."""
    found, tiny = figures[PLANNED, max(WORKERS)], figures[TINY, max(WORKERS)]
    n = N_PLANNED
    core_hours = found.cpu_seconds * n / 3600
    terabytes = found["output_bytes"] * n / 1e12
    rows: list[tuple[str, str, str]] = [
        ("processor time of a volume", f"{found.cpu_seconds:.2f} s", "measured"),
        ("core-hours", f"{core_hours:,.0f}", "extrapolated"),
        *((f"on {cores} cores", in_words(core_hours / cores), "extrapolated") for cores in CORES),
        (
            f"cost at ${DOLLARS_PER_CORE_HOUR} a core-hour",
            f"${core_hours * DOLLARS_PER_CORE_HOUR:,.0f}",
            "extrapolated; price assumed",
        ),
        ("memory of a worker", f"{found['worker_peak_mb'] / 1e3:.2f} GB", "measured"),
        ("read", f"{found['input_bytes'] * n / 1e12:,.0f} TB", "extrapolated"),
        ("written", f"{terabytes:.2f} TB", "extrapolated"),
        (
            f"keeping it, at ${DOLLARS_PER_TERABYTE_MONTH} a TB and month",
            f"${terabytes * DOLLARS_PER_TERABYTE_MONTH:,.0f} a month",
            "extrapolated; price assumed",
        ),
        *(
            (
                f"read on {cores} cores",
                f"{found['input_bytes'] * cores / found.cpu_seconds / 1e9:.2g} GB/s",
                "extrapolated",
            )
            for cores in CORES
        ),
        (
            f"written on {max(CORES)} cores",
            f"{found['output_bytes'] * max(CORES) / found.cpu_seconds / 1e9:.2g} GB/s",
            "extrapolated",
        ),
        ("manifests", f"{found['manifest_bytes'] * n / 1e9:.2f} GB", "extrapolated"),
        (
            "cases one command can hand out",
            f"{tiny['cases'] / tiny['main_cpu_seconds']:,.0f} a second",
            "extrapolated from its processor time",
        ),
        (
            f"needed for {max(CORES)} cores",
            f"{max(CORES) / found.cpu_seconds:.0f} a second",
            "extrapolated",
        ),
        (
            f"a start that finds {tiny['cases']:,.0f} cases done",
            f"{tiny.start_seconds:.1f} s, {tiny['idle_peak_mb']:.0f} MB",
            "measured",
        ),
    ]
    print(f"| {n:,} volumes of {PLANNED} | | |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def in_words(hours: float) -> str:
    """Return a time as one reads it."""
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="file that keeps what was measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tables", action="store_true", help="only print the tables")
    chosen = parser.parse_args()
    if not chosen.tables:
        measure_all(chosen.results, chosen.repeats)
    figures = figures_of(chosen.results)
    print_measured(figures)
    print()
    print_plan(figures)


if __name__ == "__main__":
    main()
