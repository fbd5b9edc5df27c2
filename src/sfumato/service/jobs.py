"""The list of jobs, in SQLite: it outlives the processes that work on it.

The server's process adds, cancels and removes jobs, the worker's takes one after the other. What
is written is on the disk when a call returns.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sfumato.service.results import Result

State = Literal["queued", "running", "done", "failed", "cancelled"]
Stage = Literal["reading", "segmenting", "writing"]

MOST_ATTEMPTS = 3
"""How often work on a job is begun: one that takes the process down with it shall not do so for
ever."""
FINISHED = ("done", "failed", "cancelled")
_SCHEMA = """
create table if not exists jobs (
    id text primary key, model text not null, name text not null, options text not null,
    origin text not null, state text not null, stage text, progress real not null default 0,
    created real not null, started real, finished real, attempts integer not null default 0,
    is_held integer not null default 0, is_deleted integer not null default 0,
    message text, results text not null default '[]'
);
create index if not exists by_state on jobs (state, created);
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to segment.

    Attributes:
        id: Cannot be guessed.
        model: Name of the model.
        name: Of the case; never anything from a DICOM header.
        options: What is written of the case.
        origin: Where the image came from: what pushes results back looks at it.
        state: How far it is.
        stage: What is done with it now, while it runs.
        progress: From 0 to 1.
        created: When it was sent, in seconds since 1970; so are the other times.
        started: When work on it began, the last time.
        finished: When it ended.
        attempts: How often work on it was begun.
        is_held: Whether the worker has it in hand.
        is_deleted: Whether it only waits for the worker to let go.
        message: What is wrong with it.
        results: The files that the viewer shows.
    """

    id: str
    model: str
    name: str
    options: dict[str, Any]
    origin: dict[str, str]
    state: State
    stage: Stage | None
    progress: float
    created: float
    started: float | None
    finished: float | None
    attempts: int
    is_held: bool
    is_deleted: bool
    message: str | None
    results: tuple[Result, ...]

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINISHED

    def seconds_left(self) -> float | None:
        """Guess how long it still takes, from how long it took so far."""
        if self.state != "running" or self.started is None or self.progress < 0.05:
            return None
        return (time.time() - self.started) * (1 - self.progress) / self.progress


class JobList:
    """The jobs of a server.

    Args:
        path: The SQLite file; it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        with self._lock:
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def add(
        self, job_id: str, model: str, name: str, options: dict[str, Any], origin: dict[str, str]
    ) -> Job:
        """Put a job, whose files are in place, at the end of the queue."""
        (row,) = self._run(
            "insert into jobs (id, model, name, options, origin, state, created)"
            " values (?, ?, ?, ?, ?, 'queued', ?) returning *",
            (job_id, model, name, json.dumps(options), json.dumps(origin), time.time()),
        )
        return _job(row)

    def find(self, job_id: str) -> Job | None:
        """Return a job; None if there is none, or it was deleted."""
        rows = self._run("select * from jobs where id = ? and not is_deleted", (job_id,))
        return _job(rows[0]) if rows else None

    def newest(self, limit: int) -> list[Job]:
        """Return the jobs that came last, the newest first."""
        rows = self._run(
            "select * from jobs where not is_deleted order by created desc, rowid desc limit ?",
            (limit,),
        )
        return [_job(row) for row in rows]

    def every(self) -> list[Job]:
        """Return all jobs, also those that only wait to be removed."""
        return [_job(row) for row in self._run("select * from jobs order by created, rowid")]

    def positions(self) -> dict[str, int]:
        """Number the jobs that wait, from 1."""
        rows = self._run("select id from jobs where state = 'queued' order by created, rowid")
        return {row["id"]: number for number, row in enumerate(rows, start=1)}

    def counts(self) -> dict[str, int]:
        """Count the jobs in each state."""
        rows = self._run("select state, count(*) n from jobs where not is_deleted group by state")
        return {row["state"]: row["n"] for row in rows}

    def take(self) -> Job | None:
        """Begin with the job that waits longest."""
        rows = self._run(
            "update jobs set state = 'running', stage = 'reading', progress = 0, is_held = 1,"
            " attempts = attempts + 1, started = ? where id = (select id from jobs where"
            " state = 'queued' order by created, rowid limit 1) returning *",
            (time.time(),),
        )
        return _job(rows[0]) if rows else None

    def report(self, job_id: str, stage: Stage, progress: float) -> bool:
        """Note how far the running job is.

        Returns:
            Whether it is still wanted.
        """
        rows = self._run(
            "update jobs set stage = ?, progress = ? where id = ? and state = 'running'"
            " returning id",
            (stage, progress, job_id),
        )
        return bool(rows)

    def finish(self, job_id: str, results: tuple[Result, ...]) -> None:
        """Note that the running job is done, unless it was cancelled meanwhile."""
        self._run(
            "update jobs set state = 'done', stage = null, progress = 1, finished = ?,"
            " results = ? where id = ? and state = 'running'",
            (time.time(), json.dumps([vars(result) for result in results]), job_id),
        )

    def fail(self, job_id: str, message: str) -> None:
        """Note that the running job cannot be done."""
        self._run(
            "update jobs set state = 'failed', stage = null, finished = ?, message = ?"
            " where id = ? and state = 'running'",
            (time.time(), message, job_id),
        )

    def let_go(self, job_id: str) -> None:
        """Note that the worker has a job no more in hand."""
        self._run("update jobs set is_held = 0 where id = ?", (job_id,))

    def held(self) -> Job | None:
        """Return the job that the worker has in hand."""
        rows = self._run("select * from jobs where is_held")
        return _job(rows[0]) if rows else None

    def release_all(self, *, is_attempt: bool) -> None:
        """Take jobs back from a worker that is gone; what it had not finished runs again.

        Args:
            is_attempt: Whether the job may be what ended the worker.
        """
        with self._transaction():
            self._connection.execute(
                "update jobs set is_held = 0, attempts = attempts - ? where is_held",
                (0 if is_attempt else 1,),
            )
            self._connection.execute(
                "update jobs set state = 'failed', stage = null, finished = ?, message = ?"
                " where state = 'running' and attempts >= ?",
                (time.time(), "the process that segments ended each time it tried", MOST_ATTEMPTS),
            )
            self._connection.execute(
                "update jobs set state = 'queued', stage = null, progress = 0"
                " where state = 'running'"
            )

    def cancel(self, job_id: str) -> None:
        """Stop a job that waits or runs."""
        self._run(
            "update jobs set state = 'cancelled', stage = null, finished = ?"
            " where id = ? and state in ('queued', 'running')",
            (time.time(), job_id),
        )

    def delete(self, job_id: str) -> None:
        """Hide a job; its files go, and then `forget` is called, once nobody has it in hand."""
        self.cancel(job_id)
        self._run("update jobs set is_deleted = 1 where id = ?", (job_id,))

    def forget(self, job_id: str) -> None:
        """Remove a job from the list."""
        self._run("delete from jobs where id = ?", (job_id,))

    def removable(self, keep_seconds: float) -> list[Job]:
        """Return jobs whose files can go: deleted ones, and those that ended long ago."""
        rows = self._run(
            "select * from jobs where not is_held and (is_deleted or finished < ?)",
            (time.time() - keep_seconds,),
        )
        return [_job(row) for row in rows]

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                self._connection.execute("rollback")
                raise


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    results = tuple(Result(**result) for result in json.loads(values.pop("results")))
    for name in ("options", "origin"):
        values[name] = json.loads(values[name])
    for name in ("is_held", "is_deleted"):
        values[name] = bool(values[name])
    return Job(**values, results=results)


def shown_time(seconds: float | None) -> str | None:
    """Write a time as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
