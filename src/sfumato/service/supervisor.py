"""Keeps the worker's process alive, and the server's folder tidy."""

import contextlib
import logging
import multiprocessing
import threading
import time
from multiprocessing.process import BaseProcess

from sfumato.service.job_files import job_files, list_folders, remove_folder
from sfumato.service.jobs import JobList
from sfumato.service.logs import log
from sfumato.service.sessions import SESSION_SECONDS, list_sessions
from sfumato.service.settings import ServiceSettings
from sfumato.service.worker import work

_LOOK_SECONDS = 0.2
_TIDY_SECONDS = 5.0
_PATIENCE_SECONDS = 5.0
"""How long the worker may take to notice that a job was cancelled, before it is ended."""
_LONGEST_PAUSE_SECONDS = 30.0


class Supervisor:
    """Starts the worker's process, and starts it again when it ends or hangs.

    Args:
        settings: The server's.
        jobs: Its list of jobs.
    """

    def __init__(self, settings: ServiceSettings, jobs: JobList) -> None:
        self._settings, self._jobs = settings, jobs
        self._context = multiprocessing.get_context("spawn")
        self._pipe, _ = self._context.Pipe()
        self._is_loaded = False
        self._process: BaseProcess | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._is_closing = threading.Event()
        self._unwanted_since: float | None = None
        self.n_restarts = 0

    @property
    def is_ready(self) -> bool:
        """Whether the worker has its models loaded and lives."""
        return self._is_loaded and self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Take jobs back from an earlier server that was killed, and start the worker."""
        self._jobs.release_all(is_attempt=True)
        self._remove_unknown()
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """Let the worker finish its job, if that does not take too long; else the job waits."""
        self._is_closing.set()
        self._thread.join()
        if self._process is not None:
            with contextlib.suppress(OSError):  # It ended by itself.
                self._pipe.send("stop")
            self._process.join(self._settings.grace_seconds)
            self._end()
        self._jobs.release_all(is_attempt=False)

    def _begin(self) -> None:
        self._is_loaded = False
        self._pipe.close()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=work, args=(self._settings, theirs), name="worker", daemon=True
        )
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def _watch(self) -> None:
        tidied = 0.0
        while not self._is_closing.wait(_LOOK_SECONDS):
            # A full disk or a busy list: the next look finds it better.
            with contextlib.suppress(Exception):
                self._look()
                if time.monotonic() - tidied > _TIDY_SECONDS:
                    self.tidy()
                    tidied = time.monotonic()

    def _look(self) -> None:
        assert self._process is not None
        self._end_if_hanging()
        if self._process.is_alive():
            self._is_loaded = self._is_loaded or self._pipe.poll()
            return
        log("worker_ended", logging.ERROR, exit_code=self._process.exitcode)
        self._jobs.release_all(is_attempt=True)
        self.n_restarts += 1
        pause = min(_LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(self.n_restarts, 10))
        if not self._is_loaded and self._is_closing.wait(pause):
            return
        self._begin()

    def _end_if_hanging(self) -> None:
        held = self._jobs.held()
        if held is None:
            self._unwanted_since = None
            return
        now = time.time()
        if held.state == "running" and held.started is not None:
            if now - held.started > self._settings.job_seconds:
                self._jobs.fail(held.id, "it took longer than an image may take here")
            self._unwanted_since = None
            return
        self._unwanted_since = self._unwanted_since or now
        if now - self._unwanted_since > _PATIENCE_SECONDS:
            log("worker_hangs", logging.WARNING, job=held.id)
            self._unwanted_since = None
            self._end()

    def tidy(self) -> None:
        """Remove what was deleted, and what ended long ago."""
        for job in self._jobs.removable(self._settings.keep_seconds):
            remove_folder(job_files(self._settings.data, job.id).folder)
            self._jobs.forget(job.id)
            log("job_removed", job=job.id)
        for session in list_sessions(self._settings.data):
            if session.age_seconds > min(self._settings.keep_seconds, SESSION_SECONDS):
                remove_folder(session.folder)

    def _remove_unknown(self) -> None:
        """Remove uploads that were broken off, and folders whose job is gone."""
        remove_folder(self._settings.data / "uploads")
        known = {job.id for job in self._jobs.every()}
        for folder in list_folders(self._settings.data):
            if folder.name not in known:
                remove_folder(folder)
