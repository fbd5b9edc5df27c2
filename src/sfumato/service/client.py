"""A client for `sfumato serve`, with nothing but the standard library.

```python
client = ServiceClient("http://127.0.0.1:8765")
job = client.send("run", [Path("scan.nii.gz")])
for job in client.watch(job["id"]):
    print(job["state"], job["progress"])
client.fetch(job["id"], Path("out"))
```
"""

import json
import secrets
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from sfumato.errors import ServerError
from sfumato.storage import atomic_path, os_reason

_PIECE = 1 << 20


class ServiceClient:
    """Asks a server to segment images.

    Args:
        url: Where it is, such as `http://127.0.0.1:8765`.
        token: What it wants to be shown, if anything.
        timeout_seconds: How long it may be silent.
    """

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(f"{url}: is no address of a server; give one like http://host:8765")
        self._url, self._parts = url.rstrip("/"), parts
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout_seconds = timeout_seconds

    def models(self) -> list[dict[str, Any]]:
        """List what segments there.

        Raises:
            ServerError: If the server cannot be reached or refuses; so do all other methods.
        """
        models: list[dict[str, Any]] = self._ask("GET", "/v1/models")
        return models

    def send(
        self,
        model: str,
        paths: Sequence[Path],
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Send an image.

        Args:
            model: Name of the model.
            paths: The files of one image: one, a file for each channel, or DICOM files.
            options: What is written of it.
            name: What the case is called.

        Returns:
            The job.
        """
        texts = {"model": model, "options": json.dumps(dict(options or {}))}
        if name is not None:
            texts["name"] = name
        form = _Form(texts, paths)
        headers = {"Content-Type": form.content_type, "Content-Length": str(form.n_bytes)}
        with self._open("POST", "/v1/jobs", form.pieces(), headers) as response:
            job: dict[str, Any] = json.load(response)
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        """Ask how far a job is."""
        job: dict[str, Any] = self._ask("GET", f"/v1/jobs/{job_id}")
        return job

    def watch(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Tell how far a job is, whenever that changes, until it has ended.

        A stream that ends early, as when the server starts again, is asked for again.
        """
        job: dict[str, Any] = {"finished": None}
        while job["finished"] is None:
            with self._open("GET", f"/v1/jobs/{job_id}/events") as response:
                for line in response:
                    if line.startswith(b"data: "):
                        job = json.loads(line[6:])
                        yield job

    def fetch(self, job_id: str, out: Path) -> list[Path]:
        """Write what became of a job into a folder, as `sfumato segment` does.

        Returns:
            The files, relative to the folder.
        """
        names = [Path(file["name"]) for file in self._ask("GET", f"/v1/jobs/{job_id}/output")]
        for name in names:
            if name.is_absolute() or ".." in name.parts:
                raise ServerError(f"{self._url}: names a file outside of {out}")
            self._download(f"/v1/jobs/{job_id}/output/{quote(name.as_posix())}", out / name)
        return names

    def result(self, job_id: str, name: str, path: Path) -> None:
        """Write one of the files that a viewer shows."""
        self._download(f"/v1/jobs/{job_id}/results/{quote(name)}", path)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job."""
        job: dict[str, Any] = self._ask("POST", f"/v1/jobs/{job_id}/cancel")
        return job

    def delete(self, job_id: str) -> None:
        """Remove a job with all of its files."""
        with self._open("DELETE", f"/v1/jobs/{job_id}"):
            pass

    def _ask(self, method: str, place: str) -> Any:
        with self._open(method, place) as response:
            return json.load(response)

    def _download(self, place: str, path: Path) -> None:
        with (
            self._open("GET", place) as response,
            atomic_path(path) as temporary,
            temporary.open("wb") as file,
        ):
            while piece := response.read(_PIECE):
                file.write(piece)

    @contextmanager
    def _open(
        self,
        method: str,
        place: str,
        body: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        connection = self._connect()
        try:
            # It may refuse before it has all; what it says can still be read.
            with suppress(BrokenPipeError, ConnectionResetError):
                address = self._parts.path.rstrip("/") + place
                connection.request(method, address, body, self._headers | dict(headers or {}))
            with connection.getresponse() as response:
                if response.status >= 400:
                    retry = response.headers.get("Retry-After", "")
                    seconds = float(retry) if retry.isdigit() else None
                    raise ServerError(f"{self._url}: {_detail(response)}", seconds)
                yield response
        except (OSError, HTTPException) as error:
            reason = os_reason(error) if isinstance(error, OSError) else "no answer"
            raise ServerError(f"{self._url}: cannot be reached ({reason})") from error
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=self._timeout_seconds)
        context = ssl.create_default_context()
        return HTTPSConnection(host, port, timeout=self._timeout_seconds, context=context)


def _detail(response: HTTPResponse) -> str:
    try:
        return str(json.loads(response.read(_PIECE))["detail"])
    except (ValueError, LookupError, TypeError, OSError, HTTPException):
        return f"answers with status {response.status}"


class _Form:
    """A multipart body that is read from the disk as it is sent."""

    def __init__(self, texts: Mapping[str, str], paths: Sequence[Path]) -> None:
        self._boundary = secrets.token_hex(16)
        self._texts = b"".join(
            f"{self._start(name)}\r\n\r\n{text}\r\n".encode() for name, text in texts.items()
        )
        self._files = [(self._file_start(path), path) for path in paths]
        self._end = f"--{self._boundary}--\r\n".encode()

    def _start(self, name: str) -> str:
        return f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"'

    def _file_start(self, path: Path) -> bytes:
        name = path.name.replace("\\", "_").replace('"', "%22").replace("\r", "").replace("\n", "")
        kind = "Content-Type: application/octet-stream"
        return f'{self._start("image")}; filename="{name}"\r\n{kind}\r\n\r\n'.encode()

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def n_bytes(self) -> int:
        files = sum(len(start) + path.stat().st_size + 2 for start, path in self._files)
        return len(self._texts) + files + len(self._end)

    def pieces(self) -> Iterator[bytes]:
        yield self._texts
        for start, path in self._files:
            yield start
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
            yield b"\r\n"
        yield self._end
