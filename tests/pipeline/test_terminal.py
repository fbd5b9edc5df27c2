"""What people see in a terminal: a live line, lines that stay, names as they are."""

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

COLUMNS = 100


class Terminal:
    """A command in a terminal, and what it has shown."""

    def __init__(self, *arguments: object) -> None:
        self._screen, inside = pty.openpty()
        ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sfumato", *map(str, arguments)],
            stdin=inside, stdout=inside, stderr=inside, close_fds=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(inside)
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read until a text has been shown, or to the end."""
        while text not in self.shown:
            try:
                piece = os.read(self._screen, 4096)
            except OSError:  # how Linux tells that the other side is closed
                break
            self.shown += piece.decode(errors="replace")

    def finish(self) -> int:
        self.read_until("\0")
        os.close(self._screen)
        return self.process.wait(timeout=200)


def plain_lines(shown: str) -> list[str]:
    """Take out colours and cursor movements."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))


@pytest.mark.slow
def test_a_training_shows_a_live_line_and_lines_that_stay(
    quick_volume: tuple, volume_data: Path, tmp_path: Path
) -> None:
    terminal = Terminal("train", volume_data, "--out", tmp_path / "run", "--steps=60",
                        *quick_volume)  # fmt: skip
    assert terminal.finish() == 0
    lines = plain_lines(terminal.shown)
    assert max(len(line.rstrip()) for line in lines if "/" not in line) <= COLUMNS
    live = [line for line in lines if re.match(r" *\d+ % .* left  step \d+  loss ", line)]
    assert live
    assert "(hard " in live[-1]
    assert "Dice " in live[-1]
    staying = [line for line in lines if re.match(r" +\d+:\d\d  step (30|60) ", line)]
    assert len(staying) == 2
    assert all("shell [outer] 0." in line for line in staying)
    assert "Softening labels" in terminal.shown
    assert "8/8" in terminal.shown


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_it_as_it_was(
    quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    terminal = Terminal("train", flat_data, "--out", tmp_path / "run", "--time=10min",
                        *quick_flat)  # fmt: skip
    terminal.read_until(" left  step ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == 130
    assert "The same command with --resume goes on." in plain_lines(terminal.shown)[-2]
    hidden, visible = terminal.shown.rfind("\x1b[?25l"), terminal.shown.rfind("\x1b[?25h")
    assert hidden < visible


def test_facts_are_not_folded_where_they_go_to_a_program(
    sfumato: Callable, small_flat: Path
) -> None:
    deep = small_flat.parent / ("a_long_name_" * 12)
    deep.mkdir()
    path = (small_flat / "images" / "case_00.png").rename(deep / "case_00.png")
    lines = sfumato("info", path).out.splitlines()
    assert any(line.startswith("path") and line.rstrip().endswith(str(path)) for line in lines)
