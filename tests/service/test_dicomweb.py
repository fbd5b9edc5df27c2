"""Series fetched from a real archive, segmented, and sent back, with restarts in the middle."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests.dicom_series import PATIENT, write_series
from tests.orthanc import DICOMWEB, Archive
from tests.service.conftest import Server, start_server, volume, wait_until

from sfumato.service.transfers import MOST_ATTEMPTS, TransferList


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    running = Archive(tmp_path_factory.mktemp("orthanc"), (DICOMWEB,))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def store_series(archive: Archive, folder: Path, seed: int) -> tuple[str, str]:
    """File a series of its own study; return the UIDs of both."""
    values = volume(seed).clip(0, 1000).astype(np.uint16)
    paths = sorted(write_series(folder / f"series{seed}", values, "oblique", seed=seed).iterdir())
    for path in paths:
        archive.store(path)
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID)


def ask(server: Server, body: dict[str, str] | None = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{server.url}/v1/dicomweb", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.loads(response.read())


def state_of(server: Server, series: str) -> str:
    return next((one["state"] for one in ask(server) if one["series"] == series), "unknown")


def sources_of_segmentations(archive: Archive, folder: Path) -> list[str]:
    """Return the series that each segmentation in the archive refers to."""
    found = []
    for one in archive.series("SEG"):
        path = folder / "found.dcm"
        path.write_bytes(archive.ask(f"/instances/{one['Instances'][0]}/file"))
        dataset = pydicom.dcmread(path)
        assert dataset.SegmentSequence[0].SegmentLabel == "Liver"
        found.append(str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID))
    return found


def test_series_are_fetched_segmented_and_sent_back_over_restarts(
    archive: Archive, models: Path, tmp_path: Path
) -> None:
    old = store_series(archive, tmp_path, 1)
    options = ("--dicomweb", archive.dicomweb, "--watch", "body", "--watch-seconds=0.3")
    server = start_server(tmp_path / "server", models / "body", *options)
    try:
        # What was there before is left alone until somebody asks for it.
        time.sleep(1)
        assert state_of(server, old[1]) == "unknown"
        ask(server, {"model": "body", "study": old[0], "series": old[1]})
        wait_until(lambda: state_of(server, old[1]) == "done", server)
        assert sources_of_segmentations(archive, tmp_path) == [old[1]]

        # The archive goes away while a series is wanted; it arrives all the same.
        second = store_series(archive, tmp_path, 2)
        archive.stop()
        ask(server, {"model": "body", "study": second[0], "series": second[1]})
        wait_until(lambda: ask(server)[0]["message"] is not None, server)
        # Nor is it lost when the server is killed meanwhile.
        server.kill()
        server = start_server(tmp_path / "server", models / "body", *options)
        assert state_of(server, second[1]) == "wanted"
        archive.start()
        wait_until(lambda: state_of(server, second[1]) == "done", server)

        # What arrives now is segmented by itself.
        third = store_series(archive, tmp_path, 3)
        wait_until(lambda: state_of(server, third[1]) == "done", server)
        found = sources_of_segmentations(archive, tmp_path)
        assert sorted(found) == sorted([old[1], second[1], third[1]])
        told = json.dumps(ask(server)) + server.log.read_text()
        for value in PATIENT.values():
            assert value not in told
    finally:
        server.stop()


def test_without_an_archive_there_is_nothing_to_ask(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server)
    assert caught.value.code == 404
    caught.value.close()


def test_a_series_is_wanted_once_it_has_stopped_growing(tmp_path: Path) -> None:
    transfers = TransferList(tmp_path / "transfers.sqlite")
    transfers.begin_watch("body", ["1.1"])
    for n_images in (3, 5):
        transfers.see("1.1", "2.1", "body", n_images)
        transfers.see("1.2", "2.1", "body", n_images)
        assert transfers.due() == []
    transfers.see("1.2", "2.1", "body", 5)
    (due,) = transfers.due()
    assert (due.series, due.state, due.n_images) == ("1.2", "wanted", 5)
    transfers.close()


def test_an_archive_that_never_answers_is_given_up(tmp_path: Path) -> None:
    transfers = TransferList(tmp_path / "transfers.sqlite")
    transfers.want("1.2", "2.1", "body")
    for attempt in range(MOST_ATTEMPTS):
        (transfer,) = transfers.newest(1)
        assert (transfer.state, transfer.attempts) == ("wanted", attempt)
        transfers.try_later(transfer, "away")
    (transfer,) = transfers.newest(1)
    assert (transfer.state, transfer.message) == ("failed", "away")
    assert transfers.want("1.2", "2.1", "body").state == "wanted"
    transfers.close()
