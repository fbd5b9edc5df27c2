"""Training on soft labels that are drawn anew, from the command line and stopped halfway."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from sfumato.cases.dataset import Dataset
from sfumato.workflow.run import RunRequest
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.training import train

WAYS = ("every_epoch", "every_patch")


def weights(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("when", WAYS)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    when: str, flat_data: Path, tmp_path: Path
) -> None:
    config = RunConfig.model_validate(
        {
            "softening": {"when": when},
            "patches": {"shape": [16, 16], "batch_size": 2},
            "network": {"features": [4, 8, 8]},
            "training": {"steps": 14},
        }
    )
    dataset = Dataset.open(flat_data)
    start = RunRequest(fold="none", device="cpu")
    for _ in train(dataset, tmp_path / "whole", config, start):
        pass
    training = train(dataset, tmp_path / "stopped", config, start)
    assert [progress.step for progress in islice(training, 8)][-1] == 8  # an epoch has 5 steps
    training.close()
    request = RunRequest(fold="none", device="cpu", is_resumed=True)
    steps = [p.step for p in train(dataset, tmp_path / "stopped", config, request)]
    assert steps == list(range(9, 15))
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


@pytest.mark.parametrize("when", WAYS)
def test_the_plan_says_how_often_soft_labels_are_drawn(
    sfumato: Callable, quick_volume: tuple, volume_data: Path, tmp_path: Path, when: str
) -> None:
    outcome = sfumato("train", volume_data, "--out", tmp_path / "run", "--steps=2", "--fold=0/5",
                      f"--set=softening.when={when}", *quick_volume)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert f"superpixel, drawn anew {when.replace('_', ' ')}" in " ".join(outcome.out.split())
    assert not list((tmp_path / "run" / "prepared").rglob("soft_label.npy"))


def test_a_rule_that_cannot_be_drawn_anew_is_refused(
    sfumato: Callable, flat_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", flat_data, "--out", tmp_path / "run", "--set=softening.method=svls",
                      "--set=softening.when=every_patch")  # fmt: skip
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "when must be \"once\" for the method 'svls'" in outcome.err
    assert not (tmp_path / "run").exists()
