"""Work on many items in processes of their own; one that dies takes only its own item along."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

STOPPING_SECONDS = 10
"""How long a process may take to stop before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Stands for the result of an item whose process died.

    Attributes:
        reason: What happened to the process.
    """

    reason: str


def n_cores() -> int:
    """Count the cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def work_in_processes(
    work: Callable[[Item], Result], items: Iterable[Item], n_workers: int
) -> Generator[tuple[Item, Result | Lost]]:
    """Work on items side by side; as many are under way as there are processes.

    Ending the iteration early, by Ctrl-C say, stops the processes in the middle of their
    items. They stop as well when this process is killed.

    Args:
        work: What is done with an item; a function of a module, so that processes find it.
        items: What is worked on, taken one by one as processes get free.
        n_workers: How many processes there are at most.

    Yields:
        Each item with its result, in the order in which they are done; `Lost` where the
        process died. Another one then takes its place.
    """
    context = _context(work)
    waiting = iter(items)
    busy: dict[Connection, tuple[_Worker, Item]] = {}
    try:
        for item in islice(waiting, n_workers):
            _Worker(context, work).start(item, busy)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker, item = busy[ready]
                result = worker.take()
                del busy[ready]
                if isinstance(result, Lost):
                    worker = _Worker(context, work)
                for following in islice(waiting, 1):
                    worker.start(following, busy)
                if worker.connection not in busy:
                    worker.stop()
                yield item, result
    finally:
        for worker, _ in busy.values():
            worker.stop()


def _context(work: Callable[..., object]) -> Any:
    """Return the way to start processes: from one that has loaded what the work needs.

    Forking this process itself is not safe, since it runs threads.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    function = getattr(work, "func", work)  # of a `partial`
    context.set_forkserver_preload([function.__module__])
    return context


class _Worker:
    """A process, and the connection to it."""

    def __init__(self, context: Any, work: Callable[[Any], Any]) -> None:
        self.connection, others_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(others_end, work), daemon=True)
        self._process.start()
        others_end.close()  # Else the end of the process would not be seen here.

    def start(self, item: Item, busy: "dict[Connection, tuple[_Worker, Item]]") -> None:
        busy[self.connection] = (self, item)
        with suppress(OSError):  # A process that died while it was idle: `take` tells.
            self.connection.send(item)

    def take(self) -> Any:
        """Receive a result, or find that the process died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.join(STOPPING_SECONDS)
            self.stop()
            return Lost(reason=_reason(self._process.exitcode))

    def stop(self) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.join(STOPPING_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """Work on what comes, until nothing comes any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this.
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            connection.send(work(connection.recv()))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End with clean-ups done: no temporary file stays."""
    sys.exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # At once: nobody is left to take the result, and the work may be started again elsewhere.
    os._exit(1)


def _reason(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return (
            "its process was killed, most likely because memory ran out;"
            " run again with fewer --workers"
        )
    how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit {exit_code}"
    return f"its process died ({how}); run again, and leave the case out if it dies again"
