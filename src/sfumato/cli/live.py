"""The live line of a running training."""

import math
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn

from sfumato.cli.console import console
from sfumato.training.loop import Progress as Step
from sfumato.training.loop import TrainingSettings

SMOOTHING = 0.95
"""How much of the shown losses stays from one step to the next."""


class TrainingView:
    """Shows steps as a line that changes, and validations as lines that stay.

    Without a terminal (a log file, say) only the lines that stay are printed.

    Args:
        settings: How long the training is to be.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        self._losses: tuple[float, float, float] | None = None
        self._dice = math.nan
        self._bar = Progress(
            TextColumn("Training"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[line]}"),
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
            self._bar.console.print(self._validation_line(step))
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
        hard, soft, total = self._losses or (math.nan,) * 3
        dice = "" if math.isnan(self._dice) else f"  Dice {self._dice:.3f}"
        left = step.elapsed_seconds * (1 / step.fraction - 1) if step.fraction else math.nan
        return (
            f"step {step.step}  loss {total:.3f} = hard {hard:.3f} + soft {soft:.3f}{dice}"
            f"  {clock(step.elapsed_seconds)} spent, {clock(left)} left"
        )

    def _validation_line(self, step: Step) -> str:
        dice = step.dice or {}
        classes = "  ".join(f"{name} {value:.3f}" for name, value in dice.items())
        mean = f"  mean {step.mean_dice:.3f}" if len(dice) > 1 else ""
        best = "  [green]best so far[/]" if step.is_best else ""
        _, soft, total = self._losses or (math.nan,) * 3
        return (
            f"{clock(step.elapsed_seconds):>8}  step {step.step:<6} loss {total:.3f} (soft"
            f" {soft:.3f})  Dice: {classes}{mean}{best}"
        )


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
