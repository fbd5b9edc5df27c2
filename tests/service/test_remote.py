"""`sfumato segment --server`: the same files as without it, to the bit."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tests.dicom_series import write_series
from tests.pipeline.conftest import run_here
from tests.service.conftest import Server, save_nifti, volume

from sfumato.image.files import read_image

HERE = ("--device=cpu", "--engine=torch")


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("run.json", "cases.jsonl", ".sfumato")
    }


def test_many_cases_come_out_the_same_to_the_bit(
    server: Server, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        save_nifti(folder / f"case {number} ü.nii.gz", volume(number))
    (folder / "damaged.nii.gz").write_bytes(b"no image")
    there = run_here(
        "segment", "body", folder, "--server", server.url, "--out", tmp_path / "there",
        "--uncertainty", "--level=0.8",
    )  # fmt: skip
    here = run_here(
        "segment", models / "body", folder, "--out", tmp_path / "here", "--uncertainty",
        "--level=0.8", *HERE,
    )  # fmt: skip
    assert (there.code, here.code) == (1, 1), there.err
    assert "damaged: the image: is damaged" in there.err
    found = files_in(tmp_path / "there")
    assert len(found) == 3 * 5 + 2
    assert found == files_in(tmp_path / "here")
    runs = [json.loads((tmp_path / p / "run.json").read_text()) for p in ("there", "here")]
    assert [sorted(run["failures"]) for run in runs] == [["damaged"]] * 2
    assert set(runs[0]["seconds"]) == set(runs[1]["seconds"]) - {"damaged"}
    assert json.loads(server_jobs(server)) == []


def server_jobs(server: Server) -> str:
    import urllib.request

    with urllib.request.urlopen(f"{server.url}/v1/jobs") as response:
        jobs = json.loads(response.read())
    return json.dumps([job for job in jobs if job["name"].startswith("case ")])


def test_a_picture_and_channels_come_out_the_same(
    server: Server, models: Path, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for channel in range(2):
        save_nifti(folder / f"a_{channel:04}.nii.gz", volume(channel))
    for name, source in (("slide", picture), ("pair", folder)):
        there, here = tmp_path / f"{name}_there", tmp_path / f"{name}_here"
        outcome = run_here("segment", name, source, "--server", server.url, "--out", there)
        assert outcome.code == 0, outcome.err
        run_here("segment", models / name, source, "--out", here, *HERE)
        assert files_in(there) == files_in(here)


def test_a_series_comes_back_as_dicom_of_its_name(
    server: Server, models: Path, tmp_path: Path
) -> None:
    values = volume(3).clip(0, 1000).astype(np.uint16)
    series = write_series(tmp_path / "study", values, "sagittal")
    arguments = ("segment", "body", series, "--server", server.url, "--out")
    assert run_here(*arguments, tmp_path / "dicom").code == 0
    assert (tmp_path / "dicom" / "study.dcm").is_file()
    assert run_here(*arguments, tmp_path / "nifti", "--format=nifti").code == 0
    run_here(
        "segment", models / "body", series, "--out", tmp_path / "here", "--format=nifti", *HERE
    )
    assert files_in(tmp_path / "nifti") == files_in(tmp_path / "here")
    label = nibabel.load(tmp_path / "nifti" / "study.nii.gz")
    assert read_image(series)[1].shape == label.shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mirror",), "are not for a server"),
        (("--engine=torch",), "are not for a server"),
        (("--token-file=nowhere",), "nowhere: no such file"),
    ],
)
def test_what_a_server_decides_is_refused_here(
    server: Server, scan: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    outcome = run_here(
        "segment", "body", scan, "--server", server.url, "--out", tmp_path / "out", *options
    )
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_unknown_models_and_missing_servers_are_told(
    server: Server, scan: Path, tmp_path: Path
) -> None:
    ask: Callable = lambda model, url: run_here(  # noqa: E731
        "segment", model, scan, "--server", url, "--out", tmp_path / "out"
    )
    assert "did you mean 'body'?" in ask("boby", server.url).err
    assert "cannot be reached" in ask("body", "http://127.0.0.1:9").err
