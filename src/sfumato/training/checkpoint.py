"""Checkpoints: all that training needs to go on as if it had never stopped.

A checkpoint is one file: a line with the SHA-256 of all that follows, a line of JSON with the
counters, and the tensors as safetensors. Nothing in it can run code. The checkpoint before
the newest is kept beside it, so that a file that was damaged costs a minute and not the run.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from sfumato.errors import ModelError
from sfumato.model.deep_supervision import DeepSupervision
from sfumato.storage import atomic_path


@dataclass(kw_only=True)
class TrainingState:
    """A training under way; the loop changes it step by step.

    What a step draws and its learning rate follow from `step` and `elapsed_seconds`, so
    there is no state of a random generator or of a schedule beside them.

    Attributes:
        network: The weights being optimised.
        average: The same network with the running average of the weights: the result.
        optimizer: What changes the weights, with its memory.
        supervision: The network being optimised, with heads on its coarser levels; None leaves
            them out.
        step: Steps done.
        elapsed_seconds: Time spent in steps and validation so far.
        best_mean_dice: The best validation so far; -1 before the first.
        n_validation_cases: How many cases every validation looks at; None until that is known.
        fingerprint: Identifies the settings that must be the same on resuming.
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    supervision: DeepSupervision | None = None
    step: int = 0
    elapsed_seconds: float = 0.0
    best_mean_dice: float = -1.0
    n_validation_cases: int | None = None
    fingerprint: str = field(default="")


@dataclass(frozen=True, kw_only=True)
class _Counters:
    """The part of a training's state that is no tensor."""

    step: int
    elapsed_seconds: float
    best_mean_dice: float
    fingerprint: str
    n_validation_cases: int | None = None


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Write a checkpoint and keep the one before; a crash at any moment leaves a whole one."""
    counters = _Counters(
        step=state.step,
        elapsed_seconds=state.elapsed_seconds,
        # JSON knows no NumPy number.
        best_mean_dice=float(state.best_mean_dice),
        fingerprint=state.fingerprint,
        n_validation_cases=state.n_validation_cases,
    )
    on_cpu = {name: t.detach().cpu().contiguous() for name, t in _tensors(state).items()}
    content = json.dumps(asdict(counters)).encode() + b"\n" + save(on_cpu)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
            file.write(content)
            file.flush()
            # Else a power cut could leave the new name without its content.
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous_checkpoint(path))


def previous_checkpoint(path: Path) -> Path:
    """Return where the checkpoint before the newest is kept."""
    return path.with_name(f"previous_{path.name}")


def load_checkpoint(state: TrainingState, path: Path) -> str | None:
    """Bring a fresh training to where its newest whole checkpoint left off.

    A damaged newest one is replaced by the one before. A training without checkpoints is
    left as it is.

    Returns:
        One line that names a damaged checkpoint; None if there was none.

    Raises:
        ModelError: If every checkpoint is damaged, or the settings were others.
    """
    previous = previous_checkpoint(path)
    places = [place for place in (path, previous) if place.exists()]
    for place in places:
        content = _read(place)
        if content is None:
            continue
        _restore(state, content, place)
        if place == path or not path.exists():
            return None
        # The next save keeps what stands here, and that must not be the damaged one.
        os.replace(previous, path)
        return (
            f"{path}: the checkpoint is damaged; going on from the one before it, of step"
            f" {state.step}"
        )
    if places:
        raise ModelError(
            f"{places[0]}: the checkpoint is damaged, and there is no whole one before it; train"
            " anew with --overwrite"
        )
    return None


def _read(path: Path) -> tuple[_Counters, dict[str, torch.Tensor]] | None:
    """Read a checkpoint; None if it is not as it was written."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
        if checksum != hashlib.sha256(content).hexdigest().encode():
            return None
        counters, _, tensors = content.partition(b"\n")
        return _Counters(**json.loads(counters)), load(tensors)
    except (OSError, ValueError, TypeError, SafetensorError):
        return None


def _restore(
    state: TrainingState, content: tuple[_Counters, dict[str, torch.Tensor]], path: Path
) -> None:
    counters, tensors = content
    if counters.fingerprint != state.fingerprint:
        raise ModelError(
            f"{path}: the checkpoint was made with other settings or data; resume with the same"
            " ones, or train anew with --overwrite"
        )
    weights = _weights(state)
    if any(n not in tensors or tensors[n].shape != w.shape for n, w in weights.items()):
        raise ModelError(
            f"{path}: the checkpoint belongs to another network, perhaps of another version of"
            " sfumato; train anew with --overwrite"
        )
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        if part == "optimizer":
            index, _, key = rest.partition("/")
            memory.setdefault(int(index), {})[key] = tensor
    # How the optimiser works follows from the settings; only its memory is stored.
    groups: Any = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": memory, "param_groups": groups})
    state.step = counters.step
    state.elapsed_seconds = counters.elapsed_seconds
    state.best_mean_dice = counters.best_mean_dice
    state.n_validation_cases = counters.n_validation_cases


def _tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    memory = state.optimizer.state_dict()["state"]
    remembered = {
        f"optimizer/{index}/{key}": tensor
        for index, values in memory.items()
        for key, tensor in values.items()
    }
    return {**_weights(state), **remembered}


def _weights(state: TrainingState) -> dict[str, torch.Tensor]:
    """Name the weights of all parts, each once: DynUNet lists its layers under two names."""
    parts = {"network": state.network, "average": state.average}
    if state.supervision is not None:
        parts["heads"] = state.supervision.heads
    return {
        f"{part}/{name}": tensor
        for part, module in parts.items()
        for tensors in (module.named_parameters(), module.named_buffers())
        for name, tensor in tensors
    }
