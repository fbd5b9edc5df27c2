"""Prepared cases on disk: made once, and again whenever anything changed."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sfumato.cases.dataset import Dataset
from sfumato.cases.preparation import PreparationSettings, PreparedCase, prepare_case
from sfumato.cases.store import StoredCases, prepare_dataset
from sfumato.errors import CaseError, FileError
from sfumato.image.files import write_label
from sfumato.image.geometry import Geometry
from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.labels.softeners import SofteningSettings
from sfumato.labels.superpixels import SuperpixelSettings

SETTINGS = PreparationSettings(
    preprocessing=PreprocessingSettings(spacing_mm=(1.0, 1.0), channels=(ChannelSettings(),)),
    superpixels=SuperpixelSettings(size_mm=3.0),
    softening=SofteningSettings(),
    n_classes=2,
)


def write(path: Path, values: np.ndarray) -> None:
    write_label(path, values, Geometry.from_spacing(values.shape, (1.0, 1.0)))


def write_case(folder: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros((10, 12), np.uint8)
    label[2:7, 3:9] = 1
    write(folder / "labels" / f"{name}.png", label)
    write(folder / "images" / f"{name}.png", (100 * label + rng.integers(0, 150, label.shape)))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for seed, name in enumerate(("a", "b")):
        write_case(tmp_path / "data", name, seed)
    return Dataset.open(tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def prepare(
    dataset: Dataset, store: Path, settings: PreparationSettings = SETTINGS
) -> list[PreparedCase]:
    return list(StoredCases(list(prepare_dataset(dataset, settings, store))))


def snapshot(store: Path) -> dict[str, int]:
    return {str(p.relative_to(store)): p.stat().st_mtime_ns for p in store.rglob("*")}


def folders(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()}


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """Let the system refuse to write more, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_read_is_what_was_prepared(dataset: Dataset, store: Path) -> None:
    for stored, case in zip(prepare(dataset, store), dataset, strict=True):
        expected = prepare_case(case, SETTINGS)
        assert stored.id == expected.id
        for name in ("image", "hard_label", "soft_label"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(expected, name))
            assert getattr(stored, name).dtype == getattr(expected, name).dtype
        for ours, theirs in zip(stored.positions, expected.positions, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert stored.geometry.difference(expected.geometry) is None


def test_what_soft_labels_are_drawn_from_is_stored_instead_of_them(
    dataset: Dataset, store: Path
) -> None:
    drawn_anew = SETTINGS.model_copy(update={"softening": SofteningSettings(when="every_patch")})
    for stored, case in zip(prepare(dataset, store, drawn_anew), dataset, strict=True):
        assert stored.soft_label is None
        assert isinstance(stored.levels, np.memmap)
        np.testing.assert_array_equal(stored.levels, prepare_case(case, drawn_anew).levels)
    assert all(case.levels is None for case in prepare(dataset, store))


def test_arrays_stay_on_disk_until_they_are_used(dataset: Dataset, store: Path) -> None:
    case = prepare(dataset, store)[0]
    for array in (case.image, case.hard_label, case.soft_label):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_cases_that_wait_hold_no_files_open(dataset: Dataset, store: Path) -> None:
    places = list(prepare_dataset(dataset, SETTINGS, store))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        cases = StoredCases(places * 200)
        assert len(cases) == len(cases[1:]) + 1 == 400
        assert {case.id for case in cases} == {"a", "b"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_prepared_case_is_used_again(dataset: Dataset, store: Path) -> None:
    prepare(dataset, store)
    before = snapshot(store)
    prepare(dataset, store)
    prepare(Dataset.open(Path(dataset.records[0].image_paths[0]).parents[1]), store)
    assert snapshot(store) == before


def test_other_settings_make_another_prepared_case(dataset: Dataset, store: Path) -> None:
    prepare(dataset, store)
    before = snapshot(store)
    hard = SETTINGS.model_copy(update={"softening": SofteningSettings(method="none")})
    again = prepare(dataset, store, hard)
    assert set(np.unique(again[0].soft_label)) == {0, 255}
    assert len(folders(store)) == 4
    assert before.items() <= snapshot(store).items()


def test_a_changed_file_is_prepared_again_and_the_others_are_not(
    dataset: Dataset, store: Path
) -> None:
    prepare(dataset, store)
    before = snapshot(store)
    image, label = dataset.records[0].image_paths[0], dataset.records[0].label_paths[0]
    write(image, np.tile(np.arange(12, dtype=np.uint8), (10, 1)))
    assert prepare(dataset, store)[0].image[0, 0, 0] < -1
    write(label, np.zeros((10, 12), np.uint8))
    assert not prepare(dataset, store)[0].hard_label.any()
    assert before.items() <= snapshot(store).items()
    assert len([name for name in folders(store) if name.startswith("b-")]) == 1


def test_other_numbers_for_the_classes_are_prepared_again(tmp_path: Path, store: Path) -> None:
    write(tmp_path / "images" / "a.png", np.array([[1, 2, 3]]))
    write(tmp_path / "labels" / "a.png", np.array([[0, 2, 2]]))
    three = SETTINGS.model_copy(update={"n_classes": 3})
    for values, expected in (([0, 1, 2], 2), ([0, 2, 3], 1)):
        declared = ", ".join(f'"class {value}": {value}' for value in values)
        (tmp_path / "dataset.json").write_text(f'{{"labels": {{{declared}}}}}')
        (case,) = prepare(Dataset.open(tmp_path), store, three)
        np.testing.assert_array_equal(case.hard_label, [[0, expected, expected]])


def test_cases_come_one_after_the_other(dataset: Dataset, store: Path) -> None:
    dataset.records[1].image_paths[0].write_bytes(b"broken")
    places = prepare_dataset(dataset, SETTINGS, store)
    assert next(places).name.startswith("a-")
    with pytest.raises(CaseError, match="case 'b'"):
        next(places)
    assert {name[0] for name in folders(store)} == {"a"}


@pytest.mark.parametrize("process", [os.getpid(), 1], ids=["own", "foreign"])
def test_what_a_killed_process_left_half_written_is_not_read(
    dataset: Dataset, store: Path, process: int
) -> None:
    whole = prepare(dataset, store)[0]
    (name,) = (name for name in folders(store) if name.startswith("a-"))
    (store / name).rename(store / f".{process}-{name}")
    (store / f".{process}-{name}" / "soft_label.npy").unlink()
    again = prepare(dataset, store)[0]
    np.testing.assert_array_equal(again.soft_label, whole.soft_label)


def test_a_damaged_prepared_case_is_told_with_its_folder(dataset: Dataset, store: Path) -> None:
    prepare(dataset, store)
    (name,) = (name for name in folders(store) if name.startswith("a-"))
    for broken in (b"", b"\x93NUMPY", (store / name / "image.npy").read_bytes()[:-100]):
        (store / name / "image.npy").write_bytes(broken)
        with pytest.raises(FileError) as caught:
            prepare(dataset, store)
        assert str(caught.value) == (
            f"{store / name}: is damaged; delete this folder and run again"
        )


def test_a_disk_without_space_is_told_and_nothing_half_written_stays(
    dataset: Dataset, store: Path
) -> None:
    with no_file_larger_than(300), pytest.raises(FileError, match=r"cannot be written \(file too"):
        prepare(dataset, store)
    assert folders(store) == set()
    assert len(prepare(dataset, store)) == 2
