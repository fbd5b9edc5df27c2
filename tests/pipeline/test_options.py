"""Options and settings that cannot be used, and what is said about them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.errors import SfumatoError


def only_line(text: str) -> str:
    assert len(text.splitlines()) == 1, text
    assert text.startswith("error: ")
    return text.removeprefix("error: ").strip()


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        (
            "train",
            ["--set=training.sed=1"],
            "training: unknown setting 'sed'; did you mean 'seed'?",
        ),
        ("train", ["--set=superpixel.size_mm=4"], "did you mean 'superpixels'?"),
        ("soften", ["--set=superpixels.size=4"], "did you mean 'size_mm'?"),
        ("soften", ["--method=suprpixel"], "unknown softening method 'suprpixel'; did you mean"),
        ("train", ["--set=softening.method=gausian"], "did you mean 'gaussian'?"),
        ("train", ["--set=training.steps=0"], "training.steps: input should be greater than or"),
        ("train", ["--set=training.seed=one"], "training.seed: input should be a valid integer"),
        ("train", ["--set=seed=1"], "--set takes group.name=value"),
        ("train", ["--set=training"], "--set takes group.name=value"),
        ("train", ["--set=patches.shape=[15,16]"], "patches.shape must divide by the network's"),
        ("train", ["--set=patches.shape=[8,8,8]"], "patches.shape must be 2 numbers"),
        ("train", ["--set=training.train_cases=4"], "training.train_cases must be at most 2"),
        ("train", ["--time=soon"], "--time takes a length such as 20min, 90s or 2h, got 'soon'"),
        ("train", ["--time=0s"], "--time takes a length"),
        ("train", ["--time=-3min"], "--time takes a length"),
        ("train", ["--time=20"], "--time takes a length"),
        ("train", ["--time=1h", "--steps=5"], "--time and --steps say the same thing"),
        ("train", ["--fold=1"], "--fold takes K/N, such as 0/5, or none"),
        ("train", ["--fold=3/3"], "--fold 3/3: the fold must be 0 to 2, got 3"),
        ("train", ["--fold=0/5"], "--fold 0/5: the number of folds must be 2 to 3"),
        (
            "train",
            ["--device=gpu"],
            "device 'gpu' cannot be used on this machine; try --device cpu",
        ),
        ("train", ["--config=nowhere.toml"], "nowhere.toml: cannot be read (no such file"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    sfumato: Callable, small_flat: Path, tmp_path: Path, command: str, options: list[str], says: str
) -> None:
    fold = [] if command == "soften" or "--fold" in options[0] else ["--fold=0/3"]
    outcome = sfumato(command, small_flat, "--out", tmp_path / "out", *fold, *options)
    assert outcome.code == 2
    assert says in only_line(outcome.err)
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_a_settings_file_names_the_file(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    for content, says in (
        ("[training]\nsed = 1\n", "run.toml: training: unknown setting 'sed'"),
        ("[training\n", "run.toml: is no valid TOML"),
        ("[loss]\nsoft_weight = -1\n", "run.toml: loss.soft_weight: input should be greater"),
    ):
        path.write_text(content)
        outcome = sfumato("train", small_flat, "--out", tmp_path / "out", "--config", path)
        assert outcome.code == 2
        assert says in only_line(outcome.err)


def test_what_is_set_on_the_command_line_wins_over_the_file(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    (tmp_path / "soft.toml").write_text("[superpixels]\nsize_mm = 9\ncompactness = 0.2\n")
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "out", "--config",
                      tmp_path / "soft.toml", "--set=superpixels.size_mm=6")  # fmt: skip
    assert outcome.code == 0
    config = (tmp_path / "out" / "config.toml").read_text("utf-8")
    assert "size_mm = 6.0" in config
    assert "compactness = 0.2" in config


@pytest.mark.parametrize("command", ["train", "soften", "segment", "evaluate", "info"])
def test_a_command_without_arguments_shows_its_help(sfumato: Callable, command: str) -> None:
    outcome = sfumato(command)
    assert f"sfumato {command}" in outcome.out + outcome.err


def test_an_unknown_command_or_option_is_named(sfumato: Callable) -> None:
    for arguments, says in ((["trian"], "trian"), (["info", "--jason", "x"], "--jason")):
        outcome = sfumato(*arguments)
        assert outcome.code == 2
        assert says in outcome.err
        assert "Traceback" not in outcome.err


def test_the_version_is_printed(sfumato: Callable) -> None:
    from importlib.metadata import version

    assert sfumato("--version").out.strip() == version("sfumato")


def test_debug_shows_where_an_error_comes_from(
    sfumato: Callable, sfumato_process: Callable, tmp_path: Path
) -> None:
    with pytest.raises(SfumatoError, match="no such folder"):
        sfumato("--debug", "info", tmp_path / "nowhere")
    outcome = sfumato_process("--debug", "info", tmp_path / "nowhere")
    assert outcome.code != 0
    assert "Traceback (most recent call last)" in outcome.err
    assert "DatasetError" in outcome.err


def test_a_defect_is_told_as_one_and_not_blamed_on_the_user(
    sfumato: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("sfumato.workflow.describing.describe", fail)
    outcome = sfumato("info", tmp_path)
    assert outcome.code == 1
    assert only_line(outcome.err) == (
        "ZeroDivisionError: division by zero"
        " (this is a defect in sfumato; sfumato --debug … shows where)"
    )
