import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from tests.report.conftest import CLASSES, block_case, soft

from sfumato.cases.case import Case
from sfumato.errors import CaseError
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.report.colours import class_colour, rgb
from sfumato.report.figures import overlay_figure, softening_figure

GRIDS = {
    "flat": Geometry.from_spacing((40, 50), (1.0, 1.0)),
    "volume": Geometry.from_spacing((20, 24, 16), (1.0, 1.0, 1.0)),
    "anisotropic": Geometry.from_spacing((6, 60, 40), (5.0, 0.7, 0.7)),
    "stack of pages": Geometry(shape=(12, 40, 50), affine=np.eye(4), is_placed=False),
    "flat slice in a volume": Geometry.from_spacing((20, 24, 1), (1.0, 1.0, 1.0)),
}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def holds_colour(png: bytes, colour: str) -> bool:
    wanted = np.array(rgb(colour)) * 255
    return bool((np.abs(pixels(png) - wanted).max(axis=-1) < 8).any())


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_overlays_are_pictures_of_sane_size(grid: Geometry, n_channels: int) -> None:
    case = block_case(grid, n_channels)
    assert case.label is not None
    probability = soft(case.label, 3)
    png = overlay_figure(case, case.label, CLASSES, probability=probability, title="p01")
    height, width, _ = pixels(png).shape
    assert 200 < height < 700
    assert 1000 < width < 3500
    assert len(png) < 900_000


def test_overlays_show_every_class_in_its_colour() -> None:
    case = block_case(GRIDS["flat"])
    assert case.label is not None
    png = overlay_figure(case, case.label, CLASSES)
    assert holds_colour(png, class_colour(0))
    assert holds_colour(png, class_colour(1))


def test_overlays_do_without_reference_probability_and_title() -> None:
    with_label = block_case(GRIDS["volume"])
    assert with_label.label is not None
    case = Case(id="p02", image=with_label.image, geometry=with_label.geometry)
    png = overlay_figure(case, with_label.label, CLASSES)
    full = overlay_figure(
        with_label, with_label.label, CLASSES, probability=soft(with_label.label, 3)
    )
    assert pixels(png).shape[1] < pixels(full).shape[1]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_empty_labels_are_drawn_too(grid: Geometry) -> None:
    image = np.zeros((1, *grid.shape), np.float32)
    empty = np.zeros(grid.shape, np.uint8)
    case = Case(id="p03", image=image, geometry=grid, label=empty)
    assert pixels(overlay_figure(case, empty, CLASSES, probability=soft(empty, 3))).ndim == 3
    assert pixels(softening_figure(case, soft(empty, 3), CLASSES)).ndim == 3


def test_an_image_without_a_single_number_is_drawn_too() -> None:
    grid = GRIDS["flat"]
    image = np.full((1, *grid.shape), np.nan, np.float32)
    case = Case(id="p04", image=image, geometry=grid)
    assert overlay_figure(case, np.zeros(grid.shape, np.uint8), CLASSES)


def test_any_name_can_be_drawn() -> None:
    names = ("background", "_private $\\frac{", "日本 <b>\n\x00")
    case = block_case(GRIDS["flat"])
    assert case.label is not None
    classes = ClassList(names=names, values=(0, 1, 2))
    assert overlay_figure(case, case.label, classes, title="$\\frac{ \x00 日" + 300 * "x")


def test_many_classes_can_be_drawn() -> None:
    label = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(4, axis=0).repeat(4, axis=1)
    grid = Geometry.from_spacing((64, 64), (1.0, 1.0))
    case = Case(id="p05", image=label[np.newaxis].astype(np.float32), geometry=grid, label=label)
    classes = ClassList(names=tuple(f"class {k}" for k in range(256)), values=tuple(range(256)))
    assert overlay_figure(case, label, classes)


def test_softening_figures_show_superpixels_and_soft_label() -> None:
    case = block_case(GRIDS["volume"])
    assert case.label is not None
    blocks = np.indices(case.label.shape) // 4
    superpixels = np.ravel_multi_index(tuple(blocks), (5, 6, 4)).astype(np.int32)
    soft_label = soft(case.label, 3)
    png = softening_figure(case, soft_label, CLASSES, superpixels=superpixels, title=case.id)
    without = softening_figure(case, soft_label, CLASSES, title=case.id)
    assert pixels(without).shape[1] < pixels(png).shape[1] < 3000
    assert holds_colour(png, class_colour(0))
    assert holds_colour(png, class_colour(1))


def test_softening_figures_of_large_images_show_a_detail() -> None:
    grid = Geometry.from_spacing((900, 1200), (1.0, 1.0))
    case = block_case(grid)
    assert case.label is not None
    height, width, _ = pixels(softening_figure(case, soft(case.label, 3), CLASSES)).shape
    assert height < 700
    assert width < 3000


def test_softening_figures_need_a_label() -> None:
    grid = GRIDS["flat"]
    case = Case(id="p06", image=np.zeros((1, *grid.shape), np.float32), geometry=grid)
    with pytest.raises(CaseError, match="has no label"):
        softening_figure(case, soft(np.zeros(grid.shape, np.uint8), 3), CLASSES)


def test_arrays_of_another_shape_are_refused() -> None:
    case = block_case(GRIDS["flat"])
    with pytest.raises(CaseError, match=r"the segmentation has shape \(3, 4\)"):
        overlay_figure(case, np.zeros((3, 4), np.uint8), CLASSES)


def test_the_same_case_gives_the_same_bytes_also_in_several_threads() -> None:
    case = block_case(GRIDS["volume"])
    label = case.label
    assert label is not None
    probability = soft(label, 3)

    def draw(_: int) -> bytes:
        return overlay_figure(case, label, CLASSES, probability=probability)

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(draw, range(6)))) == 1


def test_a_real_scan_is_drawn(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("hippocampus_msd")
    path = sorted((folder / "images").glob("*.nii.gz"))[0]
    scan, drawn = nibabel.load(path), nibabel.load(folder / "labels" / path.name)
    label = np.asarray(drawn.dataobj).astype(np.uint8)
    grid = Geometry(shape=label.shape, affine=np.asarray(scan.affine, np.float64))
    image = np.asarray(scan.dataobj, np.float32)[np.newaxis]
    case = Case(id=path.name, image=image, geometry=grid, label=label)
    png = overlay_figure(case, label, CLASSES, probability=soft(label, 3), title=case.id)
    assert len(png) < 500_000
