"""The page on an experiment: what each kind of soft label changed, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sfumato.evaluation.experiment import ExperimentSummary
from sfumato.evaluation.runs import Condition
from sfumato.evaluation.spoilt import SpoiltSummary
from sfumato.evaluation.summary import MEAN
from sfumato.metrics.calibration import ReliabilityCurve
from sfumato.report.comparison_curves import (
    LearningCurve,
    case_number_curves,
    forest_plot,
    learning_curves,
)
from sfumato.report.comparison_noise import curve_panels, noise_sections
from sfumato.report.comparison_tables import (
    TrainingLength,
    average_sections,
    contrast_section,
    rater_sections,
    temperature_sections,
)
from sfumato.report.comparison_words import (
    condition_words,
    headline,
    noise_words,
    panel_name,
    told_metrics,
    verdict_sentences,
)
from sfumato.report.curves import reliability_diagram
from sfumato.report.metric_words import metric_words
from sfumato.report.page import Picture, Report, Section, render_page
from sfumato.report.viewed_case import viewer_words

INTERVAL_NOTE = (
    "Intervals are over cases and seeds. They do not cover other training cases than those of the"
    " folds, nor other scanners or patients."
)
CHANCE_NOTE = (
    "Of comparisons of a thing with itself, about one in twenty is called better or worse by"
    " chance. The more metrics and kinds of label are compared, the more such verdicts there are;"
    " p-values are corrected for that by Holm."
)
GLOSSARY = {
    "Interval": "95 % interval of the difference, over other cases of the same kind and other"
    " seeds.",
    "Effect size": "Rank-biserial correlation: 1 if every case improved, −1 if none did, 0 if both"
    " weigh the same.",
    "Smallest effect": "The difference that an experiment of this size would find in four of five"
    " attempts. Smaller ones may well exist.",
    "Seed deviation": "Standard deviation over seeds: how far models lie apart that differ in"
    " nothing but their seed.",
}


@dataclass(frozen=True, kw_only=True)
class ExperimentPictures:
    """What is drawn besides the numbers.

    Attributes:
        learning: For each condition, a line of each kind of label.
        reliability: For each kind of label, its pooled curves by region.
        cases: Overlays of cases that gained and lost most, both models of each.
        most_cases: How many cases the fold with most trains on, for "all".
        lengths: For each kind of label and condition, what training took.
        temperatures: For each kind of label and condition, those of its models; empty where
            none was fitted.
        spoilt: For each noise, how far it spoilt training labels.
    """

    learning: Mapping[Condition, Sequence[LearningCurve]]
    reliability: Mapping[str, Mapping[str, ReliabilityCurve]]
    cases: Sequence[Picture]
    most_cases: int
    lengths: Mapping[tuple[str, Condition], TrainingLength] = field(default_factory=dict)
    temperatures: Mapping[tuple[str, Condition], Sequence[float]] = field(default_factory=dict)
    spoilt: Mapping[str, SpoiltSummary] = field(default_factory=dict)


def comparison_page(
    summary: ExperimentSummary,
    pictures: ExperimentPictures,
    *,
    title: str,
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> str:
    """Return the page on an experiment, as HTML that needs nothing else.

    Args:
        summary: What was found.
        pictures: What is drawn besides.
        title: The page's heading.
        notes: What else the reader has to bear in mind.
        provenance: How the page came about.
    """
    sections = [
        *_glance_sections(summary),
        Section(title="What came out", text="\n\n".join(verdict_sentences(summary))),
        *average_sections(summary, pictures.lengths),
        *temperature_sections(summary, pictures.temperatures),
        *rater_sections(summary),
        contrast_section(summary),
        *noise_sections(summary, pictures.spoilt),
        *_case_number_sections(summary, pictures.most_cases),
        *_learning_sections(pictures),
        *_reliability_sections(pictures),
    ]
    if pictures.cases:
        text = "Held-out cases whose mean Dice, averaged over seeds, changed most."
        text += "\n\n" + viewer_words([one.viewed for one in pictures.cases if one.viewed])
        sections.append(Section(title="Cases to look at", text=text, pictures=pictures.cases))
    report = Report(
        title=title,
        headline=headline(summary),
        notes=[INTERVAL_NOTE, CHANCE_NOTE, *notes],
        sections=sections,
        provenance=provenance,
        glossary=_glossary(summary),
    )
    return render_page(report)


def _glossary(summary: ExperimentSummary) -> dict[str, str]:
    told = told_metrics(summary)
    words = [metric_words(metric) for metric in told if not metric.endswith("_boundary")]
    return {word.name: word.meaning for word in words} | GLOSSARY


def _glance_sections(summary: ExperimentSummary) -> list[Section]:
    """All differences in one picture."""
    rows = [(s, c) for c in summary.conditions for s in summary.softeners[1:]]
    panels = {}
    for metric in told_metrics(summary):
        contrasts = [summary.contrast(s, c, MEAN, metric) for s, c in rows]
        if any(contrasts):
            unit = " (mm)" if metric.endswith("_mm") else ""
            panels[panel_name(metric) + unit] = [c.found if c else None for c in contrasts]
    if not panels:
        return []
    groups = {condition_words(c): summary.softeners[1:] for c in summary.conditions}
    picture = Picture(
        content=forest_plot(groups, panels),
        alt=" ".join(verdict_sentences(summary)),
        caption=f"Each kind of label less {summary.baseline}, with 95 % intervals. Right is better;"
        " green is better, red is worse, and grey cannot be told from no difference.",
    )
    return [Section(title="What soft labels buy, and what they cost", pictures=[picture])]


def _case_number_sections(summary: ExperimentSummary, most_cases: int) -> list[Section]:
    numbers = sorted(summary.train_cases, key=lambda n: most_cases if n is None else n)
    if len(numbers) < 2:
        return []
    drawn = []
    for noise in summary.noises:
        conditions = [Condition(train_cases=n, noise=noise) for n in numbers]
        content = case_number_curves(
            [most_cases if n is None else n for n in numbers], curve_panels(summary, conditions)
        )
        alt = "Metrics against the number of training cases, a line for each kind of label."
        title = "" if len(summary.noises) == 1 else noise_words(noise)
        drawn.append(Picture(title=title, content=content, alt=alt))
    return [Section(title="With more training cases", pictures=drawn)]


def _learning_sections(pictures: ExperimentPictures) -> list[Section]:
    drawn = [
        Picture(
            title=f"Trained on {condition_words(condition)}",
            content=learning_curves(curves),
            alt="Validation Dice in the course of training, a line for each kind of label.",
        )
        for condition, curves in pictures.learning.items()
        if curves
    ]
    text = "Averages over folds and seeds of the Dice on the cases looked at along the way."
    return [Section(title="In the course of training", text=text, pictures=drawn)] if drawn else []


def _reliability_sections(pictures: ExperimentPictures) -> list[Section]:
    drawn = [
        Picture(
            title=softener,
            content=reliability_diagram(curves),
            alt=f"How often models trained on {softener} labels are right against how sure they"
            " are.",
            width="half",
        )
        for softener, curves in pictures.reliability.items()
        if curves
    ]
    text = "An honest model that states 0.7 is right seven times in ten: its line is the diagonal."
    title = "How honest the probabilities are"
    return [Section(title=title, text=text, pictures=drawn)] if drawn else []
