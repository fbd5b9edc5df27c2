"""What a sweep found, in words."""

import math
from dataclasses import dataclass

from sfumato.evaluation.recommendation import (
    LARGEST_SHIFT,
    Difference,
    Estimate,
    Recommendation,
    edges,
)
from sfumato.evaluation.sweep import TRUTH_FIGURES, Sweep
from sfumato.report.metric_words import UNDEFINED, counted


@dataclass(frozen=True, kw_only=True)
class FigureWords:
    """How one figure is shown to people.

    Attributes:
        name: What it is called.
        meaning: One line.
        decimals: How many are written.
        is_percent: Whether it is written in per cent, with its sign.
    """

    name: str
    meaning: str
    decimals: int = 4
    is_percent: bool = False


FIGURE_WORDS = {
    "brier": FigureWords(
        name="Brier score",
        meaning="Mean squared distance between the soft label made from the first rater's drawing"
        " and the mean of all raters; 0 is equal, 2 is sure and wrong throughout.",
    ),
    "cross_entropy": FigureWords(
        name="Cross-entropy",
        meaning="How surprising the raters are to who expects the soft label, in nats an element;"
        " smaller is better. No class is expected with less than 1/255: without such a limit a hard"
        " label, which expects no contradiction, would score infinity.",
    ),
    "accuracy_gain": FigureWords(
        name="Gain over a grid",
        decimals=2,
        is_percent=True,
        meaning="Achievable accuracy less that of a plain grid's cells of the same size: how much"
        " the image told the superpixels about the annotated boundaries.",
    ),
    "achievable_accuracy": FigureWords(
        name="Achievable accuracy",
        decimals=2,
        is_percent=True,
        meaning="Share of the elements that keep their class if every superpixel gets its"
        " commonest one.",
    ),
    "boundary_recall": FigureWords(
        name="Boundary recall",
        decimals=1,
        is_percent=True,
        meaning="Share of the annotated boundary with a superpixel's border no further than one"
        " element away.",
    ),
    "softened_share": FigureWords(
        name="Softened",
        decimals=2,
        is_percent=True,
        meaning="Share of the elements that are not sure of their class.",
    ),
    "volume_shift": FigureWords(
        name="Volume shift",
        decimals=2,
        is_percent=True,
        meaning="How far the expected volume of a class (the sum of its probabilities) lies from"
        " the volume that was drawn, over the latter.",
    ),
    "n_superpixels": FigureWords(
        name="Superpixels", decimals=0, meaning="Number of superpixels of a whole image."
    ),
}

METHOD_WORDS = {
    "superpixel": "superpixel",
    "none": "the hard label",
    "gaussian": "the best Gaussian",
    "distance": "the best distance label",
    "grid": "the best plain grid",
}


def figure_number(figure: str, value: float, *, is_signed: bool = False) -> str:
    """Write a figure's value; a dash if it is undefined.

    Examples:
        >>> figure_number("brier", 0.01574), figure_number("softened_share", 0.2234)
        ('0.0157', '22.34 %')
        >>> figure_number("brier", -0.0031, is_signed=True), figure_number("brier", float("nan"))
        ('−0.0031', '–')
    """
    if not math.isfinite(value):
        return UNDEFINED
    words = FIGURE_WORDS[figure]
    number = 100 * value if words.is_percent else value
    text = f"{number:{'+' if is_signed else ''},.{words.decimals}f}".replace("-", "−")
    return f"{text} %" if words.is_percent else text


def interval_text(figure: str, estimate: Estimate, *, is_signed: bool = False) -> str:
    """Write an estimate's interval without its unit; nothing where there is none."""
    if not math.isfinite(estimate.low):
        return ""
    ends = (
        figure_number(figure, end, is_signed=is_signed) for end in (estimate.low, estimate.high)
    )
    return " to ".join(end.removesuffix(" %") for end in ends)


def reason(sweep: Sweep, found: Recommendation) -> str:
    """Say why the chosen setting was chosen."""
    ours = [c for c in sweep.candidates if c.method == "superpixel"]
    n_choosing = int((~sweep.is_held_out).sum())
    value = figure_number(found.criterion, float(sweep.chosen_by(found.criterion)[found.chosen]))
    on = f"of {counted(len(ours), 'setting')} on the {counted(n_choosing, 'case')} that chose"
    if found.criterion == "brier":
        return f"It has the smallest Brier score to the raters' mean ({value}) {on}."
    return (
        f"Its superpixels follow the annotated boundaries best beyond chance {on}, as far as"
        f" expected volumes shift by {100 * LARGEST_SHIFT:g} % at most: {value} more of the"
        " elements keep their class than with a plain grid's cells of the same size. This is no"
        " proof that its soft labels are right: nobody drew twice, so nothing here tells right from"
        " wrong."
    )


def verdict(found: Recommendation) -> str:
    """Say in a sentence or two how the chosen setting does on the held-out cases."""
    if not found.differences:
        return ""
    n_cases = next(iter(found.differences.values()))["brier"].estimate.n_cases
    if n_cases == 0:
        return "No held-out case was drawn by several people, so nothing confirms the choice."
    sentences = []
    for figure in TRUTH_FIGURES:
        parts = [
            f"{METHOD_WORDS[method]}: {_difference_words(figure, by_figure[figure])}"
            for method, by_figure in found.differences.items()
        ]
        sentences.append(f"{FIGURE_WORDS[figure].name}, against {'; '.join(parts)}.")
    return f"On {counted(n_cases, 'held-out case')}: {' '.join(sentences)}"


def edge_words(sweep: Sweep, found: Recommendation) -> str:
    """Say which recommended values have nothing tried beyond them; empty if none."""
    names = [f"{name.removesuffix('_mm')}" for name in edges(sweep, found)]
    if not names:
        return ""
    verb = "is" if len(names) == 1 else "are"
    return (
        f"The recommended {_listed(names)} {verb} at the edge of what was tried; a value beyond may"
        " do better."
    )


def headline(sweep: Sweep, found: Recommendation) -> str:
    """Name the recommendation, and say whether it is better than what it has to beat."""
    words = sweep.candidates[found.chosen].words
    if not found.differences:
        return (
            f"Recommended: {words}. It follows the annotated boundaries best beyond chance, which"
            " is no proof."
        )
    by_verdict: dict[str, list[str]] = {}
    for method, by_figure in found.differences.items():
        by_verdict.setdefault(by_figure["brier"].verdict, []).append(METHOD_WORDS[method])
    if list(by_verdict) == ["unknown"]:
        return f"Recommended: {words}. No held-out case confirms it."
    sentences = {
        "better": "better than {}",
        "no clear difference": "not clearly different from {}",
        "worse": "worse than {}",
        "unknown": "not compared with {}, for lack of held-out cases",
    }
    told = [
        sentence.format(_listed(by_verdict[name]))
        for name, sentence in sentences.items()
        if name in by_verdict
    ]
    return (
        f"Recommended: {words}. By the Brier score on held-out cases it predicts the raters"
        f" {'; '.join(told)}."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _difference_words(figure: str, difference: Difference) -> str:
    number = figure_number(figure, difference.estimate.mean, is_signed=True)
    interval = interval_text(figure, difference.estimate, is_signed=True)
    return f"{number} ({interval}), {difference.verdict}" if interval else number
