import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.cases.dataset import Dataset
from sfumato.image.files import read_label

LENGTH = ("--steps=6", "--folds=0/5", "--seeds=2")


@pytest.fixture(scope="module")
def compared(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Give what a small experiment printed and wrote."""
    out = tmp_path_factory.mktemp("compared") / "experiment"
    outcome = sfumato(
        "compare", flat_data, "--softeners", "superpixel", "none", "--train-cases", 4, "all",
        "--out", out, "--workers=2", *LENGTH, *quick_flat,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return outcome.out, out


def read(out: Path) -> dict:
    return json.loads((out / "comparison.json").read_text("utf-8"))


def starts_of(out: Path) -> list[dict]:
    runs = read(out)["runs"]
    return [json.loads((out / run["folder"] / "run.json").read_text("utf-8")) for run in runs]


def test_every_kind_is_compared_with_hard_labels(compared: tuple[str, Path]) -> None:
    printed, out = compared
    written = read(out)
    assert written["baseline"] == "none"
    assert len(written["runs"]) == 2 * 2 * 2
    assert {c["softener"] for c in written["comparisons"]} == {"superpixel"}
    assert {c["train_cases"] for c in written["comparisons"]} == {4, None}
    assert all(sentence in printed for sentence in written["verdicts"])
    assert "8 of 8" in printed
    for comparison in written["comparisons"]:
        holds_0 = comparison["low"] is None or comparison["low"] <= 0 <= comparison["high"]
        assert holds_0 == (comparison["verdict"] in ("not distinguishable", "unknown"))
    # Eight trainings on two sets of cases: six need not read them for the plan.
    assert len([*out.glob("fingerprints/*.json")]) == 2
    page = (out / "report.html").read_text("utf-8")
    assert "What came out" in page
    assert "With more training cases" in page


def test_partners_share_their_cases(compared: tuple[str, Path]) -> None:
    runs, starts = read(compared[1])["runs"], starts_of(compared[1])
    splits: dict[tuple, list] = {}
    for run, start in zip(runs, starts, strict=True):
        splits.setdefault((run["train_cases"], run["fold"]), []).append(start["split"])
    assert all(split == group[0] for group in splits.values() for split in group)
    assert sorted(len(group[0]["train"]) for group in splits.values()) == [4, 8]


def test_what_is_done_is_kept_and_more_can_be_added(
    sfumato: Callable, quick_flat: tuple, compared: tuple[str, Path], flat_data: Path
) -> None:
    out = compared[1]
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/model/*")}
    outcome = sfumato(
        "compare", flat_data, "--softeners", "none", "svls", "--train-cases", 4,
        "--out", out, "--resume", *LENGTH, *quick_flat,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "4 trainings, 2 of them done before" in outcome.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {c["softener"] for c in read(out)["comparisons"]} == {"svls"}


def test_labels_are_spoilt_in_training_and_nowhere_else(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "experiment"
    outcome = sfumato(
        "compare", flat_data, "--noise", "shift:4mm", "none", "erode:2", "--out", out,
        *LENGTH, *quick_flat,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "superpixel loses by shift:4mm, beside none: " in outcome.out
    written = read(out)
    assert written["noise"] == ["none", "shift:4mm", "erode:2mm"]
    assert {run["noise"] for run in written["runs"]} == {"none", "shift:4mm", "erode:2mm"}
    assert {d["noise"] for d in written["degradations"]} == {"shift:4mm", "erode:2mm"}

    classes = Dataset.open(flat_data).classes
    drawn = {case.id: case.label for case in Dataset.open(flat_data)}
    for run, start in zip(written["runs"], starts_of(out), strict=True):
        prepared = [*(out / run["folder"]).glob("evaluation/metrics.json")]
        cases = json.loads(prepared[0].read_text("utf-8"))["cases"]
        assert sorted(c["case"] for c in cases) == sorted(start["split"]["held_out"])
    # Eight cases train, with a file for each seed where it is random.
    for name, n_folders in (("erode2mm-*", 1), ("shift4mm-seed*", 2)):
        folders = sorted((out / "spoilt").glob(name))
        assert len(folders) == n_folders
        for folder in folders:
            labels = sorted(folder.glob("rater_1/*.png"))
            assert [path.stem for path in labels] == sorted(start["split"]["train"])
            for path in labels:
                spoilt = classes.to_indices(read_label(path)[0])
                assert (spoilt != drawn[path.stem]).any()
    assert written["spoilt_labels"]["erode:2mm"]["n_labels"] == 8
    assert written["spoilt_labels"]["shift:4mm"]["n_labels"] == 16
    assert 0.5 < written["spoilt_labels"]["erode:2mm"]["dice"]["foreground"] < 0.9
    page = (out / "report.html").read_text("utf-8")
    assert "What spoilt labels cost" in page


def test_where_several_people_drew_every_run_is_scored_against_all_of_them(
    sfumato: Callable, quick_flat: tuple, rater_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "experiment"
    kinds = ("none", "raters", "raters:softening.raters_by=staple")
    outcome = sfumato(
        "compare", rater_data, "--softeners", *kinds, "--out", out, "--steps=6",
        "--folds=0/5", "--seeds=1", *quick_flat,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    written = read(out)
    against_all = {"dice_raters", "soft_dice_raters", "brier_raters", "cross_entropy_raters"}
    against_one = {f"{m}_rater_{n}" for m in ("dice", "brier", "cross_entropy") for n in (1, 2)}
    averages = {(a["softener"], a["metric"]): a["mean"] for a in written["averages"]}
    compared = {comparison["metric"] for comparison in written["comparisons"]}
    assert against_all < compared
    assert not against_one & compared
    for kind in kinds:
        assert {m for s, m in averages if s == kind} >= against_all | against_one
        # The first rater is the reference of everything else.
        assert averages[kind, "brier_rater_1"] == pytest.approx(averages[kind, "brier"])
    page = (out / "report.html").read_text("utf-8")
    assert "Rater by rater" in page


def test_a_temperature_is_fitted_on_cases_that_neither_train_nor_test(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "experiment"
    outcome = sfumato(
        "compare", flat_data, "--out", out, "--steps=6", "--folds=0/5", "--seeds=1",
        "--set=calibration.cases=2", *quick_flat,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    written, starts = read(out), starts_of(out)
    for run, start in zip(written["runs"], starts, strict=True):
        split = start["split"]
        assert [len(split[name]) for name in ("train", "calibration", "held_out")] == [6, 2, 2]
        assert len({case for cases in split.values() for case in cases}) == 10
        assert run["temperature"] != 1
        metrics = json.loads((out / run["folder"] / "evaluation/metrics.json").read_text("utf-8"))
        assert metrics["summary"]["mean"]["cross_entropy_unscaled"] > 0
        assert "image_unscaled" in metrics["reliability"]
    assert {"ece", "ece_unscaled"} < {c["metric"] for c in written["comparisons"]}
    assert "Temperature scaling" in (out / "report.html").read_text("utf-8")


def test_a_training_that_fails_does_not_stop_the_others(
    sfumato: Callable, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "experiment"
    bad = "none:training.learning_rate=1e30"
    outcome = sfumato(
        "compare", flat_data, "--softeners", "none", bad, "--out", out, *LENGTH, *quick_flat
    )
    assert outcome.code == 1
    assert "2 of 4 trainings failed" in outcome.err
    assert "the loss is not finite" in outcome.err
    assert len(read(out)["failures"]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps=6", "--softeners=none"), "two different kinds"),
        (("--steps=6", "--softeners=none,superpixl"), "did you mean 'superpixel'"),
        (("--steps=6", "--folds=1"), "--folds takes a number from 2"),
        (("--steps=6", "--train-cases=none"), "--train-cases takes numbers above 0"),
        (("--steps=6", "--train-cases=99"), "must be at most"),
        (("--steps=6", "--noise=erod:1mm"), "did you mean 'erode'"),
        (("--steps=6", "--noise=erode:1mm,erode:1.0"), "--noise takes each noise once"),
        ((), "each training needs a length"),
    ],
)
def test_impossible_wishes_are_one_plain_line(
    sfumato: Callable, flat_data: Path, tmp_path: Path, options: tuple, words: str
) -> None:
    outcome = sfumato("compare", flat_data, "--out", tmp_path / "experiment", *options)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "experiment").exists()
