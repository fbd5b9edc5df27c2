"""A preview of a segmented case: a picture, or a page with it."""

from pathlib import Path

import numpy as np

from sfumato.arrays import Label
from sfumato.cases.case import Case
from sfumato.labels.classes import ClassList
from sfumato.report.figures import overlay_figure
from sfumato.report.page import Cell, Picture, Report, Row, Section, Table, render_page
from sfumato.storage import atomic_path, write_text
from sfumato.workflow.describing import SPACING_NOTE


def write_preview(path: Path, case: Case, segmentation: Label, classes: ClassList) -> None:
    """Draw a segmentation over its image, where most of it is seen.

    Args:
        path: Where to; .png for a picture, .html for a page with picture and volumes.
        case: The image.
        segmentation: What was found in it, as class indices.
        classes: Names of the structures.

    Raises:
        FileError: If the disk is full.
    """
    picture = overlay_figure(case, segmentation, classes, title=case.id)
    if path.suffix == ".png":
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture)
        return
    shown = Picture(content=picture, alt=f"Case {case.id}: the image, and the segmentation on it.")
    report = Report(
        title=case.id,
        headline="What a model found, made to be looked at by somebody who knows.",
        notes=[] if case.geometry.is_placed else [SPACING_NOTE],
        sections=[
            Section(title="Segmentation", pictures=[shown]),
            Section(title="Sizes", table=_sizes(case, segmentation, classes)),
        ],
    )
    write_text(path, render_page(report))


def _sizes(case: Case, segmentation: Label, classes: ClassList) -> Table:
    is_flat = len(case.geometry.shape) == 2
    per_unit, unit = (1, "area, mm²") if is_flat else (1000, "volume, ml")
    counts = np.bincount(segmentation.ravel(), minlength=len(classes))[1:]
    sizes = counts * case.geometry.element_volume_mm3 / per_unit
    rows: list[Row] = [
        [name, Cell(text=f"{size:,.2f}", is_number=True)]
        for name, size in zip(classes.foreground, sizes, strict=True)
    ]
    return Table(columns=["structure", unit], rows=rows)
