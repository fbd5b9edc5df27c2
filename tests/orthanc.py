"""Debian's Orthanc, a real archive, on loopback and with nothing but a folder of its own."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Archive:
    """An Orthanc that can be stopped and started again."""

    def __init__(self, folder: Path, plugins: tuple[Path, ...] = ()) -> None:
        if PROGRAM is None:
            pytest.skip("no Orthanc on this machine (apt install orthanc)")
        if missing := [path.name for path in plugins if not path.exists()]:
            pytest.skip(f"no {missing[0]} on this machine (apt install orthanc-dicomweb)")
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "HttpPort": self._port,
            "HttpBindAddresses": ["127.0.0.1"],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "Plugins": [str(path) for path in plugins],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self._port}/dicom-web"

    def start(self) -> None:
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), str(self._folder / "orthanc.json")],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(1200):
            try:
                self.ask("/system")
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                time.sleep(0.25)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=300)
            self._process = None

    def ask(self, place: str, content: bytes | None = None) -> bytes:
        address = f"http://127.0.0.1:{self._port}{place}"
        request = urllib.request.Request(address, data=content)
        with urllib.request.urlopen(request, timeout=300) as response:
            return response.read()

    def store(self, path: Path) -> str:
        return json.loads(self.ask("/instances", path.read_bytes()))["ID"]

    def series(self, modality: str) -> list[dict[str, str]]:
        """Return the main tags of every series of a kind."""
        all_tags = [
            json.loads(self.ask(f"/series/{one}")) for one in json.loads(self.ask("/series"))
        ]
        return [one for one in all_tags if one["MainDicomTags"]["Modality"] == modality]
