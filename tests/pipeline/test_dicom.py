"""DICOM through the command line: from a series to a DICOM SEG in an archive."""

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from tests.dicom_series import PATIENT, write_series
from tests.orthanc import Archive
from tests.pipeline.conftest import SMALL_VOLUME, train_briefly

from sfumato.image import dicom_seg
from sfumato.image.files import read_image
from sfumato.model.trained import TrainedModel

N_CASES = 6


def bright_ball(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a bright ball on one side, in noise (column, row, slice) and its mask."""
    rng = np.random.default_rng(seed)
    place = np.moveaxis(np.indices((24, 20, 12)), 0, -1) * (0.8, 1.5, 2.5)
    mask = np.linalg.norm(place - (7, 20, 10) - rng.uniform(-1, 1, 3), axis=-1) < 6
    return (300 + 500 * mask + rng.normal(0, 30, mask.shape)).astype(np.uint16), mask


@pytest.fixture(scope="module")
def dicom_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set whose images are DICOM series, listed in a manifest."""
    folder = tmp_path_factory.mktemp("dicom") / "data"
    rows = ["case,image,labels"]
    for seed in range(N_CASES):
        image, mask = bright_ball(seed)
        series = write_series(folder / f"series{seed}", image, "sagittal", seed=seed)
        _, geometry = read_image(series)
        label = nibabel.Nifti1Image(mask.astype(np.uint8), geometry.affine)
        nibabel.save(label, folder / f"label{seed}.nii.gz")
        rows.append(f"case{seed},series{seed},label{seed}.nii.gz")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "Liver": 1}}))
    return folder


@pytest.fixture(scope="module")
def dicom_run(tmp_path_factory: pytest.TempPathFactory, dicom_data: Path) -> Path:
    """Train on DICOM series."""
    run = tmp_path_factory.mktemp("dicom_run") / "run"
    settings = (*SMALL_VOLUME, "--fold=none", "--set=patches.shape=[8,8,8]")
    return train_briefly(run, dicom_data, settings, steps=200)


@pytest.fixture(scope="module")
def segmented(
    sfumato: Callable, tmp_path_factory: pytest.TempPathFactory, dicom_data: Path, dicom_run: Path
) -> Path:
    out = tmp_path_factory.mktemp("segmented") / "out"
    series = [dicom_data / "series0", dicom_data / "series1"]
    outcome = sfumato(
        "segment", dicom_run, *series, "--out", out, "--probabilities", "--device=cpu"
    )
    assert outcome.code == 0, outcome.err
    return out


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    return 2 * (found & expected).sum() / (found.sum() + expected.sum())


def read_segment(path: Path, source: Path) -> np.ndarray:
    """Put the frames of the first segment where they lie in the source (column, row, slice)."""
    dataset = pydicom.dcmread(path)
    _, geometry = read_image(source)
    values = np.zeros(geometry.shape, np.uint8)
    for group, plane in zip(
        dataset.PerFrameFunctionalGroupsSequence,
        dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns),
        strict=True,
    ):
        point = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * (-1, -1, 1)
        index = np.linalg.solve(geometry.affine, [*point, 1])
        values[:, :, round(index[2])] = plane.T
    return values


def test_a_model_trained_on_series_writes_segments_and_probabilities(
    segmented: Path, dicom_data: Path
) -> None:
    _, mask = bright_ball(0)
    found = read_segment(segmented / "series0.dcm", dicom_data / "series0")
    probability = read_segment(segmented / "probabilities" / "series0.dcm", dicom_data / "series0")
    assert overlap(found > 0, mask) > 0.6
    np.testing.assert_array_equal(found > 0, probability > 127)
    kind = pydicom.dcmread(segmented / "series0.dcm").SegmentSequence[0]
    assert kind.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"


def test_nifti_is_written_on_request(
    sfumato: Callable, segmented: Path, dicom_data: Path, dicom_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    source = dicom_data / "series0"
    outcome = sfumato("segment", dicom_run, source, "--out", out, "--format=nifti", "--device=cpu")
    assert outcome.code == 0
    label = np.asarray(nibabel.load(out / "series0.nii.gz").dataobj)
    np.testing.assert_array_equal(label, read_segment(segmented / "series0.dcm", source))


def test_codes_corrected_in_the_model_are_those_written(
    sfumato: Callable, dicom_data: Path, dicom_run: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(dicom_run / "model", tmp_path / "model")
    text = (model / "model.toml").read_text()
    assert TrainedModel.load(model).codes["Liver"].type.value == "10200004"
    (model / "model.toml").write_text(text.replace("10200004", "78961009"))
    out = tmp_path / "out"
    sfumato("segment", model, dicom_data / "series0", "--out", out, "--device=cpu")
    kind = pydicom.dcmread(out / "series0.dcm").SegmentSequence[0]
    assert kind.SegmentedPropertyTypeCodeSequence[0].CodeValue == "78961009"


def test_a_mixed_folder_is_listed_and_one_of_its_series_segmented(
    sfumato: Callable, dicom_data: Path, dicom_run: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for index, path in enumerate(sorted(dicom_data.glob("series[01]/*.dcm"))):
        shutil.copy(path, study / f"IM{index}")
    facts = json.loads(sfumato("info", study, "--json").out)
    assert [series["number"] for series in facts["series"]] == [301, 302]
    assert "files 12, images 12" in sfumato("info", study).out
    refused = sfumato("segment", dicom_run, study, "--out", tmp_path / "a", "--device=cpu")
    assert refused.code != 0
    assert "holds 2 DICOM series" in refused.err
    uid = facts["series"][1]["uid"]
    outcome = sfumato("segment", dicom_run, study / uid, "--out", tmp_path / "b", "--device=cpu")
    assert outcome.code == 0
    _, mask = bright_ball(1)
    found = read_segment(tmp_path / "b" / f"{uid}.dcm", study / uid)
    assert overlap(found > 0, mask) > 0.6


def test_softening_reads_series_and_knows_them_again(
    sfumato: Callable, dicom_data: Path, tmp_path: Path
) -> None:
    arguments = ("soften", dicom_data, "--out", tmp_path / "soft")
    assert sfumato(*arguments).code == 0
    assert len(list((tmp_path / "soft").rglob("*.nii.gz"))) == N_CASES
    again = sfumato(*arguments, "--resume")
    assert again.code == 0


def test_without_its_writer_nothing_is_computed(
    sfumato: Callable,
    dicom_data: Path,
    dicom_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    outcome = sfumato("segment", dicom_run, dicom_data / "series0", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "pip install 'sfumato[dicom]'" in outcome.err
    assert not (tmp_path / "out").exists()


def test_nothing_of_the_patient_is_printed_or_recorded(
    sfumato: Callable,
    dicom_data: Path,
    dicom_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    damaged = shutil.copytree(dicom_data / "series0", tmp_path / "damaged")
    path = next(damaged.iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    out = tmp_path / "out"
    outcomes = [
        sfumato("info", dicom_data / "series0"),
        sfumato("info", dicom_data / "series0", "--json"),
        sfumato("info", damaged),
        sfumato("segment", dicom_run, dicom_data / "series1", damaged, "--out", out),
    ]
    assert [outcome.code for outcome in outcomes] == [0, 0, 2, 1]
    told = [text for outcome in outcomes for text in (outcome.out, outcome.err)]
    told += [caplog.text, (out / "run.json").read_text(), (dicom_run / "run.json").read_text()]
    for value in PATIENT.values():
        for part in value.split("^"):
            assert not any(part in text for text in told)
    assert "is damaged, cut short" in outcomes[3].err
    assert (out / "series1.dcm").is_file()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    archive = Archive(tmp_path_factory.mktemp("orthanc"))
    try:
        archive.start()
        yield archive
    finally:
        archive.stop()


def test_a_segmentation_is_filed_with_its_series_by_an_archive(
    orthanc: Archive, segmented: Path, dicom_data: Path, tmp_path: Path
) -> None:
    for path in sorted((dicom_data / "series0").iterdir()):
        orthanc.store(path)
    ids = [orthanc.store(segmented / place / "series0.dcm") for place in (".", "probabilities")]
    studies = json.loads(orthanc.ask("/studies"))
    assert len(studies) == 1
    kinds = [
        json.loads(orthanc.ask(f"/series/{series}"))["MainDicomTags"]["Modality"]
        for series in json.loads(orthanc.ask(f"/studies/{studies[0]}"))["Series"]
    ]
    assert sorted(kinds) == ["CT", "SEG", "SEG"]
    for place, stored in zip((".", "probabilities"), ids, strict=True):
        fetched = tmp_path / f"{stored}.dcm"
        fetched.write_bytes(orthanc.ask(f"/instances/{stored}/file"))
        source = dicom_data / "series0"
        np.testing.assert_array_equal(
            read_segment(fetched, source), read_segment(segmented / place / "series0.dcm", source)
        )
    fetched = tmp_path / "fetched.zip"
    fetched.write_bytes(orthanc.ask(f"/studies/{studies[0]}/archive"))
    image, geometry = read_image(fetched)
    expected, expected_geometry = read_image(dicom_data / "series0")
    np.testing.assert_array_equal(image, expected)
    assert geometry.difference(expected_geometry) is None


def test_a_real_series_goes_to_an_archive_and_back(
    orthanc: Archive, sfumato: Callable, shared_data: Callable, dicom_run: Path, tmp_path: Path
) -> None:
    source = shared_data("hippocampus_dicom") / "study1"
    outcome = sfumato("segment", dicom_run, source, "--out", tmp_path / "out", "--device=cpu")
    assert outcome.code == 0, outcome.err
    for path in sorted(source.iterdir()):
        orthanc.store(path)
    stored = orthanc.store(tmp_path / "out" / "study1.dcm")
    fetched = tmp_path / "fetched.dcm"
    fetched.write_bytes(orthanc.ask(f"/instances/{stored}/file"))
    np.testing.assert_array_equal(
        read_segment(fetched, source), read_segment(tmp_path / "out" / "study1.dcm", source)
    )


def test_dicom_segmentations_are_compared_with_references_as_nifti_ones_are(
    sfumato: Callable, segmented: Path, dicom_data: Path, dicom_run: Path, tmp_path: Path
) -> None:
    references = tmp_path / "references"
    references.mkdir()
    (tmp_path / "dicom" / "probabilities").mkdir(parents=True)
    for seed in (0, 1):
        shutil.copy(dicom_data / f"label{seed}.nii.gz", references / f"series{seed}.nii.gz")
        for place in (".", "probabilities"):
            name = f"{place}/series{seed}.dcm"
            shutil.copy(segmented / name, tmp_path / "dicom" / name)
    series = [dicom_data / "series0", dicom_data / "series1"]
    nifti = tmp_path / "nifti"
    outcome = sfumato("segment", dicom_run, *series, "--out", nifti, "--format=nifti",
                      "--probabilities", "--device=cpu")  # fmt: skip
    assert outcome.code == 0, outcome.err
    for kind in ("dicom", "nifti"):
        outcome = sfumato("evaluate", references, tmp_path / kind, "--out", tmp_path / f"e_{kind}")
        assert outcome.code == 0, outcome.err
    tables = []
    for kind in ("dicom", "nifti"):
        with (tmp_path / f"e_{kind}" / "metrics.csv").open(encoding="utf-8") as file:
            rows = [(tuple(row[:-1]), row[-1]) for row in csv.reader(file)][1:]
        tables.append({name: float(value) for name, value in rows})
    assert tables[0] == pytest.approx(tables[1], rel=1e-4, nan_ok=True)
    assert any("ece" in name for name in tables[0])
