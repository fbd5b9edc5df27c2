import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.report.conftest import HISTORY

from sfumato.metrics.calibration import ReliabilityCurve
from sfumato.report.curves import distribution_plot, reliability_diagram, training_curves

CURVE = ReliabilityCurve(
    confidence=np.array([np.nan, 0.6, 0.9]),
    accuracy=np.array([np.nan, 0.5, 0.95]),
    count=np.array([0, 10, 1000]),
)
EMPTY = ReliabilityCurve(
    confidence=np.array([np.nan]), accuracy=np.array([np.nan]), count=np.array([0])
)

HISTORIES = {
    "full": HISTORY,
    "one row": HISTORY[:1],
    "no losses": [{"step": 1, "mean_dice": 0.5}, {"step": 2, "mean_dice": 0.6}],
    "no validation": [{"step": 1, "loss_total": 1.0}, {"step": 2, "loss_total": float("nan")}],
    "clock set back by a resumed run": [
        {"step": 1, "elapsed_seconds": 90, "loss_total": 2.0},
        {"step": 2, "elapsed_seconds": 10, "loss_total": 1.0},
        {"step": 3, "elapsed_seconds": 100, "loss_total": 1.0},
    ],
    "nothing": [],
    "rows without steps": [{"loss_total": 1.0}],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_whatever_a_history_holds_can_be_drawn(history: list[dict[str, object]]) -> None:
    assert ET.fromstring(training_curves(history, ["anterior", "posterior"])).tag.endswith("svg")


def test_drawings_point_nowhere_and_follow_light_and_dark() -> None:
    drawing = training_curves(HISTORY).decode()
    assert "prefers-color-scheme:dark" in drawing
    for namespace in (
        'xmlns="http://www.w3.org/2000/svg"',
        'xmlns:xlink="http://www.w3.org/1999/xlink"',
    ):
        drawing = drawing.replace(namespace, "")
    assert "http" not in drawing
    assert "<!DOCTYPE" not in drawing


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert training_curves(HISTORY) == training_curves(HISTORY)
    assert reliability_diagram({"image": CURVE}) == reliability_diagram({"image": CURVE})


def test_links_inside_a_drawing_lead_to_something() -> None:
    root = ET.fromstring(reliability_diagram({"image": CURVE}))
    known = {f"#{element.get('id')}" for element in root.iter() if element.get("id")}
    links = {
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name.endswith("href")
    }
    assert links
    assert links <= known


def test_reliability_of_nothing_can_be_drawn() -> None:
    assert reliability_diagram({"whole image": CURVE, "boundary band": EMPTY})
    assert reliability_diagram({})


def test_undefined_values_are_left_out_of_a_distribution() -> None:
    drawing = distribution_plot({"$a_1$": [0.5, 0.9, float("nan")], "_b": [float("nan")] * 3})
    assert ET.fromstring(drawing).tag.endswith("svg")
    assert distribution_plot({})
