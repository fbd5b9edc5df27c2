"""The table of volumes that `segment --uncertainty` writes."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.evaluation.summary import nan_to_null
from sfumato.inference.ensemble import Ensemble
from sfumato.inference.uncertainty import VolumeEstimate
from sfumato.storage import write_text
from sfumato.workflow.describing import SPACING_NOTE

VOLUMES = "volumes"
MM3_PER_ML = 1000.0


@dataclass(frozen=True, kw_only=True)
class CaseVolumes:
    """What is known of the volumes in a case.

    Attributes:
        case_id: Name of the case.
        estimates: One for each structure, in the order of the classes.
        is_placed: Whether its file says how large elements are.
    """

    case_id: str
    estimates: Sequence[VolumeEstimate]
    is_placed: bool


def write_volumes(
    cases: Sequence[CaseVolumes], ensemble: Ensemble, level: float, out: Path
) -> None:
    """Write `volumes.csv` and `volumes.json`: a row for each case and structure.

    An interval that is not known is empty in the CSV and null in JSON, which also has the reason.

    Args:
        cases: What was found.
        ensemble: What found it, and knows how wrong it is.
        level: How often an interval shall hold the true volume.
        out: The folder.
    """
    rows = [row for case in cases for row in _rows(case, ensemble, level)]
    notes = [f"There is no interval: {reason}." for reason in [ensemble.missing_interval(level)]
             if reason]  # fmt: skip
    if not all(case.is_placed for case in cases):
        notes.append(SPACING_NOTE)
    document = {
        "level": level,
        "calibration_cases": min(map(len, ensemble.model.volume_errors.values()), default=0),
        "notes": notes,
        "volumes": nan_to_null(rows),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / f"{VOLUMES}.json", text + "\n")
    table = io.StringIO()
    writer = csv.DictWriter(table, _columns(len(ensemble.model.window)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    write_text(out / f"{VOLUMES}.csv", table.getvalue())


def reported_volumes(
    names: Sequence[str], cases: Mapping[str, Sequence[VolumeEstimate]], n_axes: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the volume, or in flat images the area, of each structure of each case.

    Returns:
        All under one name that says the unit: `volumes_ml` or `areas_mm2`.
    """
    unit, per_unit = ("areas_mm2", 1.0) if n_axes == 2 else ("volumes_ml", MM3_PER_ML)
    return {
        unit: {
            case_id: {
                name: round(estimate.volume / per_unit, 6)
                for name, estimate in zip(names, estimates, strict=True)
            }
            for case_id, estimates in cases.items()
        }
    }


def _columns(n_axes: int) -> list[str]:
    numbers = (
        ["area_mm2", "expected_mm2", "low_mm2", "high_mm2"]
        if n_axes == 2
        else ["volume_mm3", "volume_ml", "expected_mm3", "low_mm3", "high_mm3"]
    )
    return ["case", "structure", *numbers, "level"]


def _rows(case: CaseVolumes, ensemble: Ensemble, level: float) -> list[dict[str, Any]]:
    model = ensemble.model
    columns = _columns(len(model.window))
    has_interval = ensemble.missing_interval(level) is None
    rows = []
    for name, estimate in zip(model.classes.foreground, case.estimates, strict=True):
        errors = model.volume_errors[name] if has_interval else ()
        in_ml = [] if len(model.window) == 2 else [estimate.volume / MM3_PER_ML]
        numbers = [estimate.volume, *in_ml, estimate.expected, *estimate.interval(errors, level)]
        values = [case.case_id, name, *numbers, level]
        rows.append(dict(zip(columns, values, strict=True)))
    return rows


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
