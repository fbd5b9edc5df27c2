"""The demonstration: real images that come with a package, and a truth that is soft itself.

nilearn ships the MNI152 template, an average of 152 brains, with the probability of grey and
white matter at every millimetre. Its slices are images; the most probable tissue is the hard
label an annotator would draw; the probabilities themselves are what a soft label should be.

Source:
    Fonov et al., Unbiased nonlinear average age-appropriate brain templates, NeuroImage 2009.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sfumato.arrays import Probability
from sfumato.cases.dataset import Dataset
from sfumato.errors import ConfigError
from sfumato.image.files import read_probability, write_label, write_probability
from sfumato.image.geometry import Geometry
from sfumato.labels.band import compute_superpixels_near_boundaries
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.metrics.calibration import boundary_band
from sfumato.report.figures import softening_figure
from sfumato.report.page import Cell, Picture, Section, Table
from sfumato.storage import write_text
from sfumato.workflow.evaluating import Segment

CLASS_NAMES = ("background", "grey matter", "white matter")
SLICES = range(40, 140, 4)
"""Axial slices, 4 mm apart; every second one trains, those between them test."""
BAND_MM = 3.0
METHODS = ("none", "uniform", "gaussian", "svls", "distance", "superpixel")


def write_demo_data(folder: Path) -> tuple[Dataset, Dataset]:
    """Write the demonstration's images, labels and soft truth.

    Args:
        folder: Gets the data sets `train` and `test`.

    Returns:
        Both data sets; each has a folder `truth` beside its images and labels.

    Raises:
        ConfigError: If nilearn is not installed.
    """
    t1, grey, white = _load_template()
    for part, slices in (("train", SLICES[::2]), ("test", SLICES[1::2])):
        for index in slices:
            _write_slice(folder / part, f"slice_{index:03}", t1, grey, white, index)
        classes = {name: index for index, name in enumerate(CLASS_NAMES)}
        write_text(folder / part / "dataset.json", json.dumps({"labels": classes}, indent=2))
    return Dataset.open(folder / "train"), Dataset.open(folder / "test")


def _load_template() -> tuple[Float32[np.ndarray, "i j k"], ...]:
    try:
        from nilearn import datasets
    except ImportError as error:
        raise ConfigError(
            "the demo takes its images from nilearn, which is not installed;"
            " pip install 'sfumato[demo]'"
        ) from error
    images = (
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    )
    return tuple(np.asarray(image.dataobj, np.float32) for image in images)


def _write_slice(
    folder: Path,
    name: str,
    t1: Float32[np.ndarray, "i j k"],
    grey: Float32[np.ndarray, "i j k"],
    white: Float32[np.ndarray, "i j k"],
    index: int,
) -> None:
    # Rows from front to back, columns from left to right, as brains are usually shown.
    image, g, w = (volume[:, ::-1, index].T for volume in (t1, grey, white))
    probability = np.stack([1 - g - w, g, w]).clip(0, 1).astype(np.float32)
    probability /= probability.sum(axis=0, keepdims=True)
    geometry = Geometry.from_spacing(image.shape, (1.0, 1.0))
    write_label(folder / "images" / f"{name}.png", _as_bytes(image / t1.max()), geometry)
    hard_label = probability.argmax(axis=0).astype(np.uint8)
    write_label(folder / "labels" / f"{name}.png", hard_label, geometry)
    write_probability(folder / "truth" / f"{name}.nii.gz", probability, geometry, CLASS_NAMES)


def _as_bytes(share: Float32[np.ndarray, "*space"]) -> np.ndarray:
    return np.rint(share.clip(0, 1) * 255).astype(np.uint8)


def soft_label_section(test: Dataset, folder: Path, superpixels: SuperpixelSettings) -> Section:
    """Compare every softener's labels with the soft truth, in numbers and pictures.

    Args:
        test: Slices that trained nothing.
        folder: The folder with the data set's `truth`.
        superpixels: Their size, as training used it.
    """
    distances: dict[str, list[float]] = {method: [] for method in METHODS}
    pictures = []
    for number, case in enumerate(test):
        assert case.label is not None
        truth = _truth(folder, case.id)
        band = boundary_band(case.label, case.geometry.spacing, BAND_MM)
        for method in METHODS:
            soft_label = soften(
                case.image,
                case.label,
                case.geometry.spacing,
                len(CLASS_NAMES),
                SofteningSettings(method=method),
                superpixels,
            )
            distances[method].append(_distance(soft_label, truth, band))
            if method == "superpixel" and number % 5 == 2:
                picture = softening_figure(
                    case,
                    soft_label,
                    test.classes,
                    superpixels=compute_superpixels_near_boundaries(
                        case.image, case.label, case.geometry.spacing, superpixels
                    ),
                )
                pictures.append(
                    Picture(
                        content=picture,
                        alt=f"{case.id}: image, superpixels, hard and soft label",
                        title=case.id.replace("_", " "),
                    )
                )
    return Section(
        title="From hard labels to soft ones",
        text=(
            "The hard label is the most probable tissue. Where its boundary runs through a"
            " superpixel, the label becomes a probability. Superpixels are worked out"
            " around boundaries only.\n\n"
            f"The table says how far each kind of label is from the true probabilities, within"
            f" {BAND_MM:g} mm of a boundary, on slices that trained nothing: the mean over pixels"
            " of the squared differences, summed over the tissues (0 is the truth itself)."
        ),
        table=_distance_table("label", distances),
        pictures=pictures,
    )


def model_section(test: Dataset, folder: Path, models: Mapping[str, Segment]) -> Section:
    """Compare what models trained on different labels predict with the soft truth.

    Args:
        test: Slices that trained nothing.
        folder: The folder with the data set's `truth`.
        models: What each model is called, and how it segments.
    """
    distances: dict[str, list[float]] = {name: [] for name in models}
    for case in test:
        assert case.label is not None
        truth = _truth(folder, case.id)
        band = boundary_band(case.label, case.geometry.spacing, BAND_MM)
        for name, segment in models.items():
            probability = segment(case).probability
            assert probability is not None
            distances[name].append(_distance(probability, truth, band))
    return Section(
        title="What models learn from them",
        text=(
            "Both models saw the same slices in as many steps and differ in nothing but their"
            " labels. None of them ever saw the true probabilities. The table compares their"
            " predictions with the truth, as above."
        ),
        table=_distance_table("model", distances),
    )


def _truth(folder: Path, case_id: str) -> Probability:
    truth, _ = read_probability(folder / "truth" / f"{case_id}.nii.gz")
    return truth


def _distance(probability: Probability, truth: Probability, band: np.ndarray) -> float:
    return float(((probability - truth) ** 2).sum(axis=0)[band].mean())


def _distance_table(what: str, distances: Mapping[str, list[float]]) -> Table:
    rows = [
        (name, float(np.mean(values)), min(values), max(values))
        for name, values in distances.items()
    ]
    return Table(
        columns=[what, "distance from the true probabilities", "over slices, from – to"],
        rows=[
            [name, Cell(text=f"{mean:.4f}", is_number=True), f"{low:.4f} – {high:.4f}"]
            for name, mean, low, high in sorted(rows, key=lambda row: row[1])
        ],
        caption="Nearest to the truth first.",
    )
