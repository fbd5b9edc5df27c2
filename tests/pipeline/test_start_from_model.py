"""Training that starts from a trained model: its weights, its plan, and what it refuses."""

import hashlib
import json
import shutil
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.pipeline.conftest import disc, save_picture, write_flat, write_volumes

from sfumato.storage import MARK

FEW_CASES = 5
ONE_STEP_OF_NEXT_TO_NOTHING = (
    "--steps=1", "--set=training.learning_rate=1e-12", "--fold=none", "--device=cpu",
)  # fmt: skip


@pytest.fixture
def few_cases(tmp_path: Path) -> Path:
    """Give pictures of the kind of `flat_data`, with other numbers for the same class."""
    folder = tmp_path / "few"
    for i in range(FEW_CASES):
        image, mask = disc(100 + i)
        save_picture(folder / "images" / f"new_{i}.png", image)
        save_picture(folder / "labels" / f"new_{i}.png", 7 * mask.astype(np.uint8))
    return folder


def tensors(model: Path) -> dict[str, np.ndarray]:
    return load_file(model / "weights.safetensors")


def toml(path: Path) -> dict:
    return tomllib.loads(path.read_text("utf-8"))


def content_of(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    # The mark says which process works in the folder.
    return {path: path.read_bytes() for path in files if path.name != MARK}


@pytest.mark.parametrize("place", [".", "model", "best_model"])
def test_training_starts_from_the_weights_of_the_model(
    sfumato: Callable, flat_run: Path, few_cases: Path, tmp_path: Path, place: str
) -> None:
    out = tmp_path / "run"
    outcome = sfumato("train", few_cases, "--out", out, "--from", flat_run / place,
                      *ONE_STEP_OF_NEXT_TO_NOTHING)  # fmt: skip
    assert outcome.code == 0, outcome.err
    before = tensors(flat_run / ("model" if place == "." else place))
    after = tensors(out / "model")
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-6)


def test_the_plan_is_the_models_and_the_run_says_so(
    sfumato: Callable, flat_run: Path, few_cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    outcome = sfumato("train", few_cases, "--out", out, "--from", flat_run,
                      *ONE_STEP_OF_NEXT_TO_NOTHING)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert f"from the model {flat_run}" in " ".join(outcome.out.split())
    old, new = toml(flat_run / "config.toml"), toml(out / "config.toml")
    assert new["network"] == old["network"]
    assert new["preprocessing"] == old["preprocessing"]
    assert new["patches"]["shape"] == old["patches"]["shape"] == [16, 16]
    assert new["augmentation"]["mirror_axes"] == old["augmentation"]["mirror_axes"]
    assert toml(out / "wishes.toml")["network"] == {}
    checksum = hashlib.sha256((flat_run / "model" / "weights.safetensors").read_bytes()).hexdigest()
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["from_model"] == {"folder": str(flat_run), "sha256": checksum}
    model = toml(out / "model" / "model.toml")
    assert model["about"]["from_model_sha256"] == checksum
    assert model["class_values"] == [0, 7]


def test_the_report_warns_that_held_out_cases_may_not_be_new(
    sfumato: Callable, quick_flat: tuple, flat_run: Path, few_cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    outcome = sfumato("train", few_cases, "--out", out, "--steps=1", *quick_flat,
                      "--from", flat_run)  # fmt: skip
    assert outcome.code == 0, outcome.err
    warning = "they are not new to this one"
    assert warning in (out / "evaluation" / "report.html").read_text("utf-8")
    assert warning not in (flat_run / "evaluation" / "report.html").read_text("utf-8")


def test_patch_and_mirroring_can_be_set(
    sfumato: Callable, flat_run: Path, few_cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    outcome = sfumato("train", few_cases, "--out", out, "--from", flat_run,
                      *ONE_STEP_OF_NEXT_TO_NOTHING, "--set=patches.shape=[32,16]",
                      "--set=augmentation.mirror_axes=[1]")  # fmt: skip
    assert outcome.code == 0, outcome.err
    model = toml(out / "model" / "model.toml")
    assert model["window"] == [32, 16]
    assert model["mirror_axes"] == [1]


@pytest.mark.slow
def test_ten_steps_from_a_model_are_better_than_ten_from_nothing(
    sfumato: Callable, quick_volume: tuple, trained_volume_run: Path, tmp_path: Path
) -> None:
    data = write_volumes(tmp_path / "balls", n_cases=3)
    losses = []
    for name, start in (("nothing", ()), ("model", ("--from", trained_volume_run))):
        outcome = sfumato("train", data, "--out", tmp_path / name, "--steps=10", "--fold=none",
                          *quick_volume, *start)  # fmt: skip
        assert outcome.code == 0, outcome.err
        history = (tmp_path / name / "history.jsonl").read_text("utf-8").splitlines()
        losses.append(json.loads(history[-1])["loss_total"])
    assert losses[1] < 0.8 * losses[0]


def refused(sfumato: Callable, out: Path, *arguments: object) -> str:
    """Return the one line with which a command ends that writes nothing."""
    outcome = sfumato("train", *arguments, "--out", out, *ONE_STEP_OF_NEXT_TO_NOTHING)
    assert outcome.code == 2
    assert not out.exists()
    (line,) = outcome.err.splitlines()
    return str(line)


def test_a_model_of_other_classes_channels_and_axes_is_refused_in_one_line(
    sfumato: Callable, volume_run: Path, flat_run: Path, few_cases: Path, tmp_path: Path
) -> None:
    assert refused(sfumato, tmp_path / "run", few_cases, "--from", volume_run) == (
        f"error: {volume_run}: training cannot start from this model, since its classes are"
        " shell [outer], core, but those of the data foreground; it takes images with 2 channels,"
        " but those of the data have 1; it takes 3-D images, but those of the data are 2-D;"
        " leave out --from, or choose a model of the same kind"
    )
    description = {"labels": {"background": 0, "disc": 7}}
    (few_cases / "dataset.json").write_text(json.dumps(description))
    assert refused(sfumato, tmp_path / "run", few_cases, "--from", flat_run) == (
        f"error: {flat_run}: training cannot start from this model, since its classes are"
        " foreground, but those of the data disc; leave out --from, or choose a model of the"
        " same kind"
    )


def test_a_folder_without_a_model_is_refused(
    sfumato: Callable, few_cases: Path, tmp_path: Path
) -> None:
    line = refused(sfumato, tmp_path / "run", few_cases, "--from", few_cases)
    assert f"{few_cases}: is no trained model" in line


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("network.features=[8,8,8]", "network.features"),
        ("preprocessing.spacing_mm=[2,2]", "preprocessing.spacing_mm"),
    ],
)
def test_another_network_or_spacing_is_refused(
    sfumato: Callable, flat_run: Path, few_cases: Path, tmp_path: Path, wish: str, name: str
) -> None:
    line = refused(sfumato, tmp_path / "run", few_cases, "--from", flat_run, f"--set={wish}")
    assert line == (
        f"error: {name} is what the model of --from was trained with, and cannot be set;"
        " leave it out"
    )


def test_the_folder_of_the_model_is_never_emptied(
    sfumato: Callable, flat_run: Path, few_cases: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(flat_run, run)
    before = content_of(run)
    outcome = sfumato("train", few_cases, "--out", run, "--from", run / "best_model",
                      "--overwrite", *ONE_STEP_OF_NEXT_TO_NOTHING)  # fmt: skip
    assert outcome.code == 2
    assert "which is to be read, so it is not emptied" in outcome.err
    assert content_of(run) == before


def test_a_killed_training_goes_on_to_the_same_weights_and_only_from_the_same_model(
    sfumato: Callable, start_sfumato: Callable, quick_flat: tuple, flat_run: Path, tmp_path: Path
) -> None:
    data, model = write_flat(tmp_path / "few", FEW_CASES), tmp_path / "model"
    shutil.copytree(flat_run / "model", model)
    command = ("train", data, *quick_flat, "--steps=60", "--set=training.validations=6")
    start = ("--from", model)
    assert sfumato(*command, *start, "--out", tmp_path / "whole").code == 0
    out = tmp_path / "run"
    process = start_sfumato(*command, *start, "--out", out)
    assert process.stdout is not None
    next(line for line in process.stdout if " step 20 " in line)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=200)
    assert not (out / "model").exists()

    def resume(*more: object) -> str:
        outcome = sfumato(*command, *more, "--out", out, "--resume")
        assert outcome.code == 2
        return str(outcome.err)

    before = content_of(out)
    reason = f"{out}: the run was started from the model {model} as it was then; resume with"
    assert reason in resume()
    assert reason in resume("--from", tmp_path / "whole")
    assert content_of(out) == before
    resumed = sfumato(*command, *start, "--out", out, "--resume")
    assert resumed.code == 0, resumed.err
    weights = Path("model", "weights.safetensors")
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_deep_supervision_starts_from_any_model_and_leaves_nothing_in_its_own(
    sfumato: Callable, few_cases: Path, tmp_path: Path
) -> None:
    shape = ("--set=patches.shape=[16,16]", "--set=network.features=[4,8,8,8]",
             "--set=network.strides=[[1,1],[2,2],[2,2],[2,2]]")  # fmt: skip
    deep = "--set=loss.deep_supervision=true"
    for name, settings in {
        "plain": shape,
        "deep": (*shape, deep),
        "further": (deep, f"--from={tmp_path / 'plain'}"),
    }.items():
        outcome = sfumato("train", few_cases, "--out", tmp_path / name, *settings,
                          *ONE_STEP_OF_NEXT_TO_NOTHING)  # fmt: skip
        assert outcome.code == 0, outcome.err
    first = tensors(tmp_path / "plain" / "model")
    for name in ("deep", "further"):
        weights = tensors(tmp_path / name / "model")
        assert weights.keys() == first.keys()
        for key, values in first.items():
            np.testing.assert_allclose(weights[key], values, atol=1e-6)
        description = toml(tmp_path / name / "model" / "model.toml")
        expected = toml(tmp_path / "plain" / "model" / "model.toml")
        for key in ("about", "weights_sha256"):  # which differ in the last digits
            del description[key], expected[key]
        assert description == expected
