"""From an upload to its results, over HTTP, with the command line as the measure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from tests.dicom_series import write_series
from tests.pipeline.conftest import run_here
from tests.service.conftest import finish, save_nifti, volume

from sfumato.errors import ServerError
from sfumato.service.client import ServiceClient


def segment_here(model: Path, image: Path, out: Path, *options: str) -> Path:
    outcome = run_here(
        "segment", model, image, "--out", out, "--device=cpu", "--engine=torch", *options
    )
    assert outcome.code == 0, outcome.err
    return out


def assert_same_files(found: Path, expected: Path) -> None:
    names = sorted(path.relative_to(expected) for path in expected.rglob("*") if path.is_file())
    names = [name for name in names if name.name not in ("run.json", "cases.jsonl", ".sfumato")]
    assert names
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_models_are_described(client: ServiceClient) -> None:
    body, slide, pair = client.models()
    assert (body["name"], body["dimensions"], slide["dimensions"]) == ("body", 3, 2)
    assert pair["channels"] == ["channel 1", "channel 2"]
    assert [c["value"] for c in body["classes"]] == [2, 7]
    assert all(c["colour"].startswith("#") for c in body["classes"])
    assert body["has_intervals"]
    assert body["spacing"] == [1, 1, 1]
    assert len(body["hash"]) == 16


def test_a_volume_comes_back_as_the_command_line_writes_it(
    client: ServiceClient, models: Path, scan: Path, tmp_path: Path
) -> None:
    job = client.send("body", [scan])
    assert job["state"] in ("queued", "running")
    assert job["name"] == "scan"
    done = finish(client, job)
    assert (done["state"], done["progress"], done["message"]) == ("done", 1, None)
    client.fetch(job["id"], tmp_path / "found")
    expected = segment_here(models / "body", scan, tmp_path / "expected", "--uncertainty")
    assert_same_files(tmp_path / "found", expected)


def test_the_viewers_files_say_what_the_command_lines_say(
    client: ServiceClient, models: Path, scan: Path, tmp_path: Path
) -> None:
    job = finish(client, client.send("body", [scan]))
    for result in job["results"]:
        path = tmp_path / "view" / result["name"]
        client.result(job["id"], result["name"], path)
        assert path.stat().st_size == result["bytes"]
    kinds = [result["kind"] for result in job["results"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "image": 1, "label": 1, "probability": 2, "contour": 6, "volumes": 1,
    }  # fmt: skip
    expected = segment_here(models / "body", scan, tmp_path / "expected", "--uncertainty")
    assert (tmp_path / "view" / "label.nii.gz").read_bytes() == (
        expected / "scan.nii.gz"
    ).read_bytes()
    image = nibabel.load(tmp_path / "view" / "image.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume())
    np.testing.assert_array_equal(image.affine, nibabel.load(scan).affine)
    probabilities = nibabel.load(expected / "probabilities" / "scan.nii.gz")
    for index, result in enumerate(r for r in job["results"] if r["kind"] == "probability"):
        assert result["class"] == (2, 7)[index]
        shown = nibabel.load(tmp_path / "view" / result["name"])
        np.testing.assert_array_equal(
            np.asarray(shown.dataobj), np.asarray(probabilities.dataobj)[..., 1 + index]
        )
    rows = json.loads((tmp_path / "view" / "volumes.json").read_text())
    local = json.loads((expected / "volumes.json").read_text())["volumes"]
    assert [row["ml"] for row in rows] == [row["volume_mm3"] / 1000 for row in local]
    assert [row["value"] for row in rows] == [2, 7]
    assert all(row["low_ml"] <= row["high_ml"] and row["level"] == 0.9 for row in rows)


def test_a_picture_comes_back_as_a_picture_and_is_shown_upright(
    client: ServiceClient, models: Path, picture: Path, tmp_path: Path
) -> None:
    job = finish(client, client.send("slide", [picture]))
    assert job["name"] == "slide 1"
    client.fetch(job["id"], tmp_path / "found")
    expected = segment_here(models / "slide", picture, tmp_path / "expected", "--uncertainty")
    assert_same_files(tmp_path / "found", expected)
    client.result(job["id"], "image.nii.gz", tmp_path / "image.nii.gz")
    shown = nibabel.load(tmp_path / "image.nii.gz")
    with Picture.open(picture) as opened:
        rows = np.asarray(opened)
    # In the patient's axes, columns run along the first and rows against the second.
    upright = nibabel.as_closest_canonical(shown)
    np.testing.assert_array_equal(np.asarray(upright.dataobj)[:, ::-1, 0].T, rows)


def test_less_is_written_on_request(client: ServiceClient, scan: Path, tmp_path: Path) -> None:
    options = {"probabilities": False, "uncertainty": False}
    job = finish(client, client.send("body", [scan], options))
    assert [result["kind"] for result in job["results"]] == ["image", "label"]
    client.fetch(job["id"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "scan.nii.gz"]


def test_channels_in_files_of_their_own_are_put_in_their_order(
    client: ServiceClient, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [save_nifti(folder / f"a_{i:04}.nii.gz", volume(i)) for i in range(2)]
    job = finish(client, client.send("pair", paths[::-1], name="a"))
    client.fetch(job["id"], tmp_path / "found")
    expected = segment_here(models / "pair", folder, tmp_path / "expected", "--uncertainty")
    assert_same_files(tmp_path / "found", expected)
    assert [r["name"] for r in job["results"] if r["kind"] == "image"] == [
        "image-2.nii.gz", "image.nii.gz",
    ]  # fmt: skip


@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_dicom_series_comes_back_as_dicom_and_can_be_shown(
    client: ServiceClient, models: Path, tmp_path: Path, is_zipped: bool
) -> None:
    values = volume(3).clip(0, 1000).astype(np.uint16)
    series = write_series(tmp_path / "series", values, "oblique")
    paths = sorted(series.iterdir())
    if is_zipped:
        paths = [Path(shutil.make_archive(str(tmp_path / "packed"), "zip", series))]
    job = finish(client, client.send("body", paths, name="series"))
    assert job["state"] == "done", job["message"]
    kinds = [result["kind"] for result in job["results"]]
    assert kinds.count("dicom_seg") == 2
    client.result(job["id"], "label.nii.gz", tmp_path / "label.nii.gz")
    out = tmp_path / "expected"
    segment_here(models / "body", series, out, "--format=nifti")
    assert (tmp_path / "label.nii.gz").read_bytes() == (out / "series.nii.gz").read_bytes()


def test_what_cannot_be_read_is_told_without_the_servers_paths(
    client: ServiceClient, tmp_path: Path, server: Any
) -> None:
    path = tmp_path / "Zzyzx_Quentin.nii.gz"
    path.write_bytes(b"no image at all")
    job = finish(client, client.send("body", [path]))
    assert job["state"] == "failed"
    assert job["message"].startswith("the image: is damaged, cut short")
    assert str(server.data) not in json.dumps(job["message"])
    assert "Zzyzx" not in server.log.read_text()


def test_a_job_can_be_deleted_with_its_files(
    client: ServiceClient, scan: Path, server: Any
) -> None:
    job = finish(client, client.send("body", [scan]))
    folder = server.data / "jobs" / job["id"]
    assert folder.is_dir()
    client.delete(job["id"])
    with pytest.raises(ServerError, match="there is no such job"):
        client.job(job["id"])
    assert not folder.exists()


def _refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(ServerError) as caught:
        ask()
    return str(caught.value)


def test_what_cannot_be_a_job_is_refused_at_once(
    client: ServiceClient, scan: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    assert "no model of that name; there is body" in _refusal(lambda: client.send("liver", [scan]))
    assert "a file is none of .nii.gz" in _refusal(lambda: client.send("body", [text]))
    assert "options must be JSON" in _refusal(lambda: client.send("body", [scan], {"level": 3}))
    assert "no file in the field 'image'" in _refusal(lambda: client.send("body", []))
    assert "name of a case" in _refusal(lambda: client.send("body", [scan], name="../up"))
