"""The page on a training run: what was planned, how it went."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.report.curves import HistoryRow, training_curves
from sfumato.report.metric_words import counted, metric_number
from sfumato.report.page import Picture, Report, Section, duration, render_page


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """How a model came about.

    Attributes:
        plan: Everything that was decided before training, possibly nested; empty if unknown.
        history: What training noted, one mapping a row; see `training_curves`.
        provenance: Versions, command, seed, device, seconds and the like.
    """

    plan: Mapping[str, object] = field(default_factory=dict)
    history: Sequence[HistoryRow] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)


def training_page(
    run: RunDescription,
    *,
    title: str,
    class_names: Sequence[str] = (),
    notes: Sequence[str] = (),
    extra_sections: Sequence[Section] = (),
) -> str:
    """Return the page on a training run.

    Args:
        run: Plan, history and provenance.
        title: The page's heading.
        class_names: The foreground classes in their order.
        notes: What the reader has to bear in mind, in plain words.
        extra_sections: Shown after curves and plan.

    Returns:
        HTML that needs nothing else.
    """
    report = Report(
        title=title,
        headline=training_headline(run.history),
        notes=notes,
        sections=[*run_sections(run, class_names), *extra_sections],
        provenance=run.provenance,
    )
    return render_page(report)


def training_headline(history: Sequence[HistoryRow]) -> str:
    """Say in a sentence how training went.

    Examples:
        >>> training_headline([{"step": 1, "elapsed_seconds": 75, "mean_dice": 0.5}])
        'Best mean Dice 0.500 on the validation cases, at step 1; trained for 1 step in 1 min 15 s.'
    """
    if not history:
        return "Nothing was recorded while training."
    steps = int(max(row.get("step") or 0 for row in history))
    seconds = max(_number(row, "elapsed_seconds") for row in history)
    took = f" in {duration(seconds)}" if seconds > 0 else ""
    trained = f"rained for {counted(steps, 'step')}{took}"
    validated = [row for row in history if math.isfinite(_number(row, "mean_dice"))]
    if not validated:
        return f"T{trained}; no validation was recorded."
    best = max(validated, key=lambda row: _number(row, "mean_dice"))
    dice = metric_number("dice", _number(best, "mean_dice"))
    return f"Best mean Dice {dice} on the validation cases, at step {best['step']:,}; t{trained}."


def run_sections(run: RunDescription, class_names: Sequence[str], text: str = "") -> list[Section]:
    """Return the sections on a run: its curves, under a text, and its plan, where known."""
    sections = []
    if run.history:
        picture = Picture(
            content=training_curves(run.history, class_names),
            alt=f"Training loss and validation Dice over time. {training_headline(run.history)}",
            caption="Faint: the loss as it was; strong: averaged over a fortieth of the run on both"
            " sides.",
        )
        sections.append(Section(title="How training went", text=text, pictures=[picture]))
    if run.plan:
        sections.append(Section(title="The plan", facts=run.plan))
    return sections


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    return -math.inf if value is None or not math.isfinite(value) else float(value)
