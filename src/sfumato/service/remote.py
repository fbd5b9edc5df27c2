"""Segmenting many images on a server, into the files that `sfumato segment` writes by itself."""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sfumato.cases.dataset import CaseRecord
from sfumato.errors import ServerError, SfumatoError, unknown_name
from sfumato.image.dicom_files import DicomFile, find_series, read_whole
from sfumato.image.files import is_dicom
from sfumato.service.client import ServiceClient
from sfumato.storage import write_text
from sfumato.workflow.failures import Failure
from sfumato.workflow.tracking import Track, silently
from sfumato.workflow.volumes import VOLUMES

_AHEAD = 2
"""How many images are on the server at a time: while it works on one, the next is sent."""
_RUN = "run.json"
_OF_EACH_CASE = ("seconds", "volumes_ml", "areas_mm2", "warnings")
_OF_ALL_CASES = (_RUN, f"{VOLUMES}.json", f"{VOLUMES}.csv")


def find_model(client: ServiceClient, name: str) -> dict[str, Any]:
    """Return what a server says of a model.

    Raises:
        ServerError: If it has none of that name, or cannot be reached.
    """
    models = {model["name"]: model for model in client.models()}
    if name not in models:
        raise ServerError(unknown_name("model of the server", name, models))
    return models[name]


def segment_on_server(
    client: ServiceClient,
    model: str,
    records: Sequence[CaseRecord],
    out: Path,
    options: Mapping[str, Any],
    track: Track = silently,
) -> list[Failure]:
    """Have many cases segmented, and write what becomes of them into a folder.

    A bad case does not stop the others. What was fetched is deleted on the server.

    Args:
        client: The server.
        model: Name of its model.
        records: Images to segment.
        out: The folder.
        options: What is written of each case.
        track: Told how far the job is.

    Returns:
        The cases that could not be segmented.

    Raises:
        ServerError: If the server cannot be reached or refuses.
    """
    failures: list[Failure] = []
    with TemporaryDirectory() as folder:
        parts: list[Path] = []
        jobs = _sent_ahead(client, model, records, options)
        for record, job in track(jobs, "Segmenting", len(records)):
            if isinstance(job, SfumatoError):
                failures.append(Failure.of(record.id, job))
                continue
            *_, ended = client.watch(job["id"])
            if ended["state"] != "done":
                reason = ended["message"] or "it was cancelled on the server"
                failures.append(Failure(case_id=record.id, reason=reason))
            else:
                part = Path(folder) / str(len(parts))
                for name in client.fetch(job["id"], part):
                    if name.as_posix() not in _OF_ALL_CASES:
                        _move(part / name, out / name)
                parts.append(part)
            client.delete(job["id"])
        _write_joined(parts, failures, out)
    return failures


def _sent_ahead(
    client: ServiceClient, model: str, records: Sequence[CaseRecord], options: Mapping[str, Any]
) -> Iterator[tuple[CaseRecord, dict[str, Any] | SfumatoError]]:
    """Send cases in their order, each before the result of the one before is waited for."""
    waiting: deque[tuple[CaseRecord, dict[str, Any] | SfumatoError]] = deque()
    for record in records:
        waiting.append((record, _send(client, model, record, options)))
        if len(waiting) == _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _send(
    client: ServiceClient, model: str, record: CaseRecord, options: Mapping[str, Any]
) -> dict[str, Any] | SfumatoError:
    """Send a case, or return what is wrong with it."""
    try:
        with _files_of(record) as paths:
            while True:
                try:
                    return client.send(model, paths, options, record.id)
                except ServerError as error:
                    if error.retry_seconds is None:
                        raise
                    time.sleep(error.retry_seconds)
    except ServerError:
        raise
    except SfumatoError as error:
        return error


@contextmanager
def _files_of(record: CaseRecord) -> Iterator[list[Path]]:
    """Name the files of a case; those that lie in an archive are unpacked for a while."""
    if not is_dicom(record.image_paths[0]):
        yield list(record.image_paths)
        return
    with ExitStack() as stack:
        files = [file for place in record.image_paths for file in find_series(place)]
        if any(file.member is not None for file in files):
            folder = stack.enter_context(TemporaryDirectory())
            yield _unpacked(files, Path(folder))
        else:
            yield [file.path for file in files]


def _unpacked(files: Sequence[DicomFile], folder: Path) -> list[Path]:
    paths = []
    for index, dataset in enumerate(read_whole(files, has_pixels=True)):
        paths.append(folder / f"{index:05}.dcm")
        dataset.save_as(paths[-1])
    return paths


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The temporary folder may be on another disk, across which nothing is renamed.
    target.write_bytes(source.read_bytes())
    source.unlink()


def _write_joined(parts: Sequence[Path], failures: Sequence[Failure], out: Path) -> None:
    """Join what is written once for all cases."""
    runs = [json.loads((part / _RUN).read_text(encoding="utf-8")) for part in parts]
    if not runs:
        return
    of_cases = [name for name in _OF_EACH_CASE if name in runs[0]]
    report = {
        **runs[0],
        **{name: {k: v for run in runs for k, v in run[name].items()} for name in of_cases},
        "failures": {failure.case_id: failure.reason for failure in failures},
    }
    write_text(out / _RUN, json.dumps(report, indent=2))
    tables = [part / f"{VOLUMES}.json" for part in parts if (part / f"{VOLUMES}.json").exists()]
    if not tables:
        return
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in tables]
    joined = {
        **documents[0],
        "notes": list(dict.fromkeys(note for one in documents for note in one["notes"])),
        "volumes": [row for one in documents for row in one["volumes"]],
    }
    text = json.dumps(joined, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / f"{VOLUMES}.json", text + "\n")
    lines = [path.with_suffix(".csv").read_text(encoding="utf-8").splitlines() for path in tables]
    rows = [lines[0][0], *(row for table in lines for row in table[1:])]
    write_text(out / f"{VOLUMES}.csv", "\n".join(rows) + "\n")
