"""`sfumato train`."""

import signal
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import options
from sfumato.cli.exit_codes import INTERRUPTED, USERS_ERROR
from sfumato.errors import ConfigError
from sfumato.storage import hold_folder

if TYPE_CHECKING:
    from sfumato.cases.dataset import Dataset
    from sfumato.training.distributed import World
    from sfumato.training.loop import Progress
    from sfumato.workflow.run import Run, RunRequest
    from sfumato.workflow.run_config import RunConfig


def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="A folder with images/ and labels/, one with dataset.json (MSD, nnU-Net), or a"
            " cases.csv."
        ),
    ],
    out: options.Out,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            help="Train for a wall-clock time: 20min, 90s, 2h.",
            show_default="30min",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help="Train for exactly so many steps: on a CPU, same seed, same weights.",
        ),
    ] = None,
    fold: Annotated[
        str, typer.Option("--fold", help="Hold out fold K of N (K/N) to test on, or none.")
    ] = "0/5",
    config: options.Config = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    from_model: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from a trained model of the same classes and channels, with its plan.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the output folder.")
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Train a model on images and the labels people drew.

    Everything the model needs is chosen from the data, and the plan is printed. Ctrl-C stops
    after the current step and saves; the same command with --resume goes on. In the end
    RUN/model is the trained model and RUN/evaluation/report.html shows how it does on the
    held-out cases.

    [dim]sfumato train my_data --out run --time 20min[/]
    [dim]sfumato train my_data --out run_hard --time 20min --set softening.method=none[/]
    [dim]sfumato train few_cases --out tuned --time 10min --from run[/]
    """
    from sfumato.cases.dataset import Dataset
    from sfumato.config import load_config
    from sfumato.workflow.run import RunRequest
    from sfumato.workflow.run_config import RunConfig

    def read_wishes() -> RunConfig:
        if resume and overwrite:
            raise ConfigError("--resume keeps the run and --overwrite removes it; give one of them")
        return load_config(RunConfig, config, [*(settings or []), *training_length(time, steps)])

    request = RunRequest(
        fold=fold,
        device=device,
        from_model=from_model,
        is_resumed=resume,
        is_overwritten=overwrite,
    )
    with _processes(out) as world:
        wishes = world.of_first(read_wishes)
        data = world.of_first(lambda: Dataset.open(dataset))
        _train(world, data, out, wishes, request)


@contextmanager
def _processes(out: Path) -> "Iterator[World]":
    """Join the processes started together; the first speaks for all, and holds the folder."""
    from sfumato.training.distributed import EndedElsewhereError, join

    with join() as world:
        if not world.is_first:
            # Ctrl-C reaches all of them, but the first decides when to stop.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with hold_folder(out) if world.is_first else nullcontext():
                yield world
        except KeyboardInterrupt:
            if world.is_first:
                _say_stopped(out)
            raise typer.Exit(INTERRUPTED) from None
        except EndedElsewhereError:
            if world.is_first:
                raise
            raise typer.Exit(USERS_ERROR) from None


def _say_stopped(out: Path) -> None:
    from sfumato.cli.console import say
    from sfumato.model.trained import TrainedModel

    best = out / "best_model"
    hint = f" Until then, {best} is the best model so far." if TrainedModel.is_model(best) else ""
    say(f"Stopped; {out} keeps what is done. The same command with --resume goes on.{hint}")


def _train(
    world: "World", data: "Dataset", out: Path, wishes: "RunConfig", request: "RunRequest"
) -> None:
    from sfumato.cli.console import say, track
    from sfumato.cli.plan import print_plan
    from sfumato.workflow.run import start_together
    from sfumato.workflow.training import run_training

    run = start_together(world, data, out, wishes, request, track)
    steps = run_training(run, say, world)
    if world.is_first:
        print_plan(run)
        watch(steps)
    else:
        deque(steps, maxlen=0)
    # The others wait: some batch systems end a job soon after the first of its processes.
    world.of_first(lambda: _report(run, data))


def _report(run: "Run", data: "Dataset") -> None:
    """Say where the model is, and how it does on the held-out cases."""
    from sfumato.cli.console import end_with, say, track
    from sfumato.cli.metrics import print_metrics
    from sfumato.workflow.held_out import evaluate_held_out, write_training_page

    say(f"Trained model in {run.folder / 'model'}")
    if run.split.held_out_ids:
        report, failures = evaluate_held_out(run, data, track)
        print_metrics(report.parent)
        say(f"Report on the held-out cases in {report}")
        end_with(failures, len(run.split.held_out_ids))
    else:
        say(f"How it went: {write_training_page(run, data)}")


def training_length(time: str | None, steps: int | None) -> list[str]:
    """Turn --time and --steps into settings."""
    if time is not None and steps is not None:
        raise ConfigError("--time and --steps say the same thing; give one of them")
    if steps is not None:
        return [f"training.steps={steps}"]
    return [] if time is None else [f"training.minutes={parse_minutes(time)}"]


def parse_minutes(text: str) -> float:
    """Read a length of time such as 20min, 90s or 1.5h.

    Raises:
        ConfigError: If it is no such text.

    Examples:
        >>> parse_minutes("90s"), parse_minutes("20min"), parse_minutes("1.5h")
        (1.5, 20.0, 90.0)
    """
    for unit, minutes in (("min", 1), ("m", 1), ("h", 60), ("s", 1 / 60)):
        number = text.strip().removesuffix(unit)
        if number != text.strip():
            try:
                if (value := float(number) * minutes) > 0:
                    return value
            except ValueError:
                break
    raise ConfigError(f"--time takes a length such as 20min, 90s or 2h, got {text!r}")


def watch(steps: "Generator[Progress]") -> None:
    """Show a training as it goes.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the step is done and everything is saved.
    """
    from sfumato.cli.live import TrainingView

    with _interrupt() as is_interrupted, TrainingView() as view:
        for progress in steps:
            view.show(progress)
            # Nothing but saving the model follows the last step, so that is let through.
            if is_interrupted() and progress.fraction < 1:
                steps.close()
                raise KeyboardInterrupt


@contextmanager
def _interrupt() -> "Iterator[_Flag]":
    """Turn the first Ctrl-C into a flag, so that a step is never cut in two."""
    flag = _Flag()
    before = signal.signal(signal.SIGINT, flag.set)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class _Flag:
    """Whether Ctrl-C was pressed; a second one stops at once."""

    def __init__(self) -> None:
        self._is_set = False

    def __call__(self) -> bool:
        return self._is_set

    def set(self, _signal: int, _frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
