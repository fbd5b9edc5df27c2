"""A real server in a process of its own, with small models that nobody trained."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from tests.pipeline.conftest import write_volumes

from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.labels.classes import ClassList
from sfumato.model.network import NetworkSettings, build_network
from sfumato.model.trained import TrainedModel
from sfumato.service.client import ServiceClient
from sfumato.service.settings import ServiceSettings

TOKEN = "0123456789abcdef0123456789abcdef"
LARGEST = 100_000
WAIT_SECONDS = 300.0
"""Long, for other work on the machine may take all of it for a while."""


def make_model(n_axes: int, n_channels: int = 1) -> TrainedModel:
    network = NetworkSettings(
        features=(4, 8, 8),
        strides=((1,) * n_axes, (2,) * n_axes, (2,) * n_axes),
        kernels=((3,) * n_axes,) * 3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(n_axes)
        return TrainedModel(
            network=build_network(network, n_channels, 3).eval(),
            network_settings=network,
            n_channels=n_channels,
            window=(16,) * n_axes,
            mirror_axes=(),
            classes=ClassList(names=("background", "Liver", "core"), values=(0, 2, 7)),
            preprocessing=PreprocessingSettings(
                spacing_mm=(1.0,) * n_axes, channels=(ChannelSettings(),) * n_channels
            ),
            volume_errors={"Liver": (0.1,) * 30, "core": (0.2,) * 30},
        )


def volume(seed: int = 0, shape: tuple[int, ...] = (20, 24, 18)) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def save_nifti(path: Path, values: np.ndarray) -> Path:
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    affine[:3, 3] = (-3, 5, 7)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def finish(client: ServiceClient, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end of a job."""
    *_, last = client.watch(job["id"])
    return last


@dataclass(kw_only=True)
class Server:
    """A running `sfumato serve`."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = None) -> ServiceClient:
        return ServiceClient(self.url, token, WAIT_SECONDS)

    def events(self) -> list[dict[str, object]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_SECONDS)


def start_server(folder: Path, *arguments: object) -> Server:
    """Run the command `sfumato serve`."""
    data = ("--data", folder / "data")
    options = ("--port=0", "--device=cpu", "--engine=torch")
    return started(folder, "-m", "sfumato", "serve", *arguments, *data, *options)


def start_with(folder: Path, models: dict[str, Path], **settings: Any) -> Server:
    """Run a server with settings that the command line does not have."""
    chosen = ServiceSettings(
        models=models, data=folder / "data", device="cpu", engine="torch", **settings
    )
    code = (
        "import sys; from sfumato.service.serving import serve;"
        "from sfumato.service.settings import ServiceSettings;"
        "serve(ServiceSettings.model_validate_json(sys.argv[1]), '127.0.0.1', 0)"
    )
    return started(folder, "-c", code, chosen.model_dump_json())


def started(folder: Path, *arguments: object) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"log{len(list(folder.glob('log*')))}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    server = Server(process=process, log=log, port=0, data=folder / "data")
    wait_until(lambda: has_event(server, "listening"), server)
    listening = next(e for e in server.events() if e["event"] == "listening")
    server.port = int(str(listening["port"]))
    return server


def has_event(server: Server, name: str) -> bool:
    return any(event["event"] == name for event in server.events())


def wait_until(is_so: Callable[[], bool], server: Server | None = None) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < end, "it takes too long"
        assert server is None or server.process.poll() is None, server.log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_model(3).save(folder / "body" / "model")
    make_model(2).save(folder / "slide" / "model")
    make_model(3, n_channels=2).save(folder / "pair" / "model")
    return folder


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a volume, its axes all turned, with a label of two structures."""
    return write_volumes(tmp_path_factory.mktemp("training") / "balls", n_cases=2)


@pytest.fixture(scope="session")
def server(
    models: Path, training_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Give a server that many tests share; each looks at jobs of its own alone."""
    running = start_server(
        tmp_path_factory.mktemp("server"),
        *(models / name for name in ("body", "slide", "pair")),
        "--dataset",
        training_data,
    )
    wait_until(lambda: has_event(running, "worker_ready"), running)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def strict(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that wants a token, takes little and waits briefly."""
    running = start_with(
        tmp_path_factory.mktemp("strict"),
        {"body": models / "body"},
        token=TOKEN,
        upload_bytes=LARGEST,
        queue_length=2,
        idle_seconds=3.0,
    )
    yield running
    running.stop()


@pytest.fixture
def client(server: Server) -> ServiceClient:
    return server.client()


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nifti(tmp_path_factory.mktemp("scan") / "scan.nii.gz", volume())


@pytest.fixture(scope="session")
def long_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a volume that takes some seconds to segment."""
    return save_nifti(tmp_path_factory.mktemp("long") / "long.nii.gz", volume(2, (30, 30, 400)))


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "slide 1.png"
    Picture.fromarray(volume(1, (30, 40)).clip(0, 255).astype(np.uint8)).save(path)
    return path
