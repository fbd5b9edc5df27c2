"""Checkpoints: whole or not there, and refused when they are not what they should be."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import FileError, ModelError
from sfumato.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint


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
        fingerprint=fingerprint,
    )


def contents(state: TrainingState) -> list[torch.Tensor]:
    memory = state.optimizer.state_dict()["state"]
    remembered = [tensor for weight in memory.values() for tensor in weight.values()]
    return [*state.network.parameters(), *state.average.parameters(), *remembered]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(make_state(), tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def test_a_training_is_brought_to_where_it_left_off(path: Path) -> None:
    state = make_state(seed=1)
    load_checkpoint(state, path)
    for loaded, saved in zip(contents(state), contents(make_state()), strict=True):
        assert torch.equal(loaded, saved)
    assert (state.step, state.elapsed_seconds, state.best_mean_dice) == (17, 1.5, 0.75)


def test_a_fresh_optimiser_gets_the_memory_of_the_old_one(path: Path) -> None:
    state = make_state(seed=1)
    state.optimizer = torch.optim.AdamW(state.network.parameters(), lr=0.1)
    load_checkpoint(state, path)
    for loaded, saved in zip(contents(state), contents(make_state()), strict=True):
        assert torch.equal(loaded, saved)


def test_a_score_of_numpy_can_be_read_back(tmp_path: Path) -> None:
    state = make_state()
    state.best_mean_dice = np.float64(0.5)
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    load_checkpoint(state, tmp_path / "checkpoint.pt")
    assert state.best_mean_dice == 0.5


def test_a_disk_without_space_is_told_and_leaves_the_checkpoint_before(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(FileError, match=r"checkpoint.pt: cannot be written \("):
            save_checkpoint(make_state(seed=1), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    state = make_state(seed=2)
    load_checkpoint(state, path)
    assert state.step == 17
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def complaint(path: Path, state: TrainingState | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(state or make_state(), path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_truncated_checkpoint_is_told_wherever_it_ends(path: Path) -> None:
    whole = path.read_bytes()
    for n in [*range(0, len(whole) - 1, len(whole) // 30), len(whole) - 1]:
        path.write_bytes(whole[:n])
        assert complaint(path) == (
            f"{path}: the checkpoint cannot be read; train anew with --overwrite"
        )


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02.", b"PK\x03\x04", bytes(1000)])
def test_what_is_no_checkpoint_is_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "the checkpoint cannot be read" in complaint(path)
    path.unlink()
    assert "the checkpoint cannot be read" in complaint(path)


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, torch.zeros(2), [1], 3, "same"])
def test_another_file_of_torch_is_told(path: Path, content: object) -> None:
    torch.save(content, path)
    assert "the checkpoint cannot be read" in complaint(path)


def test_a_checkpoint_never_runs_code(path: Path) -> None:
    torch.save({"fingerprint": "same", "step": Path("harm")}, path)
    assert "the checkpoint cannot be read" in complaint(path)


def test_a_checkpoint_of_other_settings_is_told(path: Path) -> None:
    message = complaint(path, make_state(fingerprint="other"))
    assert message.startswith(f"{path}: the checkpoint was made with other settings or data; ")


def test_a_checkpoint_that_does_not_fit_the_network_is_told(path: Path) -> None:
    assert "the checkpoint cannot be read" in complaint(path, make_state(n_features=5))
    torch.save({"fingerprint": "same"}, path)
    assert "the checkpoint cannot be read" in complaint(path)
