"""The training loop: a generator of progress, so that the caller decides what to do with it."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import nn

from sfumato.errors import TrainingError
from sfumato.model.losses import LossSettings, LossTerms, deep_hard_and_soft_loss
from sfumato.model.tensors import HardTarget, OnItsGrid, SoftTarget
from sfumato.settings import Precision, Settings
from sfumato.training.checkpoint import TrainingState
from sfumato.training.distributed import ALONE, World
from sfumato.training.gradient import BatchLoss, Learner
from sfumato.training.patches import Batch

DrawBatch = Callable[[int], Batch]
Validate = Callable[[nn.Module], dict[str, float]]
"""From a network to the Dice of every foreground class."""


class TrainingSettings(Settings):
    """How long and how fast to learn.

    Attributes:
        seed: Decides the first weights and all that is drawn.
        steps: Optimiser steps; the exact way to say how long. None goes by `minutes`.
        minutes: Wall-clock time of training where no steps are given; the learning rate
            falls with the time spent.
        train_cases: Use only so many of the training cases, taken in a fixed random order;
            None uses all.
        learning_rate: Largest learning rate of AdamW.
        weight_decay: Pull of the weights towards zero.
        warmup_fraction: Share of the training in which the learning rate rises.
        average_decay: How much of the running average of the weights is kept each step.
        validations: How often the held-out cases are looked at, evenly spread.
        validation_cases: Held-out cases looked at each time, at most.
        precision: "bfloat16" computes convolutions in half the bits, "float32" in full;
            "auto" takes bfloat16 where the device has it.
        accumulate: Pieces that a step's batch is cut into where memory is small, one worked on
            after the other: the same gradient, but each goes through the network twice.
    """

    seed: int = Field(default=0, ge=0)
    steps: int | None = Field(default=None, ge=1)
    minutes: float = Field(default=30.0, gt=0)
    train_cases: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1)
    average_decay: float = Field(default=0.995, ge=0, lt=1)
    validations: int = Field(default=10, ge=1)
    validation_cases: int = Field(default=16, ge=1)
    precision: Precision = "auto"
    accumulate: int = Field(default=1, ge=1)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What happened in one training step.

    Attributes:
        step: Steps done, this one included.
        fraction: Share of the training that is done, 0 to 1.
        elapsed_seconds: Time spent in steps and validation, over all resumed pieces.
        learning_rate: What the step was taken with.
        loss_hard: Disagreement with the hard label.
        loss_soft: Disagreement with the soft label, unweighted.
        loss_total: What was minimised.
        dice: Validation Dice of every foreground class, after steps that validate.
        is_best: Whether this validation is the best so far.
    """

    step: int
    fraction: float
    elapsed_seconds: float
    learning_rate: float
    loss_hard: float
    loss_soft: float
    loss_total: float
    dice: dict[str, float] | None = None
    is_best: bool = False

    @property
    def mean_dice(self) -> float:
        """Mean validation Dice over classes; NaN where no validation happened."""
        values = [v for v in (self.dice or {}).values() if not math.isnan(v)]
        return sum(values) / len(values) if values else math.nan


def optimize(
    state: TrainingState,
    draw_batch: DrawBatch,
    validate: Validate | None,
    loss: LossSettings,
    settings: TrainingSettings,
    world: World = ALONE,
) -> Generator[Progress]:
    """Train from where `state` stands to the end, yielding after every step.

    The batch of a step depends on the step's number alone, so a training that is stopped
    and resumed from its checkpoint goes on as if it had not been.

    Args:
        state: Weights, optimiser and counters; changed in place.
        draw_batch: Gives the batch of a step, or this process's share of it.
        validate: Scores a network on held-out cases; None leaves that out. Of several processes
            the first alone validates.
        loss: How hard and soft labels count.
        settings: How long and how fast to learn.
        world: The processes that learn together.

    Raises:
        TrainingError: If the loss is no longer finite, or another process failed.
    """
    device = next(state.network.parameters()).device
    learner = Learner(
        network=world.synchronise(state.supervision or state.network),
        world=world,
        dtype=compute_dtype(settings.precision, device),
        n_pieces=settings.accumulate,
    )
    n_validated = math.floor(_fraction(state, settings) * settings.validations)
    state.network.train()
    with ThreadPoolExecutor(max_workers=1) as background:
        upcoming = background.submit(draw_batch, state.step)
        while (fraction := _fraction(state, settings)) < 1:
            started = time.monotonic()
            batch = world.of_each(upcoming.result).to(device)
            upcoming = background.submit(draw_batch, state.step + 1)
            learning_rate = settings.learning_rate * schedule(fraction, settings.warmup_fraction)
            terms = _take_step(
                state, learner, batch, learning_rate, _loss_at(state, fraction, loss)
            )
            if not math.isfinite(terms[2]):
                raise world.common(
                    TrainingError(
                        f"the loss is not finite at step {state.step + 1}; train anew with a"
                        " smaller training.learning_rate"
                    )
                )
            _update_average(state, settings.average_decay)
            state.step += 1
            state.elapsed_seconds += time.monotonic() - started
            dice, is_best = None, False
            due = math.floor(_fraction(state, settings) * settings.validations)
            if validate is not None and due > n_validated:
                n_validated = due
                dice, is_best = _validate(state, validate)
            # How much of a budget of time is spent, all must see alike.
            state.elapsed_seconds = world.exchange(state.elapsed_seconds)[0]
            yield Progress(
                step=state.step,
                fraction=min(1.0, _fraction(state, settings)),
                elapsed_seconds=state.elapsed_seconds,
                learning_rate=learning_rate,
                loss_hard=terms[0],
                loss_soft=terms[1],
                loss_total=terms[2],
                dice=dice,
                is_best=is_best,
            )
        upcoming.cancel()


def schedule(fraction: float, warmup_fraction: float) -> float:
    """Return the learning rate's share of its largest: a short rise, then a cosine to zero."""
    if fraction < warmup_fraction:
        return (fraction + 1e-3) / (warmup_fraction + 1e-3)
    rest = (fraction - warmup_fraction) / (1 - warmup_fraction)
    return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the number type of convolutions; weights and losses stay in float32."""
    if precision == "auto":
        precision = "bfloat16" if _is_bfloat16_fast(device) else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _is_bfloat16_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def _fraction(state: TrainingState, settings: TrainingSettings) -> float:
    if settings.steps is not None:
        return state.step / settings.steps
    return state.elapsed_seconds / (60 * settings.minutes)


def _loss_at(state: TrainingState, fraction: float, loss: LossSettings) -> BatchLoss:
    """Make the loss that counts when a share of the training is done."""
    strides = () if state.supervision is None else state.supervision.strides

    def batch_loss(
        logits: Sequence[OnItsGrid], hard_target: HardTarget, soft_target: SoftTarget
    ) -> LossTerms:
        return deep_hard_and_soft_loss(logits, hard_target, soft_target, strides, loss, fraction)

    return batch_loss


def _take_step(
    state: TrainingState,
    learner: Learner,
    batch: Batch,
    learning_rate: float,
    batch_loss: BatchLoss,
) -> tuple[float, float, float]:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.zero_grad(set_to_none=True)
    terms = learner.add_gradient(batch, batch_loss)
    nn.utils.clip_grad_norm_((state.supervision or state.network).parameters(), 12.0)
    state.optimizer.step()
    return terms.hard.item(), terms.soft.item(), terms.total.item()


def _update_average(state: TrainingState, decay: float) -> None:
    """Move the averaged weights a little towards the current ones; quickly at first."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    averaged = [p.data for p in state.average.parameters()]
    current = [p.data for p in state.network.parameters()]
    torch._foreach_lerp_(averaged, current, 1 - decay)


def _validate(state: TrainingState, validate: Validate) -> tuple[dict[str, float], bool]:
    started = time.monotonic()
    dice = validate(state.average)
    state.elapsed_seconds += time.monotonic() - started
    values = [v for v in dice.values() if not math.isnan(v)]
    mean = sum(values) / len(values) if values else -1.0
    is_best = mean > state.best_mean_dice
    state.best_mean_dice = max(mean, state.best_mean_dice)
    return dice, is_best
