"""A server under load for a long time: requests a second, waiting times, lost jobs, memory.

    python benchmarks/serve.py RUN/model scan.nii.gz --seconds 3600 --clients 8

Starts `sfumato serve` on the model and lets clients send the image again and again, watch the job,
fetch the segmentation, compare it with the first one, and delete the job. Prints requests a second,
the 95th percentile of the time to an answer (without uploads' and results' bodies), jobs that were
lost or came out otherwise, and the memory of the server's process and of the one that segments, in
the middle and at the end: both must be flat.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.errors import ServerError
from sfumato.service.client import ServiceClient


@dataclass
class Figures:
    """What clients measured together."""

    seconds: list[float] = field(default_factory=list)
    n_jobs: int = 0
    n_lost: int = 0
    n_refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, ask: Callable[[], Any]) -> Any:
        """Ask, and note how long the answer took."""
        started = time.perf_counter()
        try:
            return ask()
        finally:
            with self.lock:
                self.seconds.append(time.perf_counter() - started)

    def percentile(self, share: float) -> float:
        """Return the time below which a share of all answers lies."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def soak(url: str, model: str, image: Path, seconds: float, n_clients: int) -> Figures:
    """Let clients ask for a while; all jobs that were begun are waited for."""
    figures, end = Figures(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder) / "expected"
        one_job(ServiceClient(url, timeout_seconds=300), model, image, figures, expected)

        def ask_on(number: int) -> None:
            client = ServiceClient(url, timeout_seconds=300)
            while time.monotonic() < end:
                found = Path(folder) / f"found{number}"
                is_same = one_job(client, model, image, figures, found) and (
                    found.read_bytes() == expected.read_bytes()
                )
                figures.n_lost += not is_same

        threads = [threading.Thread(target=ask_on, args=(i,)) for i in range(n_clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return figures


def one_job(client: ServiceClient, model: str, image: Path, figures: Figures, found: Path) -> bool:
    """Send the image, wait, fetch the segmentation and delete the job; tell whether it was done."""
    while True:
        try:
            job = figures.timed(lambda: client.send(model, [image]))
            break
        except ServerError as error:
            if error.retry_seconds is None:
                raise
            figures.n_refused += 1
            time.sleep(0.1)
    figures.n_jobs += 1
    *_, ended = client.watch(job["id"])
    figures.timed(lambda: client.job(job["id"]))
    if ended["state"] == "done":
        figures.timed(lambda: client.result(job["id"], "label.nii.gz", found))
    figures.timed(lambda: client.delete(job["id"]))
    return ended["state"] == "done"


def memory_mib(pid: int) -> float:
    """Return the memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def wait_for(log: Path, event: str) -> dict[str, Any]:
    """Wait until the server's log tells of an event."""
    while True:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == event:
                return dict(json.loads(line))
        time.sleep(0.1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ["serve", str(options.model), "--port=0", "--data", f"{folder}/data"]
        with log.open("wb") as file:
            server = subprocess.Popen([sys.executable, "-m", "sfumato", *command], stderr=file)
        try:
            url = f"http://127.0.0.1:{wait_for(log, 'listening')['port']}"
            pids = {"server": server.pid, "worker": int(wait_for(log, "worker_ready")["pid"])}
            (model,) = [one["name"] for one in ServiceClient(url).models()]
            for part in ("first half", "second half"):
                started = time.monotonic()
                half = options.seconds / 2
                figures = soak(url, model, options.image, half, options.clients)
                took = time.monotonic() - started
                held = ", ".join(f"{name} {memory_mib(pid):.0f} MiB" for name, pid in pids.items())
                print(
                    f"{part}: {figures.n_jobs} jobs, {len(figures.seconds) / took:.1f} requests/s,"
                    f" p95 {1000 * figures.percentile(0.95):.0f} ms,"
                    f" lost {figures.n_lost}, refused for a while {figures.n_refused}; {held}",
                    flush=True,
                )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
