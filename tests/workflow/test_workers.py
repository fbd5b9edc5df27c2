"""Processes that work side by side: all items come back, whatever happens to a process."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfumato.workflow.workers import Lost, work_in_processes


def test_every_item_comes_back_with_its_result() -> None:
    assert sorted(work_in_processes(abs, range(-9, 0), 3)) == [(n, -n) for n in range(-9, 0)]


def test_no_items_are_no_work() -> None:
    assert list(work_in_processes(abs, [], 3)) == []


def test_items_are_taken_as_processes_get_free() -> None:
    items = iter(range(100))
    results = work_in_processes(abs, items, 2)
    next(results)
    assert next(items) <= 3
    results.close()


def test_a_process_that_dies_takes_one_item_along() -> None:
    # The work is to send itself a signal.
    harmless = signal.SIGCONT
    items = [harmless, signal.SIGKILL, harmless, signal.SIGABRT, harmless, harmless]
    results = list(work_in_processes(signal.raise_signal, items, 2))
    assert sorted(item for item, _ in results) == sorted(items)
    reasons = {item: result.reason for item, result in results if isinstance(result, Lost)}
    assert set(reasons) == {signal.SIGKILL, signal.SIGABRT}
    assert "memory ran out" in reasons[signal.SIGKILL]
    assert "signal 6" in reasons[signal.SIGABRT]


def test_ending_early_stops_processes_in_the_middle_of_their_work() -> None:
    results = work_in_processes(time.sleep, [0, 60, 60], 2)
    started = time.monotonic()
    next(results)
    results.close()
    assert time.monotonic() - started < 30


ORPHANS = """
import multiprocessing, threading, time
from sfumato.workflow.workers import work_in_processes
work = work_in_processes(time.sleep, [60, 60], 2)
threading.Thread(target=list, args=(work,), daemon=True).start()
while len(workers := multiprocessing.active_children()) < 2:
    time.sleep(0.01)
print(*(worker.pid for worker in workers), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_processes_end_with_the_one_that_started_them_even_if_that_is_killed() -> None:
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        workers = [Path("/proc") / pid for pid in process.stdout.readline().split()]
        time.sleep(0.5)
        process.kill()
        for _ in range(2000):
            if not any(worker.exists() for worker in workers):
                return
            time.sleep(0.01)
    raise AssertionError("workers outlived what started them")
