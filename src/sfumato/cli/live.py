"""The live line of a running training."""

import math
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from sfumato.cli.console import console
from sfumato.training.loop import Progress as Step

SMOOTHING = 0.95
"""How much of the shown losses stays from one step to the next."""
CLASSES_SHOWN = 4
"""With more classes than these, a line names the worst one only."""


class TrainingView:
    """Shows steps as a line that changes, and validations as lines that stay.

    Without a terminal (a log file, say) only the lines that stay are printed.
    """

    def __init__(self) -> None:
        self._losses: tuple[float, float, float] | None = None
        self._dice = math.nan
        # What matters most stands first: a narrow terminal cuts the end of the line.
        self._bar = Progress(
            TextColumn("{task.percentage:3.0f} %"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[line]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("Training", total=1.0, line="")

    def __enter__(self) -> "TrainingView":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, step: Step) -> None:
        """Show a step."""
        self._smooth(step)
        if step.dice is not None:
            self._dice = step.mean_dice
            line = self._validation_line(step, step.dice)
            console.print(line, soft_wrap=not console.is_terminal)
        self._bar.update(self._task, completed=step.fraction, line=self._line(step))

    def _smooth(self, step: Step) -> None:
        now = (step.loss_hard, step.loss_soft, step.loss_total)
        if self._losses is None:
            self._losses = now
        hard, soft, total = (
            SMOOTHING * old + (1 - SMOOTHING) * new
            for old, new in zip(self._losses, now, strict=True)
        )
        self._losses = (hard, soft, total)

    def _line(self, step: Step) -> str:
        left = step.elapsed_seconds * (1 / step.fraction - 1) if step.fraction else math.nan
        dice = "" if math.isnan(self._dice) else f"  Dice {self._dice:.3f}"
        hard, soft, total = self._losses or (math.nan,) * 3
        losses = f"loss {total:.3f} (hard {hard:.3f}, soft {soft:.3f})"
        return f"{clock(left)} left  step {step.step}  {losses}{dice}"

    def _validation_line(self, step: Step, dice: dict[str, float]) -> Text:
        total = self._losses[-1] if self._losses else math.nan
        line = Text(
            f"{clock(step.elapsed_seconds):>8}  step {step.step:<6} loss {total:.3f}"
            f"  Dice {step.mean_dice:.3f} "
        )
        line.append("best" if step.is_best else "    ", style="green")
        return line.append(f"  {_class_text(dice)}" if len(dice) > 1 else "")


def _class_text(dice: dict[str, float]) -> str:
    if len(dice) <= CLASSES_SHOWN:
        return ", ".join(f"{name} {value:.3f}" for name, value in dice.items())
    defined = {name: value for name, value in dice.items() if not math.isnan(value)}
    if not defined:
        return ""
    worst = min(defined, key=lambda name: defined[name])
    return f"lowest: {worst} {defined[worst]:.3f}"


def clock(seconds: float) -> str:
    """Write a length of time as minutes and seconds, or hours and minutes.

    Examples:
        >>> clock(75), clock(3700)
        ('1:15', '1:01:40')
    """
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
