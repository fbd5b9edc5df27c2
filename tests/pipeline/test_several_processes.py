"""Two processes that train one model: the same model, written once, and no hang."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sfumato.cases.dataset import Dataset
from sfumato.config import load_config
from sfumato.errors import ConfigError
from sfumato.training.patches import PatchSettings
from sfumato.workflow.run import RunRequest, start_run
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.training import train

# Sums in float32 differ in their last bits; what that makes of the weights stays below this,
# while the weights themselves move by a hundred times as much.
TOLERANCE = 1e-5
STEPS = 16


@pytest.fixture(scope="module")
def settings(quick_flat: tuple[str, ...]) -> tuple[str, ...]:
    """Give settings with which nothing but the order of sums differs, and that does not grow."""
    own = ("patches.batch_size=3", "training.precision=float32", "training.learning_rate=1e-4",
           "training.validations=8")  # fmt: skip
    return (*quick_flat, *(f"--set={setting}" for setting in own), f"--steps={STEPS}")


@pytest.fixture(scope="module")
def by_one(
    sfumato: Callable, settings: tuple, flat_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("by_one") / "run"
    assert sfumato("train", flat_data, "--out", out, *settings).code == 0
    return out


@pytest.fixture
def stopped(settings: tuple, flat_data: Path, tmp_path: Path) -> Path:
    """Give a run that one process began and left after some steps."""
    overrides = [s.removeprefix("--set=") for s in settings if s.startswith("--set=")]
    config = load_config(RunConfig, None, [*overrides, f"training.steps={STEPS}"])
    out = tmp_path / "run"
    with closing(train(Dataset.open(flat_data), out, config, RunRequest(device="cpu"))) as steps:
        for _ in islice(steps, 5):
            pass
    assert not (out / "model").exists()
    return out


@pytest.fixture
def start_two() -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Start a command twice as SLURM's srun does; no process outlives the test."""
    started = []

    def start(*arguments: object) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in ("0", "1"):
            slurm = {
                "SLURM_PROCID": rank,
                "SLURM_LOCALID": rank,
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_NODELIST": "localhost",
            }
            meeting_point = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "sfumato", *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    env={**os.environ, **slurm, **meeting_point, "OMP_NUM_THREADS": "1"},
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )
            )
        return started[-2:]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    printed = [process.communicate(timeout=200) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, printed, strict=True)]


def wait_for(text: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if not any(text in line for line in process.stdout):
        pytest.fail(f"the process ended before it printed {text!r}")


def assert_same_training(run: Path, other: Path) -> None:
    weights, expected = (load_file(r / "model" / "weights.safetensors") for r in (run, other))
    torch.testing.assert_close(weights, expected, rtol=0, atol=TOLERANCE)
    steps, expected_steps = ([row["step"] for row in history_of(r)] for r in (run, other))
    assert steps == expected_steps


def history_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]


def files_of(run: Path) -> list[str]:
    """Name what a run wrote; TensorBoard's names hold the time."""
    paths = (p.relative_to(run) for p in run.rglob("*") if p.is_file())
    return sorted(p.parent.as_posix() if "tensorboard" in p.parts else p.as_posix() for p in paths)


def test_torchrun_gives_the_model_of_one_process_and_writes_it_once(
    settings: tuple, flat_data: Path, by_one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]
    standalone = [*torchrun[:3], "--standalone", *torchrun[3:]]
    command = [*standalone, "sfumato", "train", str(flat_data), "--out", str(out), *settings]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert_same_training(out, by_one)
    assert files_of(out) == files_of(by_one)
    assert json.loads((out / "run.json").read_text())["processes"] == 2
    lines = done.stdout.splitlines()
    assert lines.count("Plan") == 1
    assert sum(line.startswith("Trained model in") for line in lines) == 1
    assert sum(f"step {STEPS} " in line for line in lines) == 1


def test_ctrl_c_stops_both_and_one_process_goes_on_to_the_same_model(
    sfumato: Callable, start_two: Callable, settings: tuple, flat_data: Path, by_one: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    command = ("train", flat_data, "--out", tmp_path / "run", *settings)
    processes = start_two(*command)
    wait_for("step 2 ", processes[0])
    for process in processes:
        process.send_signal(signal.SIGINT)
    (code, printed, errors), other = ends(processes)
    assert (code, errors) == (130, "")
    assert "same command with --resume goes on." in printed.splitlines()[-1]
    assert other == (130, "", "")
    assert not (tmp_path / "run" / "model").exists()
    assert sfumato(*command, "--resume").code == 0
    assert_same_training(tmp_path / "run", by_one)


def test_two_processes_go_on_with_what_one_began_to_the_same_model(
    start_two: Callable, settings: tuple, flat_data: Path, by_one: Path, stopped: Path
) -> None:
    first, other = ends(start_two("train", flat_data, "--out", stopped, *settings, "--resume"))
    assert first[0] == 0, first[2]
    assert other == (0, "", "")
    assert_same_training(stopped, by_one)


@pytest.mark.slow
def test_a_case_that_one_process_cannot_read_ends_both_with_one_line(
    start_two: Callable, settings: tuple, flat_data: Path, stopped: Path
) -> None:
    for place in (stopped / "prepared").iterdir():
        (place / "image.npy").write_bytes(b"")
    first, other = ends(start_two("train", flat_data, "--out", stopped, *settings, "--resume"))
    assert first[0] == other[0] == 2
    assert len(first[2].splitlines()) == 1
    assert "is damaged; delete this folder and run again" in first[2]
    assert other[1:] == ("", "")


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_with_one_line(
    sfumato: Callable, start_two: Callable, settings: tuple, flat_data: Path, by_one: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    command = ("train", flat_data, "--out", tmp_path / "run", *settings)
    processes = start_two(*command)
    wait_for("step 2 ", processes[0])
    processes[1].kill()
    (code, _, errors), _ = ends(processes)
    assert code == 2
    assert errors.splitlines() == [
        "error: another process of this training ended; if it said why, that stands above"
    ]
    assert sfumato(*command, "--resume").code == 0
    assert_same_training(tmp_path / "run", by_one)


def test_a_batch_of_fewer_patches_than_processes_is_refused_before_anything_is_written(
    flat_data: Path, tmp_path: Path
) -> None:
    config = RunConfig(patches=PatchSettings(batch_size=1))
    request = RunRequest(device="cpu", n_processes=2)
    with pytest.raises(ConfigError, match=r"patches\.batch_size is 1, but each of 2 processes"):
        start_run(Dataset.open(flat_data), tmp_path / "run", config, request)
    assert not (tmp_path / "run").exists()
