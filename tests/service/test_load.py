"""Many clients at once, for a short while; and requests that a machine thinks up."""

import importlib.util
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from tests.service.conftest import Server, finish

from sfumato.errors import ServerError

ROOT = Path(__file__).parents[2]
N_UPLOADS = 100
UPLOAD_BYTES = 3_000_000


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    specification = importlib.util.spec_from_file_location("serve", ROOT / "benchmarks/serve.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["serve"] = module  # Dataclasses look themselves up there.
    specification.loader.exec_module(module)
    return module


def test_no_job_is_lost_under_load(server: Server, scan: Path, benchmark: ModuleType) -> None:
    figures = benchmark.soak(server.url, "body", scan, seconds=2.0, n_clients=4)
    assert figures.n_jobs >= 5
    assert figures.n_lost == 0


def most_memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_a_hundred_uploads_at_once_take_little_memory(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "large.nii"
    path.write_bytes(secrets.token_bytes(UPLOAD_BYTES))
    before = most_memory_mib(server.process.pid)

    def send(_number: int) -> str:
        client = server.client()
        while True:
            try:
                return finish(client, client.send("body", [path]))["state"]
            except ServerError as error:
                if error.retry_seconds is None:
                    raise

    with ThreadPoolExecutor(N_UPLOADS) as pool:
        states = list(pool.map(send, range(N_UPLOADS)))
    assert states == ["failed"] * N_UPLOADS  # It is no image.
    grown = most_memory_mib(server.process.pid) - before
    assert grown < N_UPLOADS * UPLOAD_BYTES / 2**20 / 3
    assert list((server.data / "uploads").iterdir()) == []


def test_schemathesis_finds_nothing(server: Server, scan: Path, tmp_path: Path) -> None:
    finish(server.client(), server.client().send("body", [scan]))  # So that there are results.
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_headers_conformance,response_schema_conformance,negative_data_rejection"
    )
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run",
        f"{server.url}/v1/openapi.json", "--checks", checks, "--max-examples=5",
        "--phases=examples,coverage,fuzzing", "--seed=1", "--no-color",
        "--exclude-path-regex=events$",  # A stream that lasts as long as a job.
    ]  # fmt: skip
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=dict(os.environ)
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
