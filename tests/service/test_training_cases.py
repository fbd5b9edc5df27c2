"""The tab of labels: planes of a training case, computed anew for every setting."""

import io
import json
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from tests.pipeline.conftest import VOLUME_SHAPE, VOLUME_VALUES, ball
from tests.service.conftest import Server, finish

from sfumato.cases.dataset import Dataset
from sfumato.labels.softening import soften_image_label
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels
from sfumato.service.client import ServiceClient


def ask(server: Server, place: str) -> tuple[bytes, Message]:
    with urllib.request.urlopen(f"{server.url}/v1/{place}") as response:
        return response.read(), response.headers


def plane(server: Server, query: str) -> tuple[np.ndarray, Message]:
    content, headers = ask(server, f"cases/case_00/plane?{query}")
    with Picture.open(io.BytesIO(content)) as picture:
        return np.asarray(picture), headers


def test_training_cases_are_listed_and_described(server: Server) -> None:
    assert json.loads(ask(server, "cases")[0])[0] == {"id": "case_00", "name": "case_00"}
    detail = json.loads(ask(server, "cases/case_00")[0])
    # The array's axes run to superior, left and posterior, so they are in order already.
    assert detail["shape"] == list(VOLUME_SHAPE[:1] + VOLUME_SHAPE[2:] + VOLUME_SHAPE[1:2])
    np.testing.assert_allclose(detail["spacing"], [2.5, 1.2, 1.0])
    assert [c["value"] for c in detail["classes"]] == [2, 7]
    assert detail["defaults"]["scale_mm"] == pytest.approx(1)
    assert detail["planes"] == VOLUME_SHAPE[0]


def test_planes_are_seen_from_above_with_the_front_up_and_the_right_on_the_left(
    server: Server,
) -> None:
    _, label = ball(0)
    found, _ = plane(server, "axis=0&index=3&what=hard")
    values = np.array(VOLUME_VALUES, np.uint8)[label]
    # Superior comes first; the second array axis runs to the left, the third to the back.
    np.testing.assert_array_equal(found, values[::-1][3].T)


def test_a_soft_plane_is_what_the_core_computes(server: Server, training_data: Path) -> None:
    case = Dataset.open(training_data).load("case_00")
    assert case.label is not None
    settings = SuperpixelSettings(size_mm=5.0, compactness=0.3)
    expected = soften_image_label(
        case.image, case.label, case.geometry.spacing, 3, settings, scale_mm=2.0
    )
    query = "axis=0&index=3&what=soft&class=7&size=5&compactness=0.3&scale_mm=2"
    found, headers = plane(server, query)
    difference = np.abs(found / 255 - expected[2][::-1][3].T)
    assert difference.max() < 1.5 / 255
    share = np.count_nonzero(expected.max(axis=0) < 1) / case.label.size
    assert float(headers["X-Softened-Share"]) == pytest.approx(share, rel=1e-4)
    assert float(headers["X-Milliseconds"]) > 0


def test_superpixels_come_by_number_and_change_with_the_settings(server: Server) -> None:
    planes = [plane(server, f"axis=1&index=8&what=superpixels&size={size}")[0] for size in (3, 6)]
    numbers = []
    for found in planes:
        assert found.shape[-1] == 4
        is_there = found[..., 3] == 255
        assert is_there.any()
        number = found[is_there].astype(int) @ [1, 256, 65536, 0]
        numbers.append(len(np.unique(number)))
    assert numbers[0] > numbers[1] > 1


@pytest.mark.parametrize("what", ["image", "hard"])
def test_every_axis_can_be_cut(server: Server, what: str) -> None:
    shape = json.loads(ask(server, "cases/case_00")[0])["shape"]
    for axis in range(3):
        found, _ = plane(server, f"axis={axis}&index=0&what={what}")
        assert list(found.shape) == shape[:axis] + shape[axis + 1 :]


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("cases/nobody", 404),
        ("cases/..%2F..%2Fetc", 404),
        ("cases/case_00/plane?what=hard&axis=0&index=99", 422),
        ("cases/case_00/plane?what=soft&softener=magic", 422),
        ("cases/case_00/plane?what=soft&size=nan", 422),
        ("cases/case_00/plane?what=soft&class=3", 422),
        ("cases/case_00/plane?what=soft&scale_mm=1000000", 422),
    ],
)
def test_what_is_not_there_is_refused(server: Server, place: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, place)
    assert caught.value.code == code
    assert set(json.loads(caught.value.read())) == {"detail"}
    caught.value.close()


def test_superpixels_of_an_image_that_was_sent_are_numbered_on_request(
    server: Server, client: ServiceClient, scan: Path, tmp_path: Path
) -> None:
    job = finish(client, client.send("body", [scan]))
    content, _ = ask(server, f"jobs/{job['id']}/superpixels?size=6&compactness=0.2")
    (tmp_path / "found.nii.gz").write_bytes(content)
    found = nibabel.load(tmp_path / "found.nii.gz")
    image = nibabel.load(scan)
    values = np.asarray(image.dataobj)[np.newaxis]
    spacing = tuple(float(s) for s in image.header.get_zooms())
    settings = SuperpixelSettings(size_mm=6.0, compactness=0.2)
    superpixels = compute_superpixels(values, spacing, settings)
    np.testing.assert_array_equal(found.affine, image.affine)
    np.testing.assert_array_equal(np.asarray(found.dataobj), superpixels)
