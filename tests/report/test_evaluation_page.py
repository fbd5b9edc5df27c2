from collections.abc import Callable
from typing import Any

import pytest
from tests.report.conftest import CLASSES, HISTORY, HOSTILE, Outline, block_case

from sfumato.image.geometry import Geometry
from sfumato.report.evaluation_page import ShownCase, evaluation_page
from sfumato.report.evaluation_words import example_cases, headline
from sfumato.report.figures import overlay_figure
from sfumato.report.page import Section, Table
from sfumato.report.training_page import RunDescription, training_headline, training_page

Build = Callable[..., dict[str, Any]]


def test_the_headline_says_the_result_with_its_interval() -> None:
    metrics = {
        "summary": {"mean": {"dice": 0.8841, "hd95_mm": 1.5, "ece": 0.031}},
        "intervals": {"mean": {"dice": [0.8612, 0.9031]}},
        "n_cases": 52,
    }
    assert headline(metrics) == (
        "Mean Dice 0.884 (95 % interval 0.861 to 0.903) over 52 cases; on average, 95 % of the"
        " boundary lies within 1.50 mm; stated probabilities are off by 3.1 percentage points."
    )


def test_an_undefined_result_is_called_undefined() -> None:
    metrics = {"summary": {"mean": {"dice": None, "hd95_mm": float("nan")}}, "n_cases": 1}
    assert headline(metrics) == "Mean Dice is undefined over 1 case."


def test_undefined_numbers_are_shown_as_dashes_and_counted(metrics: Build) -> None:
    page = evaluation_page(metrics(4), title="t")
    assert '<td class="number">–</td>' in page
    assert "1 undefined" in page
    assert ">nan" not in page.lower()
    assert "None" not in page


def test_the_page_of_a_real_evaluation_is_whole(metrics: Build) -> None:
    case = block_case(Geometry.from_spacing((16, 24), (1.0, 1.0)))
    assert case.label is not None
    written = metrics(4)
    examples = example_cases(written)
    png = overlay_figure(case, case.label, CLASSES)
    page = evaluation_page(
        written,
        title="Two blocks",
        shown={example.case_id: ShownCase(overlay=png) for example in examples},
        run=RunDescription(
            plan={"patch_shape": [40, 56]}, history=HISTORY, provenance={"seed": 17}
        ),
        notes=["One fold of five was run."],
        extra_sections=[Section(title="Extra", table=Table(columns=["a"], rows=[["b"]]))],
    )
    outline = Outline(page)
    assert outline.open == []
    assert page.index("One fold of five was run.") < page.index("Metrics by class")
    order = ["Metrics by class", "Extra", "How honest", "How training went", "The plan"]
    order += ["Cases to look at", "Case by case", "What the words mean", "How this page came about"]
    places = [page.index(f">{words}", page.index("</nav>")) for words in order]
    assert places == sorted(places)
    for words in ("Worst case: ", "Median case: p", "Best case: ", "40 × 56", ">17<"):
        assert words in page
    assert len(page) < 3_000_000


def test_without_probabilities_nothing_is_said_about_them(metrics: Build) -> None:
    page = evaluation_page(metrics(3, has_probability=False), title="t")
    assert "How honest" not in page
    assert "ECE" not in page
    assert "Brier" not in page


def test_of_one_case_no_interval_and_no_distribution_is_shown(metrics: Build) -> None:
    page = evaluation_page(metrics(1), title="t")
    assert "95 % interval of that average" not in page
    assert "one dot a case" not in page


def test_the_bare_summary_is_enough() -> None:
    page = evaluation_page({"summary": {"cell": {"dice": 0.5}, "mean": {"dice": 0.5}}}, title="t")
    assert "0.500" in page
    assert "mean of the classes" not in page


def test_hostile_case_and_class_names_are_shown_and_not_done() -> None:
    scores = {"dice": 0.5, "hd95_mm": None}
    cases = [{"case": f"{HOSTILE}{i}", HOSTILE: scores, "mean": scores} for i in range(3)]
    hostile = {"summary": {HOSTILE: scores, "mean": scores}, "cases": cases}
    outline = Outline(
        evaluation_page(hostile, title=HOSTILE, shown={f"{HOSTILE}0": ShownCase(overlay=b"<svg/>")})
    )
    assert outline.open == []
    assert outline.tags.count("script") == 1
    assert "onerror" not in {name for _, name, _ in outline.attributes}


@pytest.mark.parametrize(
    ("n_cases", "roles"),
    [
        (0, []),
        (1, ["only"]),
        (2, ["worst", "best"]),
        (3, ["worst", "median", "best"]),
        (8, ["worst", "second worst", "third worst", "median", "best"]),
    ],
)
def test_few_cases_are_each_named_once(n_cases: int, roles: list[str]) -> None:
    cases = [{"case": f"p{i}", "mean": {"dice": i / 10}} for i in range(n_cases)]
    cases.append({"case": "undefined", "mean": {"dice": None}})
    examples = example_cases({"cases": cases})
    assert [example.role for example in examples] == roles
    assert len({example.case_id for example in examples}) == len(roles)


def test_a_training_page_tells_how_training_went() -> None:
    run = RunDescription(plan={"batch_size": 2}, history=HISTORY, provenance={"device": "cpu"})
    page = training_page(run, title="Training", class_names=["anterior", "posterior"])
    assert "Best mean Dice 0.800 on the validation cases, at step 60" in page
    assert Outline(page).open == []


def test_a_run_without_validation_or_history_says_so() -> None:
    assert training_headline([{"step": 1200, "elapsed_seconds": 60}]) == (
        "Trained for 1,200 steps in 1 min 0 s; no validation was recorded."
    )
    page = training_page(RunDescription(), title="Training")
    assert "Nothing was recorded while training." in page
