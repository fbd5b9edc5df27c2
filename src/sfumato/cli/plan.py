"""The plan of a run, as a table a person can check."""

from collections.abc import Sequence

from rich.table import Table

from sfumato.cli.console import console
from sfumato.workflow.training import Run


def plan_rows(run: Run) -> list[tuple[str, str]]:
    """Return what was chosen for a run and from which data, line by line."""
    config, split, fingerprint = run.config, run.split, run.fingerprint
    spacing = config.preprocessing.spacing_mm or ()
    channels = config.preprocessing.channels or ()
    patches, network = config.patches, config.network
    training = config.training
    length = f"{training.steps} steps" if training.steps else f"{training.minutes:g} minutes"
    sizes = ", ".join(
        f"{n} {s:.4g} {_unit(spacing)}" for n, s in fingerprint.class_sizes_mm.items()
    )
    return [
        ("cases", f"{len(split.train_ids)} to train on, {len(split.held_out_ids)} held out"),
        ("classes", f"{', '.join(run.classes.foreground)} (median size: {sizes})"),
        ("spacing", f"{_times(spacing)} mm (median {_times(fingerprint.spacing_mm)})"),
        ("intensities", ", ".join(f"normalised by {c.normalization}" for c in channels)),
        ("superpixels", f"{config.superpixels.size_mm:g} mm wide, compactness"
         f" {config.superpixels.compactness:g}"),
        ("soft labels", f"{config.softening.method}, weight {config.loss.soft_weight:g}"
         f" beside hard loss {config.loss.hard}"),
        ("patch", f"{_times(patches.shape or ())} elements, {patches.batch_size} a step"),
        ("network", f"U-Net with {'-'.join(map(str, network.features or ()))} features"),
        ("training", f"{length}, seed {training.seed}, on {run.device}"),
    ]  # fmt: skip


def print_plan(run: Run) -> None:
    """Print what was chosen for a run."""
    table = Table(title="Plan", title_justify="left", show_header=False, box=None)
    for name, value in plan_rows(run):
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)
    console.print(f"[dim]Every value can be set: {run.folder / 'config.toml'} has them all.[/]")


def _times(numbers: Sequence[float]) -> str:
    return " × ".join(f"{n:.4g}" for n in numbers)


def _unit(spacing: Sequence[float]) -> str:
    return "mm²" if len(spacing) == 2 else "mm³"
