"""The metrics of an evaluation, as a table a person can read."""

import json
import math
from pathlib import Path

from rich.table import Table

from sfumato.cli.console import print_table
from sfumato.report.metric_words import metric_number, metric_words

SHOWN = ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "ece")
"""All others stand in the report."""


def print_metrics(folder: Path) -> None:
    """Print the means that an evaluation wrote to a folder, a row for each class."""
    summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["summary"]
    if len(summary) == 2:  # The mean over one class is that class.
        name, mean = summary
        summary = {name: {**summary[mean], **summary[name]}}
    columns = [key for key in SHOWN if any(row.get(key) is not None for row in summary.values())]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2))
    table.add_column("")
    for key in columns:
        table.add_column(metric_words(key).name, justify="right", vertical="bottom")
    for name, row in summary.items():
        table.add_row(name, *(_text(row, key) for key in columns))
    print_table(table)


def _text(row: dict[str, float | None], key: str) -> str:
    if key not in row:  # Measured for all classes together.
        return ""
    value = row[key]
    return metric_number(key, math.nan if value is None else value)
