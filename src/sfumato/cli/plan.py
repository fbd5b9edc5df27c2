"""The plan of a run, as a table a person can check."""

from collections.abc import Sequence

from sfumato.cli.console import print_facts, say
from sfumato.image.preprocessing import ChannelSettings
from sfumato.labels.softeners import SofteningSettings
from sfumato.model.losses import LossSettings
from sfumato.training.loop import TrainingSettings
from sfumato.training.mirror_pairs import MirrorPair
from sfumato.training.plan import usual_mirror_axes
from sfumato.workflow.run import Run

_FLAT_AXES = ("up–down", "left–right")
_VOLUME_AXES = ("left–right", "back–front", "feet–head")


def plan_facts(run: Run) -> dict[str, str]:
    """Return what was chosen for a run and from which data."""
    config, split, fingerprint = run.config, run.split, run.fingerprint
    spacing = config.preprocessing.spacing_mm or ()
    patches, network = config.patches, config.network
    unit = "mm²" if len(spacing) == 2 else "mm³"
    sizes = [
        f"{name} {size:,.{0 if size >= 10 else 2}f} {unit}"
        for name, size in fingerprint.class_sizes_mm.items()
    ]
    return {
        "cases": f"{len(split.train_ids)} to train on, {len(split.held_out_ids)} held out",
        "classes": f"{', '.join(sizes)} (median sizes)",
        "spacing": f"{_times(spacing)} mm (median of the data: {_times(fingerprint.spacing_mm)})",
        "intensities": _channel_text(config.preprocessing.channels or ()),
        "superpixels": f"{config.superpixels.size_mm:g} mm wide, compactness"
        f" {config.superpixels.compactness:g}",
        "soft labels": f"{config.softening.method}{_how_often(config.softening)},"
        f" {_soft_loss(config.loss)} beside the hard loss {config.loss.hard}",
        "patch": f"{_times(patches.shape or ())} elements, {patches.batch_size} a step",
        "mirroring": _mirroring(
            len(spacing), config.augmentation.mirror_axes or (), fingerprint.mirror_pairs
        ),
        "network": f"U-Net with {'-'.join(map(str, network.features or ()))} features"
        f"{', deep supervision' if config.loss.deep_supervision else ''}"
        f"{'' if run.start is None else f', from the model {run.start.place}'}",
        "training": f"{_length(config.training)}, seed {config.training.seed}, on {run.device}",
    }


def _mirroring(n_axes: int, mirror_axes: Sequence[int], pairs: Sequence[MirrorPair]) -> str:
    """Say along which axes patches are mirrored, and why along others that usually are not."""
    words = _FLAT_AXES if n_axes == 2 else _VOLUME_AXES
    mirrored = " and ".join(words[axis] for axis in mirror_axes) or "none"
    reasons = [
        f"; not {words[axis]}, where {' and '.join(same[0].names)} change places"
        f"{f' (and {len(same) - 1} more)' if len(same) > 1 else ''}"
        for axis in usual_mirror_axes(n_axes)
        if (same := [pair for pair in pairs if pair.axis == axis]) and axis not in mirror_axes
    ]
    return mirrored + "".join(reasons)


def print_plan(run: Run) -> None:
    """Print what was chosen for a run."""
    print_facts(plan_facts(run), title="Plan")
    say(f"Every value can be set; all of them are in {run.folder / 'config.toml'}", style="dim")


def _length(training: TrainingSettings) -> str:
    if training.steps is not None:
        return f"{training.steps} steps"
    if training.minutes < 1:
        return f"{60 * training.minutes:.3g} seconds"
    return f"{training.minutes:.4g} minutes"


def _how_often(softening: SofteningSettings) -> str:
    if softening.when == "once":
        return ""
    return f", drawn anew {softening.when.replace('_', ' ')}"


def _soft_loss(loss: LossSettings) -> str:
    grows = (
        f", growing over the first {loss.soft_ramp:.0%} of the training," if loss.soft_ramp else ""
    )
    return f"{loss.soft} with weight {loss.soft_weight:g}{grows}"


def _channel_text(channels: Sequence[ChannelSettings]) -> str:
    how = {
        "case": "normalised case by case",
        "dataset": "normalised by constants of the data set",
    }
    kinds = [how[c.normalization] for c in channels]
    if len(set(kinds)) == 1:
        return kinds[0] if len(kinds) == 1 else f"{len(kinds)} channels, each {kinds[0]}"
    return ", ".join(f"channel {i} {kind}" for i, kind in enumerate(kinds, start=1))


def _times(numbers: Sequence[float]) -> str:
    return " × ".join(f"{n:.4g}" for n in numbers)
