"""Which series are fetched from an archive and sent back to it, and how far each is, in SQLite."""

import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TransferState = Literal["seen", "wanted", "working", "done", "failed"]

MOST_ATTEMPTS = 100
_LONGEST_PAUSE_SECONDS = 300.0
_SCHEMA = """
create table if not exists transfers (
    series text primary key, study text not null, model text not null, state text not null,
    n_images integer not null default 0, job_id text, attempts integer not null default 0,
    next_try real not null default 0, message text, created real not null
);
create table if not exists watches (model text primary key);
create table if not exists old_series (series text primary key);
"""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One series on its way.

    Attributes:
        series: Its UID.
        study: That of its study.
        model: What segments it.
        state: `seen` until no more images arrive, `wanted` until it is fetched, `working` until
            its segmentation is back in the archive.
        n_images: How many images the archive had of it when it was last looked at.
        job_id: The job that segments it, once it is fetched.
        attempts: How often the archive did not answer as it should, since it last did.
        message: What is wrong with it.
        created: When it was seen or asked for, in seconds since 1970.
    """

    series: str
    study: str
    model: str
    state: TransferState
    n_images: int
    job_id: str | None
    attempts: int
    message: str | None
    created: float


class TransferList:
    """The series of a server.

    Args:
        path: The SQLite file.
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

    def want(self, series: str, study: str, model: str) -> Transfer:
        """Ask for a series, also for one that was done already."""
        (row,) = self._run(
            "insert into transfers (series, study, model, state, created)"
            " values (?, ?, ?, 'wanted', ?) on conflict (series) do update set model = ?3,"
            " state = 'wanted', job_id = null, attempts = 0, next_try = 0, message = null"
            " returning *",
            (series, study, model, time.time()),
        )
        return _transfer(row)

    def see(self, series: str, study: str, model: str, n_images: int) -> None:
        """Note a series that the archive has; it is wanted once it has stopped growing."""
        if self._run("select 1 from old_series where series = ?", (series,)):
            return
        self._run(
            "insert into transfers (series, study, model, state, n_images, created)"
            " values (?, ?, ?, 'seen', ?, ?) on conflict (series) do update set"
            " state = iif(state = 'seen' and n_images = ?4, 'wanted', state), n_images = ?4",
            (series, study, model, n_images, time.time()),
        )

    def is_watched(self, model: str) -> bool:
        """Tell whether the archive was ever looked at for a model."""
        return bool(self._run("select 1 from watches where model = ?", (model,)))

    def begin_watch(self, model: str, old_series: list[str]) -> None:
        """Note what an archive had before it was watched: that is left alone."""
        for series in old_series:
            self._run("insert or ignore into old_series values (?)", (series,))
        self._run("insert or ignore into watches values (?)", (model,))

    def due(self) -> list[Transfer]:
        """Return what there may be to do for now."""
        rows = self._run(
            "select * from transfers where state in ('wanted', 'working') and next_try <= ?"
            " order by created",
            (time.time(),),
        )
        return [_transfer(row) for row in rows]

    def newest(self, limit: int) -> list[Transfer]:
        """Return the series that came last, the newest first."""
        rows = self._run("select * from transfers order by created desc limit ?", (limit,))
        return [_transfer(row) for row in rows]

    def set_working(self, series: str, job_id: str) -> None:
        """Note that a series is fetched and in the queue."""
        self._run(
            "update transfers set state = 'working', job_id = ?, attempts = 0 where series = ?",
            (job_id, series),
        )

    def set_done(self, series: str) -> None:
        """Note that the archive has the segmentation."""
        self._run("update transfers set state = 'done', message = null where series = ?", (series,))

    def set_failed(self, series: str, message: str) -> None:
        """Note that nothing comes of a series."""
        self._run(
            "update transfers set state = 'failed', message = ? where series = ?",
            (message, series),
        )

    def try_later(self, transfer: Transfer, message: str) -> None:
        """Note that the archive did not answer as it should; wait ever longer between tries."""
        if transfer.attempts + 1 >= MOST_ATTEMPTS:
            self.set_failed(transfer.series, message)
            return
        pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(transfer.attempts, 12))
        self._run(
            "update transfers set attempts = attempts + 1, next_try = ?, message = ?"
            " where series = ?",
            (time.time() + pause, message, transfer.series),
        )

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


def _transfer(row: sqlite3.Row) -> Transfer:
    values = dict(row)
    values.pop("next_try")
    return Transfer(**values)
