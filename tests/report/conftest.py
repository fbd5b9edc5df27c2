import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sfumato.arrays import Label, Probability
from sfumato.cases.case import Case
from sfumato.evaluation.scores import score_case
from sfumato.evaluation.summary import summarise, write_metrics
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList

CLASSES = ClassList(names=("background", "anterior", "posterior"), values=(0, 1, 2))

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7 * 7 }}"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Outline(HTMLParser):
    """Notes what a page is made of, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, wanted: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == wanted]


def soft(label: Label, n_classes: int) -> Probability:
    parts = [gaussian_filter((label == k).astype(np.float32), 1) for k in range(n_classes)]
    stacked = np.stack(parts) + np.float32(1e-6)
    return (stacked / stacked.sum(axis=0)).astype(np.float32)


def block_case(geometry: Geometry, n_channels: int = 1, seed: int = 0) -> Case:
    """A noisy image with two blocks side by side, one for each class."""
    label = np.zeros(geometry.shape, np.uint8)
    middle = tuple(slice(n // 4, n // 2) for n in geometry.shape)
    label[middle] = 1
    label[(*middle[:-1], slice(geometry.shape[-1] // 2, 3 * geometry.shape[-1] // 4))] = 2
    noise = np.random.default_rng(seed).normal(size=(n_channels, *geometry.shape))
    return Case(id="p01", image=(noise + label).astype(np.float32), geometry=geometry, label=label)


@pytest.fixture
def metrics(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Score a few made-up cases for real, and read what was written."""

    def build(n_cases: int = 4, *, has_probability: bool = True) -> dict[str, Any]:
        scores = []
        for i in range(n_cases):
            case = block_case(Geometry.from_spacing((16, 24), (1.0, 1.0)), seed=i)
            assert case.label is not None
            # The posterior block is missing in the last case: its numbers are undefined.
            reference = np.where(case.label == 2, 0, case.label) if i == 3 else case.label
            reference = reference.astype(np.uint8)
            probability = soft(np.roll(reference, i, axis=1), 3)
            scores.append(
                score_case(
                    reference,
                    probability.argmax(axis=0).astype(np.uint8),
                    (1.0, 1.0),
                    CLASSES,
                    probability if has_probability else None,
                    case_id=f"p{i:02}",
                )
            )
        write_metrics(summarise(scores, CLASSES), tmp_path)
        return json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))

    return build


HISTORY = [
    {
        "step": step,
        "elapsed_seconds": 0.5 * step,
        "loss_hard": 1 / step,
        "loss_soft": 0.5 / step,
        "loss_total": 1.5 / step,
        **({"dice": {"anterior": 0.8, "posterior": None}, "mean_dice": 0.8} if step == 60 else {}),
    }
    for step in range(10, 130, 10)
]
