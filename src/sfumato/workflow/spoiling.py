"""Training labels spoilt on purpose, kept as files that one can look at."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError
from sfumato.evaluation.spoilt import SpoiltSummary, lost_classes, spoilt_dice, summarise_spoilt
from sfumato.evaluation.summary import nan_to_null
from sfumato.image.files import label_suffix, write_label
from sfumato.labels.noise import LabelNoise, noise_rng, spoil_label
from sfumato.storage import write_text


def spoil_labels(
    dataset: Dataset, case_ids: Sequence[str], noise: LabelNoise, seed: int, folder: Path
) -> Dataset:
    """Write spoilt labels of some cases, and return the data set with them in their place.

    What is there already is kept. A file `case.json` tells how far a case's labels were spoilt.

    Args:
        dataset: Cases with labels.
        case_ids: Whose labels are spoilt.
        noise: How they are spoilt.
        seed: Together with a case's name, decides what is random about it.
        folder: Where spoilt labels are kept.

    Raises:
        CaseError: If a case cannot be read.
        FileError: If a file cannot be written.
    """
    paths = {}
    for record in dataset.select(case_ids).records:
        suffix = label_suffix(record.image_paths[0])
        paths[record.id] = tuple(
            folder / f"rater_{i}" / f"{record.id}{suffix}"
            for i in range(1, len(record.label_paths) + 1)
        )
        # Written last, so it says that the labels are there.
        facts = folder / f"{record.id}.json"
        if not facts.is_file():
            rows = _spoil_case(dataset, record.id, noise, seed, paths[record.id])
            content = nan_to_null({"noise": str(noise), "seed": seed, "labels": rows})
            write_text(facts, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return dataset.with_labels(paths)


def read_spoilt(folders: Iterable[Path]) -> SpoiltSummary | None:
    """Read how far the labels in some folders were spoilt; None if there are none."""
    texts = [path.read_text("utf-8") for f in folders for path in sorted(f.glob("*.json"))]
    rows = [row for text in texts for row in json.loads(text)["labels"]]
    if not rows:
        return None
    found = [{k: math.nan if v is None else v for k, v in row["dice"].items()} for row in rows]
    return summarise_spoilt(found, [row["vanished"] for row in rows])


def _spoil_case(
    dataset: Dataset, case_id: str, noise: LabelNoise, seed: int, paths: Sequence[Path]
) -> list[dict[str, object]]:
    case, classes = dataset.load(case_id), dataset.classes
    if not case.rater_labels:
        raise CaseError(case_id, "it has no label; add the label, or take the case out")
    rows: list[dict[str, object]] = []
    for rater, (path, label) in enumerate(zip(paths, case.rater_labels, strict=True)):
        rng = noise_rng(case_id, seed, rater)
        spoilt = spoil_label(label, case.geometry.spacing, noise, rng)
        write_label(path, classes.to_values(spoilt), case.geometry)
        rows.append(
            {
                "dice": spoilt_dice(label, spoilt, classes),
                "vanished": lost_classes(label, spoilt, classes),
            }
        )
    return rows
