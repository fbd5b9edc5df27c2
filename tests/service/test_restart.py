"""Servers that are killed, stopped and started again, and what becomes of their jobs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.service.conftest import Server, finish, start_with, wait_until

from sfumato.errors import FileError, ServerError
from sfumato.service.client import ServiceClient
from sfumato.service.jobs import MOST_ATTEMPTS, JobList
from sfumato.storage import hold_folder


def is_in(client: ServiceClient, job: dict[str, Any], *states: str) -> Callable[[], bool]:
    return lambda: client.job(job["id"])["state"] in states


def is_gone(pid: int) -> Callable[[], bool]:
    """Tell whether a process has ended; one that nobody waited for has too."""

    def check() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except OSError:
            return True

    return check


def worker_of(server: Server) -> int:
    ready = [event for event in server.events() if event["event"] == "worker_ready"]
    return int(str(ready[-1]["pid"]))


def test_what_a_killed_server_finished_stays_and_what_it_had_begun_runs_again(
    models: Path, scan: Path, long_scan: Path, tmp_path: Path
) -> None:
    body = {"body": models / "body"}
    first = start_with(tmp_path, body)
    try:
        client = first.client()
        done = finish(client, client.send("body", [scan]))
        running, waiting = client.send("body", [long_scan]), client.send("body", [scan])
        wait_until(lambda: client.job(running["id"])["progress"] > 0, first)
        with pytest.raises(FileError, match="is being written by another process"):
            hold_folder(first.data).__enter__()
    finally:
        first.kill()
    wait_until(is_gone(worker_of(first)))
    second = start_with(tmp_path, body, grace_seconds=600.0)
    try:
        client = second.client()
        client.fetch(done["id"], tmp_path / "done")
        for job in (running, waiting):
            assert finish(client, job)["state"] == "done"
            client.fetch(job["id"], tmp_path / job["id"])
        label = (tmp_path / "done" / "scan.nii.gz").read_bytes()
        assert (tmp_path / waiting["id"] / "scan.nii.gz").read_bytes() == label
        kill_the_worker_at_work(second, long_scan)
        stop_at_work(second, long_scan)
    finally:
        second.stop()


def kill_the_worker_at_work(server: Server, long_scan: Path) -> None:
    """The process that segments is not the server: killed, it starts again with its job."""
    client = server.client()
    job = client.send("body", [long_scan])
    wait_until(is_in(client, job, "running"), server)
    os.kill(worker_of(server), signal.SIGKILL)
    assert finish(client, job)["state"] == "done"


def stop_at_work(server: Server, long_scan: Path) -> None:
    """Told to stop, a server finishes what it has begun."""
    client = server.client()
    job = client.send("body", [long_scan])
    wait_until(is_in(client, job, "running"), server)
    assert server.stop() == 0
    jobs = JobList(server.data / "jobs.sqlite")
    found = jobs.find(job["id"])
    assert found is not None
    assert (found.state, found.attempts) == ("done", 1)
    jobs.close()


def test_jobs_that_run_or_wait_can_be_cancelled(
    server: Server, client: ServiceClient, scan: Path, long_scan: Path
) -> None:
    running, waiting = client.send("body", [long_scan]), client.send("body", [scan])
    wait_until(is_in(client, running, "running"), server)
    assert client.cancel(waiting["id"])["state"] == "cancelled"
    client.cancel(running["id"])
    assert finish(client, running)["state"] == "cancelled"
    assert finish(client, client.send("body", [scan]))["state"] == "done"


@pytest.fixture
def jobs(tmp_path: Path) -> JobList:
    return JobList(tmp_path / "jobs.sqlite")


def added(jobs: JobList, number: int) -> str:
    job_id = f"{number:032x}"
    jobs.add(job_id, "body", "case", {}, {})
    return job_id


def test_jobs_are_taken_in_the_order_in_which_they_came(jobs: JobList) -> None:
    ids = [added(jobs, number) for number in (3, 1, 2)]
    assert jobs.positions() == {ids[0]: 1, ids[1]: 2, ids[2]: 3}
    taken = [jobs.take() for _ in range(4)]
    assert [job.id if job else None for job in taken] == [*ids, None]
    jobs.close()


def test_a_job_that_ends_its_process_again_and_again_fails(jobs: JobList) -> None:
    job_id = added(jobs, 1)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = jobs.take()
        assert job is not None
        assert job.attempts == attempt
        jobs.release_all(is_attempt=True)
    found = jobs.find(job_id)
    assert found is not None
    assert (found.state, found.is_held) == ("failed", False)
    assert "ended each time" in (found.message or "")
    jobs.close()


def test_stopping_the_server_is_no_attempt(jobs: JobList) -> None:
    job_id = added(jobs, 1)
    for _ in range(MOST_ATTEMPTS + 1):
        assert jobs.take() is not None
        jobs.release_all(is_attempt=False)
    found = jobs.find(job_id)
    assert found is not None
    assert (found.state, found.attempts) == ("queued", 0)
    jobs.close()


def test_what_was_cancelled_is_not_done_afterwards(jobs: JobList) -> None:
    job_id = added(jobs, 1)
    jobs.take()
    assert jobs.report(job_id, "segmenting", 0.5)
    jobs.cancel(job_id)
    assert not jobs.report(job_id, "segmenting", 0.6)
    jobs.finish(job_id, ())
    found = jobs.find(job_id)
    assert found is not None
    assert found.state == "cancelled"
    assert jobs.removable(keep_seconds=0.0) == []  # The worker still has it in hand.
    jobs.let_go(job_id)
    assert [job.id for job in jobs.removable(keep_seconds=0.0)] == [job_id]
    assert jobs.removable(keep_seconds=60.0) == []
    jobs.close()


def test_a_server_that_is_not_there_is_told_in_a_line() -> None:
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9: cannot be reached \("):
        ServiceClient("http://127.0.0.1:9").models()
    with pytest.raises(ServerError, match="is no address of a server"):
        ServiceClient("ftp://somewhere")
