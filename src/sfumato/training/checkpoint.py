"""Checkpoints: all that training needs to go on as if it had never stopped."""

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelError
from sfumato.storage import atomic_path

DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError,
)  # fmt: skip
"""What reading a file raises that is no checkpoint."""


@dataclass(kw_only=True)
class TrainingState:
    """A training under way; the loop changes it step by step.

    Attributes:
        network: The weights being optimised.
        average: The same network with the running average of the weights: the result.
        optimizer: What changes the weights, with its memory.
        step: Steps done.
        elapsed_seconds: Time spent in steps and validation so far.
        best_mean_dice: The best validation so far; -1 before the first.
        fingerprint: Identifies the settings that must be the same on resuming.
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    elapsed_seconds: float = 0.0
    best_mean_dice: float = -1.0
    fingerprint: str = field(default="")


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Write a checkpoint; a crash in the middle leaves the one before."""
    content = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "elapsed_seconds": state.elapsed_seconds,
        # A NumPy number would need code to be read back, and no code is loaded.
        "best_mean_dice": float(state.best_mean_dice),
        "fingerprint": state.fingerprint,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # torch reports a full disk in words of its own, so it does not write the file itself.
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(state: TrainingState, path: Path) -> None:
    """Bring a fresh training to where a checkpoint left off.

    Raises:
        ModelError: If the file is damaged, or was made with other settings.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        is_same = content["fingerprint"] == state.fingerprint
        if is_same:
            _restore(state, content)
    except DAMAGE as error:
        raise ModelError(
            f"{path}: the checkpoint cannot be read; train anew with --overwrite"
        ) from error
    if not is_same:
        raise ModelError(
            f"{path}: the checkpoint was made with other settings or data; resume with the same"
            " ones, or train anew with --overwrite"
        )


def _restore(state: TrainingState, content: dict[str, Any]) -> None:
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.step = content["step"]
    state.elapsed_seconds = content["elapsed_seconds"]
    state.best_mean_dice = content["best_mean_dice"]
