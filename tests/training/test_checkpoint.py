"""Checkpoints: whole or not there, and refused when they are not what they should be."""

import hashlib
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import FileError, ModelError
from sfumato.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    previous_checkpoint,
    save_checkpoint,
)


def make_state(seed: int = 0, fingerprint: str = "same", n_features: int = 4) -> TrainingState:
    """Return a training after its first step, so that the optimiser remembers something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, average = nn.Linear(3, n_features), nn.Linear(3, n_features)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        network(torch.randn(2, 3)).square().sum().backward()
        optimizer.step()
    return TrainingState(
        network=network,
        average=average,
        optimizer=optimizer,
        step=17 + seed,
        elapsed_seconds=1.5,
        best_mean_dice=0.75,
        n_validation_cases=5,
        fingerprint=fingerprint,
    )


def contents(state: TrainingState) -> list[torch.Tensor]:
    memory = state.optimizer.state_dict()["state"]
    # A file keeps tensors in an order of its own.
    remembered = [
        memory[weight][key] for weight in sorted(memory) for key in sorted(memory[weight])
    ]
    return [*state.network.parameters(), *state.average.parameters(), *remembered]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(make_state(), tmp_path / "checkpoint.sfumato")
    return tmp_path / "checkpoint.sfumato"


def test_a_training_is_brought_to_where_it_left_off(path: Path) -> None:
    state = make_state(seed=1)
    load_checkpoint(state, path)
    for loaded, saved in zip(contents(state), contents(make_state()), strict=True):
        assert torch.equal(loaded, saved)
    assert (state.step, state.elapsed_seconds, state.best_mean_dice) == (17, 1.5, 0.75)
    assert state.n_validation_cases == 5


def test_a_fresh_optimiser_gets_the_memory_of_the_old_one(path: Path) -> None:
    state = make_state(seed=1)
    state.optimizer = torch.optim.AdamW(state.network.parameters(), lr=0.1)
    load_checkpoint(state, path)
    for loaded, saved in zip(contents(state), contents(make_state()), strict=True):
        assert torch.equal(loaded, saved)


def test_a_score_of_numpy_can_be_read_back(tmp_path: Path) -> None:
    state = make_state()
    state.best_mean_dice = np.float64(0.5)
    save_checkpoint(state, tmp_path / "checkpoint.sfumato")
    load_checkpoint(state, tmp_path / "checkpoint.sfumato")
    assert state.best_mean_dice == 0.5


def test_a_disk_without_space_is_told_and_leaves_the_checkpoint_before(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(FileError, match=r"checkpoint.sfumato: cannot be written \("):
            save_checkpoint(make_state(seed=1), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    state = make_state(seed=2)
    load_checkpoint(state, path)
    assert state.step == 17
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.sfumato"]


def complaint(path: Path, state: TrainingState | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(state or make_state(), path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def in_full(content: bytes) -> bytes:
    """Return what a checkpoint of this content is on disk."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


DAMAGED = "the checkpoint is damaged, and there is no whole one before it; train anew"


def test_a_truncated_checkpoint_is_told_wherever_it_ends(path: Path) -> None:
    whole = path.read_bytes()
    for n in [*range(0, len(whole) - 1, len(whole) // 30), len(whole) - 1]:
        path.write_bytes(whole[:n])
        assert complaint(path) == f"{path}: {DAMAGED} with --overwrite"


def test_one_changed_bit_anywhere_is_told(path: Path) -> None:
    whole = path.read_bytes()
    for n in range(0, len(whole), 37):
        spoilt = bytearray(whole)
        spoilt[n] ^= 1 << n % 8
        path.write_bytes(spoilt)
        assert DAMAGED in complaint(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02.", b"{}", b"[1]\n", b"{}\nx"])
def test_what_is_no_checkpoint_is_told(path: Path, content: bytes) -> None:
    for written in (content, in_full(content)):
        path.write_bytes(written)
        assert DAMAGED in complaint(path)


def test_a_checkpoint_of_other_settings_is_told(path: Path) -> None:
    message = complaint(path, make_state(fingerprint="other"))
    assert message.startswith(f"{path}: the checkpoint was made with other settings or data; ")


def test_a_checkpoint_that_does_not_fit_the_network_is_told(path: Path) -> None:
    assert "belongs to another network" in complaint(path, make_state(n_features=5))


def test_a_training_without_checkpoints_is_left_as_it_is(tmp_path: Path) -> None:
    state = make_state(seed=1)
    assert load_checkpoint(state, tmp_path / "checkpoint.sfumato") is None
    for left, fresh in zip(contents(state), contents(make_state(seed=1)), strict=True):
        assert torch.equal(left, fresh)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(path: Path) -> None:
    save_checkpoint(make_state(seed=1), path)
    path.write_bytes(path.read_bytes()[:-1])
    state = make_state(seed=2)
    assert load_checkpoint(state, path) == (
        f"{path}: the checkpoint is damaged; going on from the one before it, of step 17"
    )
    for loaded, saved in zip(contents(state), contents(make_state()), strict=True):
        assert torch.equal(loaded, saved)
    # The damaged one is not what the next save keeps.
    save_checkpoint(make_state(seed=3), path)
    path.write_bytes(b"")
    assert "of step 17" in (load_checkpoint(make_state(seed=2), path) or "")


def test_two_damaged_checkpoints_are_told(path: Path) -> None:
    save_checkpoint(make_state(seed=1), path)
    path.write_bytes(b"")
    previous_checkpoint(path).write_bytes(b"")
    assert complaint(path).startswith(f"{path}: {DAMAGED}")


def test_a_crash_between_the_two_renames_loses_nothing(path: Path) -> None:
    path.rename(previous_checkpoint(path))
    state = make_state(seed=1)
    assert load_checkpoint(state, path) is None
    assert state.step == 17


SAVE_FOR_EVER = """
    import sys
    from pathlib import Path
    import torch
    from torch import nn
    from sfumato.training.checkpoint import TrainingState, save_checkpoint

    network, average = nn.Linear(300, 300), nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    state = TrainingState(network=network, average=average, optimizer=optimizer)
    while True:
        state.step += 1
        for weight in (*network.parameters(), *average.parameters()):
            weight.data.fill_(state.step)
        save_checkpoint(state, Path(sys.argv[1]))
        print(state.step, flush=True)
"""


def test_a_process_killed_while_it_saves_leaves_its_last_whole_checkpoint(tmp_path: Path) -> None:
    path, rng = tmp_path / "checkpoint.sfumato", random.Random(0)
    for _ in range(5):
        command = [sys.executable, "-c", textwrap.dedent(SAVE_FOR_EVER), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            n_saved = int(("1\n" + process.stdout.read()).split()[-1])
        network, average = torch.nn.Linear(300, 300), torch.nn.Linear(300, 300)
        state = TrainingState(
            network=network, average=average, optimizer=torch.optim.AdamW(network.parameters())
        )
        assert load_checkpoint(state, path) is None
        # One more may be whole whose number was not printed yet.
        assert state.step in (n_saved, n_saved + 1)
        for weight in (*network.parameters(), *average.parameters()):
            assert (weight == state.step).all()
