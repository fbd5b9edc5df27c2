import csv
import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.model_selection import KFold
from tests.pipeline.conftest import SMALL_FLAT, save_picture

METRICS = {"dice", "hd95_mm", "assd_mm", "nsd_1mm", "precision", "recall", "volume_error"}
CALIBRATION = {"ece", "brier", "cross_entropy", "ece_boundary", "brier_boundary"}


def split_of(run: Path) -> dict[str, list[str]]:
    return json.loads((run / "run.json").read_text("utf-8"))["split"]


def test_a_run_holds_all_that_was_asked_for(flat_run: Path) -> None:
    names = {path.relative_to(flat_run).as_posix() for path in flat_run.rglob("*")}
    assert {
        "model/weights.safetensors", "model/model.toml",
        "best_model/weights.safetensors", "best_model/model.toml",
        "history.jsonl", "config.toml", "run.json", "fingerprint.json", "checkpoint.sfumato",
        "evaluation/metrics.json", "evaluation/metrics.csv", "evaluation/report.html",
    } <= names  # fmt: skip
    assert any(name.startswith("tensorboard/events.out.tfevents") for name in names)
    assert not [name for name in names if Path(name).name.startswith(".") and name != ".sfumato"]


def test_the_metrics_have_the_structure_that_others_rely_on(volume_run: Path) -> None:
    metrics = json.loads((volume_run / "evaluation" / "metrics.json").read_text("utf-8"))
    assert list(metrics["summary"]) == ["shell [outer]", "core", "mean"]
    for row in ("shell [outer]", "core"):
        assert set(metrics["summary"][row]) == METRICS
    assert set(metrics["summary"]["mean"]) == METRICS | CALIBRATION
    assert [case["case"] for case in metrics["cases"]] == split_of(volume_run)["held_out"]
    for case in metrics["cases"]:
        assert set(case) == {"case", "shell [outer]", "core", "mean"} | CALIBRATION
        assert set(case["core"]) == METRICS
    with (volume_run / "evaluation" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"case", "class", "metric", "value"}


def test_means_in_the_summary_are_means_over_the_cases(flat_run: Path) -> None:
    metrics = json.loads((flat_run / "evaluation" / "metrics.json").read_text("utf-8"))
    values = [case["foreground"]["dice"] for case in metrics["cases"]]
    assert metrics["summary"]["foreground"]["dice"] == pytest.approx(sum(values) / len(values))


def test_the_history_has_the_losses_and_validations(flat_run: Path) -> None:
    rows = [
        json.loads(line) for line in (flat_run / "history.jsonl").read_text("utf-8").splitlines()
    ]
    assert [row["step"] for row in rows] == [10, 20]
    for row in rows:
        assert set(row["dice"]) == {"foreground"}
        assert row["loss_total"] == pytest.approx(row["loss_hard"] + row["loss_soft"], rel=1e-4)
        assert all(math.isfinite(row[name]) for name in ("loss_total", "elapsed_seconds"))


def test_the_report_needs_no_network_and_shows_the_run(flat_run: Path) -> None:
    page = (flat_run / "evaluation" / "report.html").read_text("utf-8")
    assert "held-out cases" in page
    assert "data:image/" in page
    assert "<script src" not in page
    assert "<link" not in page


def test_the_report_says_where_millimetres_are_pixels(flat_run: Path, volume_run: Path) -> None:
    note = "read mm as pixels"
    assert note in (flat_run / "evaluation" / "report.html").read_text("utf-8")
    assert note not in (volume_run / "evaluation" / "report.html").read_text("utf-8")


def test_the_settings_of_a_run_are_complete_and_can_be_used_again(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    config = tomllib.loads((flat_run / "config.toml").read_text("utf-8"))
    assert config["patches"]["shape"] == [16, 16]
    assert config["preprocessing"]["spacing_mm"] == [1.0, 1.0]
    assert config["superpixels"]["size_mm"] > 0
    again = sfumato(
        "train", flat_data, "--out", tmp_path / "run", "--config", flat_run / "config.toml",
        "--device=cpu",
    )  # fmt: skip
    assert again.code == 0
    assert weights(tmp_path / "run") == weights(flat_run)


def weights(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights_to_the_byte(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    for name, seed in (("first", 5), ("second", 5), ("other", 6)):
        outcome = sfumato(
            "train", flat_data, "--out", tmp_path / name, "--steps=20", "--fold=none", *quick_flat,
            f"--set=training.seed={seed}",
        )  # fmt: skip
        assert outcome.code == 0
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    assert weights(tmp_path / "first") != weights(tmp_path / "other")


def test_weights_are_finite_numbers(volume_run: Path) -> None:
    tensors = load_file(volume_run / "model" / "weights.safetensors")
    assert len(tensors) > 10
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize(("k", "n"), [(0, 5), (2, 3)])
def test_folds_are_those_of_scikit_learn_over_groups(
    sfumato: Callable, quick_flat: tuple, rater_data: Path, tmp_path: Path, k: int, n: int
) -> None:
    with (rater_data / "cases.csv").open(encoding="utf-8") as file:
        group_of = {row["case"]: row["group"] for row in csv.DictReader(file)}
    groups = sorted(set(group_of.values()))
    assert len(groups) < len(group_of)
    outcome = sfumato("train", rater_data, "--out", tmp_path / "run", "--steps=1",
                      f"--fold={k}/{n}", *quick_flat)  # fmt: skip
    assert outcome.code == 0
    folds = list(KFold(n, shuffle=True, random_state=12345).split(groups))
    held_out_groups = {groups[i] for i in folds[k][1]}
    split = split_of(tmp_path / "run")
    assert split["held_out"] == sorted(c for c, g in group_of.items() if g in held_out_groups)
    assert sorted(split["train"] + split["held_out"]) == sorted(group_of)


def test_train_cases_takes_a_part_of_the_training_cases(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, flat_run: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", flat_data, "--out", tmp_path / "run", "--steps=1",
                      "--set=training.train_cases=3", *quick_flat)  # fmt: skip
    assert outcome.code == 0
    few, all_cases = split_of(tmp_path / "run"), split_of(flat_run)
    assert len(few["train"]) == 3
    assert set(few["train"]) < set(all_cases["train"])
    assert few["held_out"] == all_cases["held_out"]


def test_without_a_fold_every_case_trains_and_the_report_is_on_training_alone(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", flat_data, "--out", tmp_path / "run", "--steps=2",
                      "--fold=none", *quick_flat)  # fmt: skip
    assert outcome.code == 0
    assert len(split_of(tmp_path / "run")["train"]) == 10
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()
    assert not (tmp_path / "run" / "evaluation").exists()
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for words in ("trained on all 10 cases", "No case was held out", "Trained for 2 steps"):
        assert words in page
    assert outcome.out.splitlines()[-1].endswith(str(tmp_path / "run" / "report.html"))


def test_an_nnunet_folder_trains(
    sfumato: Callable, quick_volume: tuple, nnunet_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", nnunet_data, "--out", tmp_path / "run", "--steps=2", "--fold=none",
                      *quick_volume)  # fmt: skip
    assert outcome.code == 0
    model = tomllib.loads((tmp_path / "run" / "model" / "model.toml").read_text("utf-8"))
    assert model["n_channels"] == 2
    assert model["class_names"] == ["background", "shell", "core"]


@pytest.mark.parametrize("method", ["none", "svls"])
def test_other_softening_methods_train(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path, method: str
) -> None:
    outcome = sfumato("train", flat_data, "--out", tmp_path / "run", "--steps=2",
                      "--fold=none", f"--set=softening.method={method}", *quick_flat)  # fmt: skip
    assert outcome.code == 0
    model = tomllib.loads((tmp_path / "run" / "model" / "model.toml").read_text("utf-8"))
    assert model["about"]["softening"] == method


def test_the_plan_and_the_result_are_printed_with_class_names_as_they_are(
    sfumato: Callable, quick_volume: tuple, volume_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", volume_data, "--out", tmp_path / "run", "--steps=2",
                      "--set=loss.soft=jaccard_metric", "--set=loss.soft_ramp=0.5",
                      *quick_volume)  # fmt: skip
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    plan = dict(line.split(maxsplit=1) for line in lines[lines.index("Plan") + 1 :][:10])
    assert plan["cases"].strip() == "8 to train on, 2 held out"
    assert "shell [outer]" in plan["classes"]
    assert " ".join(plan["soft"].split()) == (
        "labels superpixel, jaccard_metric with weight 1, growing over the first 50% of the"
        " training, beside the hard loss dice"
    )
    assert plan["mirroring"].strip() == "left–right"
    assert "2 steps, seed 0, on cpu" in plan["training"]
    validations = [line for line in lines if " step 2 " in line]
    assert len(validations) == 1
    assert "shell [outer]" in validations[0]
    assert any(line.startswith("shell [outer]") for line in lines)
    assert lines[-1].endswith("report.html")


def test_the_plan_says_why_left_and_right_are_not_mirrored(
    sfumato: Callable, tmp_path: Path
) -> None:
    data = tmp_path / "kidneys"
    for i in range(4):
        image = np.full((40, 52), 60, np.uint8)
        image[10 + i : 22 + i, 6 + i : 18 + i] = image[12:24, 34:46] = 180
        label = np.zeros_like(image)
        label[10 + i : 22 + i, 6 + i : 18 + i], label[12:24, 34:46] = 1, 2
        save_picture(data / "images" / f"case_{i}.png", image)
        save_picture(data / "labels" / f"case_{i}.png", label)
    names = {"background": 0, "left [kidney]": 1, "right [kidney]": 2}
    (data / "dataset.json").write_text(json.dumps({"labels": names}), "utf-8")
    outcome = sfumato("train", data, "--out", tmp_path / "run", "--fold=none", "--steps=1",
                      "--set=loss.deep_supervision=true", *SMALL_FLAT)  # fmt: skip
    assert outcome.code == 0, outcome.err
    words = " ".join(outcome.out.split())
    assert (
        "mirroring up–down; not left–right, where left [kidney] and right [kidney] change places"
        " network U-Net with 4-8-8 features, deep supervision" in words
    )
    model = tomllib.loads((tmp_path / "run" / "model" / "model.toml").read_text("utf-8"))
    assert model["mirror_axes"] == [0]


def test_a_time_budget_ends_in_about_that_time(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", flat_data, "--out", tmp_path / "run", "--time=5s", *quick_flat)
    assert outcome.code == 0
    rows = (tmp_path / "run" / "history.jsonl").read_text("utf-8").splitlines()
    last = json.loads(rows[-1])
    assert 5 <= last["elapsed_seconds"] < 15
    assert last["learning_rate"] < 1e-3
    assert last["step"] > 5


def test_a_time_too_short_for_validation_goes_without(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    outcome = sfumato("train", flat_data, "--out", run, "--time=0.001s", *quick_flat)
    assert outcome.code == 0
    assert "Dice nan" not in outcome.out
    (row,) = map(json.loads, (run / "history.jsonl").read_text("utf-8").splitlines())
    assert "dice" not in row
    assert not (run / "best_model").exists()
    assert (run / "evaluation" / "report.html").exists()


def test_cases_that_are_held_back_choose_post_processing_and_measure_volumes(
    calibrated_run: Path,
) -> None:
    model = tomllib.loads((calibrated_run / "model" / "model.toml").read_text("utf-8"))
    assert {name: len(found) for name, found in model["volume_errors"].items()} == {
        "shell [outer]": 5,
        "core": 5,
    }
    evidence = model["about"]["postprocessing"]
    assert evidence["cases"] == 5
    taken = [step for step in evidence["tried"] if step["is_taken"]]
    chosen = {name for step in taken for name in step.get("largest_component", [])}
    assert chosen == {*model["postprocessing"]["largest_component"]}
    for name, before in evidence["dice_before"].items():
        assert evidence["dice_after"][name] >= before
