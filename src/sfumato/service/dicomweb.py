"""Fetching series from an archive by DICOMweb, and sending segmentations back to it.

An archive that is away for a while is asked again, ever more seldom. What was fetched, segmented
and sent back stands in the list of transfers, so that nothing is lost over a restart.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydantic import Field

from sfumato.errors import ConfigError
from sfumato.service.job_files import job_files, remove_folder
from sfumato.service.jobs import JobList
from sfumato.service.logs import log
from sfumato.service.settings import ServiceSettings
from sfumato.service.transfers import Transfer, TransferList
from sfumato.settings import Settings

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

_LOOK_SECONDS = 0.25
_ANSWER_SECONDS = 60.0
_PAGE = 500
_SERIES, _STUDY, _N_IMAGES = "0020000E", "0020000D", "00201209"


class ArchiveSettings(Settings):
    """Where an archive is, and what of it is segmented without being asked for.

    Attributes:
        url: Its DICOMweb address.
        credentials: Name and password with a colon between; None where it asks for none.
        watch_model: What segments every series that arrives; None where none shall be.
        watch_modalities: Kinds of series that are.
        watch_seconds: How often the archive is looked at. A series is taken once it had the same
            number of images twice.
    """

    url: str
    credentials: str | None = None
    watch_model: str | None = None
    watch_modalities: tuple[str, ...] = ("CT", "MR")
    watch_seconds: float = Field(default=30.0, gt=0)


def read_credentials(path: Path) -> str:
    """Read name and password from a file.

    Raises:
        ConfigError: If there is no colon between them.
    """
    text = path.read_text(encoding="utf-8").strip()
    if ":" not in text:
        raise ConfigError(f"{path}: must hold a name and a password with a colon between them")
    return text


class Exchange:
    """Works through the list of transfers in a thread of its own.

    Args:
        archive: Where the archive is.
        settings: The server's.
        jobs: Its list of jobs.
    """

    def __init__(self, archive: ArchiveSettings, settings: ServiceSettings, jobs: JobList) -> None:
        self._archive, self._settings, self._jobs = archive, settings, jobs
        self.transfers = TransferList(settings.data / "transfers.sqlite")
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dicomweb", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is on its way goes on after the next start."""
        self._is_closing.set()
        self._thread.join(_ANSWER_SECONDS)
        self.transfers.close()

    def _work(self) -> None:
        looked = float("-inf")
        while not self._is_closing.wait(_LOOK_SECONDS):
            if self._archive.watch_model and (
                time.monotonic() - looked > self._archive.watch_seconds
            ):
                try:
                    self._watch(self._archive.watch_model)
                except Exception as error:  # The archive is away; it is looked at again.
                    log("archive_error", logging.WARNING, error=type(error).__name__)
                looked = time.monotonic()
            for transfer in self.transfers.due():
                if self._is_closing.is_set():
                    return
                self._advance(transfer)

    def _watch(self, model: str) -> None:
        found = list(self._search())
        if not self.transfers.is_watched(model):
            self.transfers.begin_watch(model, [series for series, _, _ in found])
        for series, study, n_images in found:
            self.transfers.see(series, study, model, n_images)

    def _search(self) -> Iterator[tuple[str, str, int]]:
        """List series by their UID, that of the study, and the number of images."""
        client = self._client()
        for modality in self._archive.watch_modalities:
            offset = 0
            while True:
                page = client.search_for_series(
                    search_filters={"Modality": modality},
                    fields=["NumberOfSeriesRelatedInstances"],
                    limit=_PAGE,
                    offset=offset,
                )
                for one in page:
                    yield str(_first(one, _SERIES)), str(_first(one, _STUDY)), _count(one)
                if len(page) < _PAGE:
                    break
                offset += _PAGE

    def _advance(self, transfer: Transfer) -> None:
        try:
            if transfer.state == "wanted":
                self._pull(transfer)
            else:
                self._push_if_done(transfer)
        except _RefusedError as error:
            self.transfers.set_failed(transfer.series, str(error))
        except Exception as error:
            # Whatever the archive or the network did; its text may name the patient.
            log("archive_error", logging.WARNING, error=type(error).__name__)
            self.transfers.try_later(transfer, "the archive does not answer as it should")

    def _pull(self, transfer: Transfer) -> None:
        if self._jobs.counts().get("queued", 0) >= self._settings.queue_length:
            return
        job_id = secrets.token_hex(16)
        folder = self._settings.data / "uploads" / job_id
        try:
            (folder / "input").mkdir(parents=True)
            n_images = self._fetch(transfer, folder / "input")
            files = job_files(self._settings.data, job_id)
            folder.rename(files.folder)
        finally:
            remove_folder(folder)
        options = {
            "probabilities": False,
            "uncertainty": False,
            "level": 0.9,
            "postprocessing": True,
            "format": "same",
            "file_names": [],
        }
        # Should the server end between these two, the series is fetched and segmented again.
        self._jobs.add(job_id, transfer.model, "series", options, {"kind": "dicomweb"})
        self.transfers.set_working(transfer.series, job_id)
        log("series_fetched", job=job_id, images=n_images)

    def _fetch(self, transfer: Transfer, folder: Path) -> int:
        n_bytes = n_images = 0
        client = self._client()
        for n_images, dataset in enumerate(
            client.iter_series(transfer.study, transfer.series), start=1
        ):
            path = folder / f"{n_images - 1:05}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            n_bytes += path.stat().st_size
            if n_bytes > self._settings.unpacked_bytes:
                raise _RefusedError("the series is larger than an image may be here")
        if n_images == 0:
            raise _RefusedError("the archive has no images of the series")
        return n_images

    def _push_if_done(self, transfer: Transfer) -> None:
        assert transfer.job_id is not None
        job = self._jobs.find(transfer.job_id)
        if job is None:
            raise _RefusedError("its job was deleted")
        if not job.is_finished:
            return
        if job.state != "done":
            raise _RefusedError(job.message or "its job was cancelled")
        files = job_files(self._settings.data, job.id)
        found = [result.name for result in job.results if result.kind == "dicom_seg"]
        datasets = [pydicom.dcmread(files.view / name) for name in found]
        answer = self._client().store_instances(datasets, transfer.study)
        if len(answer.get("FailedSOPSequence") or []):
            raise _RefusedError("the archive refuses the segmentation")
        self.transfers.set_done(transfer.series)
        log("segmentation_sent", job=job.id)

    def _client(self) -> "DICOMwebClient":
        import requests
        from dicomweb_client import DICOMwebClient

        session = requests.Session()
        if self._archive.credentials is not None:
            name, _, password = self._archive.credentials.partition(":")
            session.auth = (name, password)
        client = DICOMwebClient(self._archive.url, session=session, timeout=_ANSWER_SECONDS)
        client.set_http_retry_params(retry=False)  # That is ours to do, and to stop doing.
        return client


class _RefusedError(Exception):
    """Nothing comes of a series, and asking again would not help."""


def _first(found: dict[str, Any], tag: str) -> Any:
    return found[tag]["Value"][0]


def _count(found: dict[str, Any]) -> int:
    """Return how many images there are; 0 where the archive does not say."""
    try:
        return int(_first(found, _N_IMAGES))
    except (KeyError, IndexError, ValueError):
        return 0
