import re
import xml.etree.ElementTree as ET

import numpy as np

from sfumato.report.heat_maps import heat_map


def drawn(values: np.ndarray, **more: object) -> str:
    rows = [f"row {i}" for i in range(len(values))]
    columns = [f"column {i}" for i in range(values.shape[1])]
    words = ("rows", "columns")
    return heat_map(values, rows, columns, axes_words=words, **more).decode()  # type: ignore[arg-type]


def n_cells(svg: str) -> int:
    return len(re.findall(r'id="i\d+"', svg))


def test_a_heat_map_is_a_drawing_that_stands_alone() -> None:
    svg = drawn(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), marked=(1, 2))
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "http" not in svg.replace("http://www.w3.org", "")
    assert svg == drawn(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), marked=(1, 2))


def test_undefined_cells_stay_empty() -> None:
    values = np.array([[0.1, 0.2], [0.3, 0.4]])
    whole = drawn(values)
    values[0, 1] = np.nan
    assert n_cells(drawn(values)) < n_cells(whole)
    assert "nan" not in drawn(np.full((2, 2), np.nan))


def test_a_table_of_equal_numbers_can_be_drawn() -> None:
    assert drawn(np.full((1, 1), 0.25))
