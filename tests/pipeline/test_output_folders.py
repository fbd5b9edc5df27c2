"""Where commands write: never over what is there, unless asked; never over other people's data."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.storage import hold_folder

COMMANDS = ("train", "soften", "segment", "evaluate")


@pytest.fixture
def command_line(small_flat: Path, flat_run: Path) -> Callable[[str], list[object]]:
    """Give a command with what it reads, to be run quickly."""

    def make(command: str) -> list[object]:
        return {
            "train": ["train", small_flat, "--steps=1", "--fold=none", "--device=cpu"],
            "soften": ["soften", small_flat],
            "segment": ["segment", flat_run, small_flat, "--device=cpu"],
            "evaluate": ["evaluate", small_flat, small_flat / "labels"],
        }[command]

    return make


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_exists_is_refused_until_overwrite_is_given(
    sfumato: Callable, command_line: Callable, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    assert sfumato(*command_line(command), "--out", out).code == 0
    (out / "left_over.txt").write_text("from before")
    before = content_of(out)
    outcome = sfumato(*command_line(command), "--out", out)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"error: {out}: exists already; choose another --out or add --overwrite"
    ]
    assert content_of(out) == before
    outcome = sfumato(*command_line(command), "--out", out, "--overwrite")
    assert outcome.code == 0, outcome.err
    assert not (out / "left_over.txt").exists()


@pytest.mark.parametrize("command", ["train", "soften", "compare"])
@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_folder_that_another_process_works_in_is_refused_and_left_alone(
    sfumato: Callable, small_flat: Path, tmp_path: Path, command: str, option: str
) -> None:
    out, own = tmp_path / "out", {"train": ["--steps=1"], "compare": ["--steps=1"], "soften": []}
    with hold_folder(out):
        (out / "half.txt").write_text("written by the other")
        before = content_of(out)
        outcome = sfumato(command, small_flat, "--out", out, *own[command], option)
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        start = f"error: {out}: is being written by another process (pid {os.getpid()} on "
        assert line.startswith(start)
        assert content_of(out) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_sfumato_did_not_write_is_never_emptied(
    sfumato: Callable, command_line: Callable, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    outcome = sfumato(*command_line(command), "--out", out, "--overwrite")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"error: {out}: was not written by sfumato, so it is not emptied; choose another --out"
    ]
    assert (out / "chapter.txt").read_text("utf-8") == "years of work"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_folder_may_be_used(
    sfumato: Callable, command_line: Callable, tmp_path: Path, command: str
) -> None:
    (tmp_path / "out").mkdir()
    assert sfumato(*command_line(command), "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_the_place_of_the_folder_is_refused(
    sfumato: Callable, command_line: Callable, tmp_path: Path, command: str
) -> None:
    (tmp_path / "out").write_text("a file")
    outcome = sfumato(*command_line(command), "--out", tmp_path / "out", "--overwrite")
    assert outcome.code == 2
    assert "is a file, but a folder is to be written there" in outcome.err
    assert (tmp_path / "out").read_text("utf-8") == "a file"


def test_a_folder_is_not_emptied_while_the_command_reads_from_it(
    sfumato: Callable, small_flat: Path, flat_run: Path, tmp_path: Path
) -> None:
    place = tmp_path / "all"
    place.mkdir()
    (place / ".sfumato").touch()
    shutil.copytree(small_flat, place / "data")
    shutil.copytree(flat_run / "model", place / "model")
    before = content_of(place)
    data, model = place / "data", place / "model"
    for arguments in (
        ["train", data, "--fold=none"],
        ["soften", data],
        ["segment", model, small_flat],
        ["segment", flat_run, data],
        ["evaluate", data, small_flat / "labels"],
        ["evaluate", small_flat, data / "labels"],
    ):
        outcome = sfumato(*arguments, "--out", place, "--overwrite")
        assert outcome.code == 2
        assert f"error: {place}: holds " in outcome.err
        assert "so it is not emptied; choose another --out" in outcome.err
    assert content_of(place) == before


def test_a_command_that_failed_at_once_can_be_given_again(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".sfumato").touch()
    assert sfumato("soften", small_flat, "--out", out).code == 0


def test_what_stands_in_the_folder_survives_a_mistake_in_the_settings(
    sfumato: Callable, command_line: Callable, small_flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert sfumato(*command_line("train"), "--out", out).code == 0
    before = content_of(out)
    for mistake in ("--set=patches.shape=[15,16]", "--set=training.sed=1", "--device=gpu"):
        outcome = sfumato(*command_line("train"), "--out", out, "--overwrite", mistake)
        assert outcome.code == 2
    (small_flat / "labels" / "case_01.png").write_bytes(b"damaged")
    assert sfumato(*command_line("train"), "--out", out, "--overwrite").code == 2
    assert content_of(out) == before
