"""Finding the annotations that their images support least: a work list for annotators."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cases.dataset import Dataset
from sfumato.config import save_config
from sfumato.errors import CaseError, DatasetError, SfumatoError
from sfumato.evaluation.audit import CaseAudit, Place, audit_case, stand_out, superpixels_near
from sfumato.evaluation.summary import nan_to_null
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.report.audit_figure import audit_figure
from sfumato.report.audit_page import audit_page
from sfumato.report.audit_words import move_words
from sfumato.settings import Settings
from sfumato.storage import write_text
from sfumato.workflow.describing import SPACING_NOTE
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.softening import SofteningConfig, plan_softening
from sfumato.workflow.tracking import Track, silently

COLUMNS = (
    "rank", "case", "class", "score", "stands_out", "unsupported_share", "gain", "better_supported",
    "area_mm", "place_class", "other_class", "i", "j", "k", "x_mm", "y_mm", "z_mm", "volume_mm",
    "depth_mm", "explained_share",
)  # fmt: skip


class AuditConfig(Settings):
    """All settings of `sfumato audit`."""

    superpixels: SuperpixelSettings = SuperpixelSettings()


def plan_audit(dataset: Dataset, wishes: AuditConfig, track: Track = silently) -> AuditConfig:
    """Choose the superpixels' size from the data as for softening, unless it is set.

    Raises:
        DatasetError: If there are no labels at all.
    """
    if not any(record.label_paths for record in dataset.records):
        raise DatasetError(
            f"{dataset.name}: has no labels, so there is nothing to audit; put labels of the same"
            " names into labels/ beside images/"
        )
    plan = plan_softening(dataset, SofteningConfig(superpixels=wishes.superpixels), track)
    return AuditConfig(superpixels=plan.superpixels)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What became of every case.

    Attributes:
        audits: The cases, worst first, those without a boundary last.
        failures: The cases that could not be audited.
    """

    audits: Sequence[CaseAudit]
    failures: Sequence[Failure]


def audit_cases(dataset: Dataset, config: AuditConfig, track: Track = silently) -> Audited:
    """Audit every case; a bad case does not stop the others."""
    audits, failures = [], []
    for case_id in track(dataset.case_ids, "Auditing labels", len(dataset)):
        try:
            case = dataset.load(case_id)
            audits.append(audit_case(case, dataset.classes, config.superpixels))
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(case_id, error))
    audits.sort(key=lambda audit: math.inf if math.isnan(audit.score) else -audit.score)
    return Audited(audits=audits, failures=failures)


def write_audit(
    dataset: Dataset,
    audited: Audited,
    config: AuditConfig,
    out: Path,
    *,
    n_pictures: int,
    track: Track = silently,
) -> Path:
    """Write `audit.csv`, `audit.json`, `config.toml` and `report.html` into a folder.

    Args:
        dataset: Images and labels.
        audited: What `audit_cases` found.
        config: How it was done.
        out: The folder.
        n_pictures: How many cases are shown, the worst first.
        track: Told how far the job is.

    Returns:
        The page.
    """
    audits = audited.audits
    save_config(config, out / "config.toml")
    write_text(out / "audit.csv", _table(audits))
    document = _document(dataset, audited, config)
    text = json.dumps(nan_to_null(document), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "audit.json", text + "\n")
    shown = [audit for audit in audits if audit.classes][:n_pictures]
    pictures = {
        audit.id: _draw(dataset, audit, config) for audit in track(shown, "Drawing", len(shown))
    }
    is_placed = all(audit.geometry.is_placed for audit in audits)
    page = audit_page(
        audits,
        title=f"Audit of {dataset.name}",
        pictures=pictures,
        notes=[
            *(f"Case {f.case_id} could not be audited: {f.reason}" for f in audited.failures),
            *([] if is_placed else [SPACING_NOTE]),
        ],
        provenance={**provenance(), "superpixels": config.superpixels.model_dump()},
    )
    write_text(out / "report.html", page)
    return out / "report.html"


def _draw(dataset: Dataset, audit: CaseAudit, config: AuditConfig) -> bytes:
    case = dataset.load(audit.id)
    if case.label is None:
        raise CaseError(audit.id, "its label was removed while it was being audited")
    superpixels = superpixels_near(
        case.label, case.image, case.geometry.spacing, config.superpixels
    )
    return audit_figure(case, audit, dataset.classes, superpixels)


def _table(audits: Sequence[CaseAudit]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    is_outlier = stand_out([audit.score for audit in audits])
    for rank, (audit, is_out) in enumerate(zip(audits, is_outlier, strict=True), start=1):
        for row in _rows(audit):
            writer.writerow({"rank": rank, "case": audit.id, "stands_out": int(is_out), **row})
    return table.getvalue()


def _rows(audit: CaseAudit) -> Iterator[dict[str, Any]]:
    """One row for each class, the worst first; an empty one without any boundary."""
    if not audit.classes:
        yield {}
    for name, found in sorted(audit.classes.items(), key=lambda item: -item[1].score):
        row = {
            "class": name,
            "score": f"{found.score:.4f}",
            "unsupported_share": f"{found.support.unsupported_share:.4f}",
            "gain": f"{found.gain:.4f}",
            "better_supported": move_words(found.move, audit.geometry) if found.move else "",
            "area_mm": f"{found.support.area_mm:.6g}",
        }
        yield {**row, **(_place_cells(found.places[0]) if found.places else {})}


def _place_cells(place: Place) -> dict[str, Any]:
    crossing = place.crossing
    return {
        "place_class": place.class_name,
        "other_class": place.other_class,
        **dict(zip("ijk", crossing.element, strict=False)),
        **{f"{a}_mm": f"{mm:.2f}" for a, mm in zip("xyz", place.position_mm, strict=False)},
        "volume_mm": f"{crossing.volume_mm:.6g}",
        "depth_mm": f"{crossing.depth_mm:.3f}",
        "explained_share": f"{crossing.explained_share:.4f}",
    }


def _document(dataset: Dataset, audited: Audited, config: AuditConfig) -> dict[str, Any]:
    is_outlier = stand_out([audit.score for audit in audited.audits])
    return {
        **provenance(),
        "dataset": dataset.name,
        "classes": dataset.classes.names,
        "superpixels": config.superpixels.model_dump(),
        "cases": [
            {**_case_document(audit), "stands_out": is_out}
            for audit, is_out in zip(audited.audits, is_outlier, strict=True)
        ],
        "failures": {failure.case_id: failure.reason for failure in audited.failures},
    }


def _case_document(audit: CaseAudit) -> dict[str, Any]:
    return {
        "case": audit.id,
        "score": audit.score,
        "worst_class": audit.worst_class,
        "classes": {
            name: {
                "score": found.score,
                "unsupported_share": found.support.unsupported_share,
                "area_mm": found.support.area_mm,
                "gain": found.gain,
                "move": None
                if found.move is None
                else {"shift": found.move.shift, "growth_mm": found.move.growth_mm},
                "places": [_place_document(place) for place in found.places],
            }
            for name, found in audit.classes.items()
        },
    }


def _place_document(place: Place) -> dict[str, Any]:
    return {
        "class": place.class_name,
        "other_class": place.other_class,
        "element": place.crossing.element,
        "position_mm": place.position_mm,
        "volume_mm": place.crossing.volume_mm,
        "depth_mm": place.crossing.depth_mm,
        "explained_share": place.crossing.explained_share,
    }
