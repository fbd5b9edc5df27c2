"""What a user waits for: importing the package and asking for help are quick."""

import subprocess
import sys
import time

import pytest

TRIES = 10
"""The machine may be busy with other tests; the quickest try is what the code costs."""
HEAVY = {"torch", "monai", "scipy", "skimage", "SimpleITK", "nibabel", "matplotlib"}


def quickest_seconds(arguments: list[str], enough_seconds: float) -> float:
    """Run Python in a new process until a run is quick enough; return the quickest."""
    quickest = float("inf")
    for _ in range(TRIES):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        quickest = min(quickest, time.perf_counter() - started)
        if quickest < enough_seconds:
            break
    return quickest


def test_importing_the_package_takes_less_than_half_a_second() -> None:
    assert quickest_seconds(["-c", "import sfumato"], 0.5) < 0.5


def test_help_takes_less_than_seven_tenths_of_a_second() -> None:
    assert quickest_seconds(["-m", "sfumato", "--help"], 0.7) < 0.7


@pytest.mark.parametrize("command", ["demo", "info", "soften", "train", "segment", "evaluate"])
def test_help_of_a_command_takes_less_than_seven_tenths_of_a_second(command: str) -> None:
    assert quickest_seconds(["-m", "sfumato", command, "--help"], 0.7) < 0.7


@pytest.mark.parametrize("imported", ["sfumato", "sfumato.cli.main"])
def test_importing_the_package_or_its_command_line_loads_nothing_heavy(imported: str) -> None:
    code = f"import {imported}, sys; print(*sys.modules, sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8"
    )
    assert not HEAVY & set(result.stdout.split())
