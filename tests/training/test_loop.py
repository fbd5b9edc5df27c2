"""The training loop on a toy problem: find the bright disc in a small noisy image."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import InputError, TrainingError
from sfumato.model.deep_supervision import DeepSupervision
from sfumato.model.losses import LossSettings
from sfumato.model.network import NetworkSettings, build_network
from sfumato.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from sfumato.training.loop import Progress, TrainingSettings, compute_dtype, optimize, schedule
from sfumato.training.patches import Batch

NETWORK = NetworkSettings(
    features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3), (3, 3), (3, 3))
)
DEEPER = NetworkSettings(
    features=(4, 8, 8, 8), strides=((1, 1), (2, 2), (2, 2), (1, 1)), kernels=((3, 3),) * 4
)
LOSS = LossSettings()


def draw_batch(step: int) -> Batch:
    rng = np.random.default_rng([5, step])
    rows, columns = np.indices((12, 12))
    label = np.stack([np.hypot(rows - r, columns - c) < 3 for r, c in rng.uniform(3, 9, (2, 2))])
    image = label + rng.normal(0, 0.3, label.shape)
    soft = 0.9 * np.stack([~label, label], axis=1) + 0.05
    return Batch(
        images=torch.from_numpy(image[:, None].astype(np.float32)),
        hard_target=torch.from_numpy(label.astype(np.int64)),
        soft_target=torch.from_numpy(soft.astype(np.float32)),
    )


def new_state(seed: int = 0) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(NETWORK, 1, 2)
    return TrainingState(
        network=network,
        average=copy.deepcopy(network).eval().requires_grad_(False),
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
    )


def run(
    state: TrainingState,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    n_steps: int | None = None,
    **settings: float,
) -> list[Progress]:
    chosen = TrainingSettings(**{"steps": 8, "precision": "float32", **settings})
    history = []
    training = optimize(state, draw_batch, validate, LOSS, chosen)
    for progress in training:
        history.append(progress)
        if len(history) == n_steps:
            training.close()
            break
    return history


def weights(state: TrainingState) -> torch.Tensor:
    both = (state.network, state.average)
    return torch.cat([p.detach().flatten() for n in both for p in n.parameters()])


def losses(history: list[Progress]) -> list[float]:
    return [progress.loss_total for progress in history]


def test_training_learns_the_toy_problem() -> None:
    state = new_state()
    history = run(state, steps=60, learning_rate=1e-2, average_decay=0.9)
    assert np.mean(losses(history)[-5:]) < 0.4 * np.mean(losses(history)[:5])
    batch = draw_batch(1000)
    with torch.inference_mode():
        found = state.average(batch.images).argmax(dim=1)
    overlap = 2 * (found * batch.hard_target).sum() / (found.sum() + batch.hard_target.sum())
    assert overlap > 0.9


def test_a_ramped_weight_of_the_soft_loss_follows_the_share_of_steps_done() -> None:
    loss = LossSettings(soft="dice_semimetric", soft_weight=2, soft_ramp=0.5)
    settings = TrainingSettings(steps=8, precision="float32")
    history = list(optimize(new_state(), draw_batch, None, loss, settings))
    weights = [(p.loss_total - p.loss_hard) / p.loss_soft for p in history]
    assert weights == pytest.approx([0, 0.5, 1, 1.5, 2, 2, 2, 2], abs=1e-5)


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    first, second, other = new_state(), new_state(), new_state(seed=1)
    assert losses(run(first)) == losses(run(second))
    assert torch.equal(weights(first), weights(second))
    run(other)
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_resumed_training_ends_in_the_same_weights_to_the_bit(tmp_path: Path, stop: int) -> None:
    uninterrupted = new_state()
    history = run(uninterrupted)
    stopped = new_state()
    before = run(stopped, n_steps=stop)
    save_checkpoint(stopped, tmp_path / "checkpoint.sfumato")
    resumed = new_state(seed=1)
    load_checkpoint(resumed, tmp_path / "checkpoint.sfumato")
    after = run(resumed)
    assert losses(before) + losses(after) == losses(history)
    assert [p.step for p in before + after] == list(range(1, 9))
    assert torch.equal(weights(resumed), weights(uninterrupted))


def test_a_resumed_training_validates_at_the_same_steps(tmp_path: Path) -> None:
    def steps_validated(history: list[Progress]) -> list[int]:
        return [progress.step for progress in history if progress.dice is not None]

    def validate(network: nn.Module) -> dict[str, float]:
        return {"disc": 0.5}

    expected = steps_validated(run(new_state(), validate, steps=12, validations=4))
    assert expected == [3, 6, 9, 12]
    for stop in range(1, 12):
        state = new_state()
        before = run(state, validate, n_steps=stop, steps=12, validations=4)
        save_checkpoint(state, tmp_path / "checkpoint.sfumato")
        resumed = new_state()
        load_checkpoint(resumed, tmp_path / "checkpoint.sfumato")
        after = run(resumed, validate, steps=12, validations=4)
        assert steps_validated(before) + steps_validated(after) == expected
        assert [p.is_best for p in before + after if p.dice] == [True, False, False, False]


def test_a_training_that_is_done_does_nothing_more() -> None:
    state = new_state()
    run(state, steps=2)
    before = weights(state)
    assert run(state, steps=2) == []
    assert torch.equal(weights(state), before)


def test_progress_tells_what_happened() -> None:
    state = new_state()
    history = run(state, steps=4)
    assert [p.step for p in history] == [1, 2, 3, 4]
    assert [p.fraction for p in history] == [0.25, 0.5, 0.75, 1]
    for progress in history:
        assert progress.loss_total == pytest.approx(progress.loss_hard + progress.loss_soft)
        assert progress.dice is None
        assert math.isnan(progress.mean_dice)
    seconds = [p.elapsed_seconds for p in history]
    assert 0 < seconds[0] < seconds[-1] == state.elapsed_seconds


def test_validation_sees_the_averaged_network_and_the_best_is_marked() -> None:
    state, scores = new_state(), iter([0.5, 0.7, 0.6, 0.8])

    def validate(network: nn.Module) -> dict[str, float]:
        assert network is state.average
        assert not network.training
        return {"disc": next(scores), "absent": math.nan}

    history = run(state, validate, steps=8, validations=4)
    assert [p.step for p in history if p.dice is not None] == [2, 4, 6, 8]
    assert [p.step for p in history if p.is_best] == [2, 4, 8]
    assert [p.mean_dice for p in history if p.dice is not None] == [0.5, 0.7, 0.6, 0.8]
    assert state.best_mean_dice == 0.8


def test_a_validation_without_any_score_is_never_the_best() -> None:
    state = new_state()
    history = run(state, lambda network: {"disc": math.nan}, steps=2, validations=2)
    assert [p.dice is not None for p in history] == [True, True]
    assert not any(p.is_best for p in history)
    assert state.best_mean_dice == -1


@pytest.mark.parametrize("validations", [1, 3, 10, 100])
def test_the_last_step_always_validates(validations: int) -> None:
    history = run(new_state(), lambda network: {"disc": 1.0}, steps=7, validations=validations)
    n_validated = sum(p.dice is not None for p in history)
    assert history[-1].dice == {"disc": 1.0}
    assert n_validated == min(validations, 7)


def test_a_budget_of_time_is_kept() -> None:
    history = run(new_state(), steps=None, minutes=1 / 60)
    slowest = max(np.diff([p.elapsed_seconds for p in history]))
    assert 1 <= history[-1].elapsed_seconds <= 1 + slowest + 1e-6
    assert all(p.fraction < 1 for p in history[:-1])
    assert history[-1].fraction == 1
    assert history[-1].learning_rate < 0.5 * max(p.learning_rate for p in history)


def test_the_learning_rate_rises_and_then_falls_to_zero() -> None:
    assert schedule(0, 0.02) == pytest.approx(0.05, abs=0.01)
    assert schedule(0.02, 0.02) == 1
    assert schedule(0.51, 0.02) == pytest.approx(0.5)
    assert schedule(1, 0.02) == pytest.approx(0, abs=1e-12)
    assert schedule(1.5, 0.02) == pytest.approx(0, abs=1e-12)
    assert schedule(0, 0) == 1
    rising = [schedule(f, 0.2) for f in np.linspace(0, 0.2, 9)]
    falling = [schedule(f, 0.2) for f in np.linspace(0.2, 1, 9)]
    assert (np.diff(rising) > 0).all()
    assert (np.diff(falling) < 0).all()


def test_steps_are_taken_with_the_scheduled_learning_rate() -> None:
    history = run(new_state(), steps=5, learning_rate=0.01, warmup_fraction=0)
    expected = [0.01 * schedule(k / 5, 0) for k in range(5)]
    assert [p.learning_rate for p in history] == pytest.approx(expected)


def test_the_average_follows_the_weights_quickly_at_first_and_steadily_later() -> None:
    state = new_state()
    first = next(state.network.parameters()).detach().clone()
    run(state, n_steps=1, average_decay=0.995)
    current, average = (next(n.parameters()) for n in (state.network, state.average))
    torch.testing.assert_close(average, 0.1 * first + 0.9 * current)
    state.step = 10**9
    before = average.detach().clone()
    run(state, n_steps=1, steps=2 * 10**9, average_decay=0.995)
    torch.testing.assert_close(average, 0.995 * before + 0.005 * current)


def test_without_memory_the_average_is_the_weights() -> None:
    state = new_state()
    run(state, steps=3, average_decay=0)
    for current, average in zip(
        state.network.parameters(), state.average.parameters(), strict=True
    ):
        assert torch.equal(current, average)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    def draw(step: int) -> Batch:
        batch = draw_batch(step)
        return Batch(
            images=batch.images * math.nan,
            hard_target=batch.hard_target,
            soft_target=batch.soft_target,
        )

    with pytest.raises(TrainingError, match="the loss is not finite at step 1; train anew with a"):
        list(optimize(new_state(), draw, None, LOSS, TrainingSettings(steps=3)))


def test_closing_leaves_a_state_that_fits_the_last_step() -> None:
    state = new_state()
    history = run(state, n_steps=3)
    assert state.step == history[-1].step == 3
    assert state.elapsed_seconds == history[-1].elapsed_seconds


def test_a_batch_that_cannot_be_drawn_stops_the_training() -> None:
    def draw(step: int) -> Batch:
        if step == 2:
            raise InputError("case 'a' is gone")
        return draw_batch(step)

    state = new_state()
    training = optimize(state, draw, None, LOSS, TrainingSettings(steps=8, precision="float32"))
    with pytest.raises(InputError, match="case 'a' is gone"):
        list(training)
    assert state.step == 2


def test_half_precision_trains_nearly_alike() -> None:
    full = run(new_state(), steps=5, precision="float32")
    half = run(new_state(), steps=5, precision="bfloat16")
    assert losses(half) == pytest.approx(losses(full), rel=0.05)
    assert losses(half) != losses(full)


def test_precision_is_what_is_asked_for_or_what_the_device_is_made_for() -> None:
    cpu = torch.device("cpu")
    assert compute_dtype("float32", cpu) == torch.float32
    assert compute_dtype("bfloat16", cpu) == torch.bfloat16
    assert compute_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    assert compute_dtype("auto", torch.device("meta")) == torch.float32


def deep_state(seed: int = 0) -> TrainingState:
    """Return a new training that answers for half the resolution too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(DEEPER, 1, 2)
        supervision = DeepSupervision(network, DEEPER, 2)
    return TrainingState(
        network=network,
        average=copy.deepcopy(network).eval().requires_grad_(False),
        optimizer=torch.optim.AdamW(supervision.parameters(), lr=1e-3),
        supervision=supervision,
    )


def test_with_deep_supervision_the_toy_problem_is_learnt() -> None:
    history = run(deep_state(), steps=60)
    assert np.mean(losses(history)[-5:]) < 0.6 * losses(history)[0]


def test_with_deep_supervision_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, interrupted, resumed = deep_state(), deep_state(), deep_state(seed=1)
    run(whole, steps=6)
    run(interrupted, n_steps=3, steps=6)
    save_checkpoint(interrupted, tmp_path / "checkpoint.sfumato")
    load_checkpoint(resumed, tmp_path / "checkpoint.sfumato")
    run(resumed, steps=6)
    assert whole.supervision is not None
    assert resumed.supervision is not None
    expected = whole.supervision.state_dict()
    for name, weight in resumed.supervision.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    for weight, other in zip(resumed.average.parameters(), whole.average.parameters(), strict=True):
        assert torch.equal(weight, other)
