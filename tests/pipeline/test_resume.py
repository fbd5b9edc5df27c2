"""Stopping and going on: Ctrl-C, a killed process, a finished run, an empty place."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def quick(quick_flat: tuple[str, ...]) -> tuple[str, ...]:
    """Give settings with which there is time to stop a training."""
    validations = ("--set=training.validations=12", "--set=training.validation_cases=1")
    return (*quick_flat, "--steps=120", *validations)


@pytest.fixture(scope="module")
def uninterrupted(
    sfumato: Callable, quick: tuple, flat_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert sfumato("train", flat_data, "--out", out, *quick).code == 0
    return out


def weights(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]


def steps_of(run: Path) -> list[int]:
    return [row["step"] for row in rows_of(run)]


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    """Read what a training prints until it has validated at a step."""
    assert process.stdout is not None
    for line in process.stdout:
        if f" step {step} " in line:
            return
    pytest.fail(f"the training ended before step {step}")


@pytest.fixture
def interrupted(
    start_sfumato: Callable, quick: tuple, flat_data: Path, tmp_path: Path
) -> Callable[[signal.Signals], subprocess.Popen[str]]:
    """Start a training in `tmp_path / "run"` and send it a signal in the middle."""

    def interrupt(how: signal.Signals) -> subprocess.Popen[str]:
        process = start_sfumato("train", flat_data, "--out", tmp_path / "run", *quick)
        wait_for_step(process, 20)
        process.send_signal(how)
        return process

    return interrupt


def assert_equal_runs(run: Path, other: Path) -> None:
    assert weights(run) == weights(other)
    assert steps_of(run) == steps_of(other)
    metrics = Path("evaluation", "metrics.json")
    assert (run / metrics).read_bytes() == (other / metrics).read_bytes()


def test_ctrl_c_saves_and_resuming_goes_on_to_the_same_weights(
    sfumato: Callable, interrupted: Callable, quick: tuple, flat_data: Path, uninterrupted: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    process, out = interrupted(signal.SIGINT), tmp_path / "run"
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == 130
    assert errors == ""
    assert printed.splitlines()[-1] == (
        f"Stopped; {out} keeps what is done. The same command with --resume goes on. Until then,"
        f" {out / 'best_model'} is the best model so far."
    )
    assert (out / "checkpoint.sfumato").exists()
    assert not (out / "model").exists()
    resumed = sfumato("train", flat_data, "--out", out, *quick, "--resume")
    assert resumed.code == 0, resumed.err
    assert not [path for path in out.rglob(".*") if path.name != ".sfumato"]
    assert_equal_runs(out, uninterrupted)


def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    sfumato: Callable, interrupted: Callable, quick: tuple, flat_data: Path, uninterrupted: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    process, out = interrupted(signal.SIGKILL), tmp_path / "run"
    process.communicate(timeout=200)
    assert not (out / "model").exists()
    resumed = sfumato("train", flat_data, "--out", out, *quick, "--resume")
    assert resumed.code == 0, resumed.err
    assert_equal_runs(out, uninterrupted)


def test_ctrl_c_while_cases_are_prepared_says_how_to_go_on(
    start_sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    process = start_sfumato(
        "train", flat_data, "--out", tmp_path / "run", "--steps=20", *quick_flat
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Looking at the data"):
            break
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "same command with --resume" in printed.splitlines()[-1]
    assert errors == ""


def test_a_run_that_was_killed_while_it_prepared_cases_goes_on_with_them(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, flat_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(flat_run / "prepared", out / "prepared")
    (out / ".sfumato").touch()
    kept = {path: path.stat().st_ino for path in (out / "prepared").rglob("image.npy")}
    command = ("train", flat_data, "--out", out, "--steps=1", "--fold=none", *quick_flat)
    before = sfumato(*command)
    assert before.code == 2
    assert "exists already" in before.err
    outcome = sfumato(*command, "--resume")
    assert outcome.code == 0, outcome.err
    assert {path: path.stat().st_ino for path in (out / "prepared").rglob("image.npy")} == kept


def test_resuming_with_other_settings_is_refused(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, flat_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(flat_run, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for other, reason in (
        ("--set=loss.soft_weight=0.5", "other settings"),
        ("--fold=1/5", "other cases"),
    ):
        outcome = sfumato(
            "train", flat_data, "--out", out, "--steps=20", *quick_flat, other, "--resume"
        )
        assert outcome.code == 2
        assert len(outcome.err.splitlines()) == 1
        assert f"error: {out}: the run was started with {reason}" in outcome.err
        assert "--overwrite" in outcome.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_resuming_a_finished_run_changes_nothing(
    sfumato: Callable, quick: tuple, flat_data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    outcome = sfumato("train", flat_data, "--out", out, *quick, "--resume")
    assert outcome.code == 0, outcome.err
    assert weights(out) == weights(uninterrupted)
    for name in ("history.jsonl", "config.toml", "evaluation/metrics.json", "model/model.toml"):
        assert (out / name).read_bytes() == (uninterrupted / name).read_bytes()


@pytest.mark.parametrize("is_there", [False, True])
def test_resuming_where_nothing_is_starts(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path, is_there: bool
) -> None:
    out = tmp_path / "run"
    if is_there:
        out.mkdir()
    outcome = sfumato("train", flat_data, "--out", out, "--steps=1", "--fold=none", *quick_flat,
                      "--resume")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert (out / "model" / "model.toml").exists()


NURSERY = """
import json, os, signal, sys
import monai.networks.nets.dynunet, sfumato.workflow.held_out, sfumato.workflow.training
from sfumato.cli.main import main

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}

def die_before_change(n, folder):
    def watch(event, arguments):
        nonlocal n
        if event not in CHANGES or not str(arguments[0]).startswith(folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        n -= 1
        if n < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if "n" in order:
            die_before_change(order["n"], order["folder"])
        else:
            signal.setitimer(signal.ITIMER_PROF, order["seconds"])  # nobody handles the signal
        sys.argv = order["command"]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process that has loaded everything, and so starts a training that dies in no time."""


@pytest.fixture
def run_and_die() -> Iterator[Callable[..., int]]:
    """Run a command that dies at a moment; give its exit code, negative for a signal."""
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as nursery:

        def run(*command: object, **moment: object) -> int:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            order = {"command": ["sfumato", *map(str, command)], **moment}
            nursery.stdin.write(json.dumps(order) + "\n")
            nursery.stdin.flush()
            return int(nursery.stdout.readline())

        yield run
        nursery.kill()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_training_killed_again_and_again_at_any_moment_ends_in_the_same_weights(
    run_and_die: Callable, quick: tuple, flat_data: Path, uninterrupted: Path, tmp_path: Path,
    seed: int,
) -> None:  # fmt: skip
    """Some die as they are about to make, write, rename or remove a file, others at any time."""
    out, rng, codes = tmp_path / "run", random.Random(seed), []
    while 0 not in codes:
        moment = rng.choice(
            [{"n": rng.randrange(90), "folder": str(out)}, {"seconds": rng.uniform(0.01, 2)}]
        )
        command = ("train", flat_data, "--out", out, *quick, "--resume")
        codes.append(run_and_die(*command, **moment))
        assert codes[-1] in (0, -signal.SIGKILL, -signal.SIGPROF)
    assert len(codes) > 2
    assert not [path for path in out.rglob(".*") if path.name != ".sfumato"]
    assert_equal_runs(out, uninterrupted)


def test_a_damaged_checkpoint_is_named_and_the_one_before_leads_to_the_same_weights(
    sfumato: Callable, quick: tuple, flat_data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    shutil.rmtree(out / "model")
    checkpoint = out / "checkpoint.sfumato"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    outcome = sfumato("train", flat_data, "--out", out, *quick, "--resume")
    assert outcome.code == 0, outcome.err
    assert (
        f"{checkpoint}: the checkpoint is damaged; going on from the one before it, of step 110"
        in outcome.out.splitlines()
    )
    assert_equal_runs(out, uninterrupted)


def test_two_damaged_checkpoints_are_an_error(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, flat_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(flat_run, out)
    for name in ("checkpoint.sfumato", "previous_checkpoint.sfumato"):
        (out / name).write_bytes((out / name).read_bytes()[:500])
    outcome = sfumato("train", flat_data, "--out", out, "--steps=20", *quick_flat, "--resume")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"error: {out / 'checkpoint.sfumato'}: the checkpoint is damaged, and there is no whole one"
        " before it; train anew with --overwrite"
    ]


def test_resuming_and_overwriting_at_once_is_refused(
    sfumato: Callable, flat_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", flat_data, "--out", tmp_path / "run", "--resume", "--overwrite")
    assert outcome.code == 2
    assert "give one of them" in outcome.err


def test_a_time_budget_counts_over_all_pieces(
    sfumato: Callable, quick_flat: tuple, start_sfumato: Callable, flat_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # A picture is one window, so that on a busy machine too there is time to validate.
    whole = "--set=patches.shape=[40,56]"
    command = ("train", flat_data, "--out", out, "--time=4s", *quick_flat, whole)
    process = start_sfumato(*command)
    assert process.stdout is not None
    next(line for line in process.stdout if "  loss " in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    assert process.returncode == 130
    before = rows_of(out)
    assert sfumato(*command, "--resume").code == 0
    after = rows_of(out)
    assert after[: len(before)] == before
    seconds = [row["elapsed_seconds"] for row in after]
    assert seconds == sorted(seconds)
    assert 4 <= seconds[-1] < 15
