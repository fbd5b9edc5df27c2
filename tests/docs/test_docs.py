"""The documents say what the code does: every command, option and setting, and no others."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from PIL import Image as Picture
from pydantic import BaseModel

import sfumato
from sfumato.cli.main import app
from sfumato.labels.softeners import SOFTENERS
from sfumato.workflow.run_config import RunConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUP = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands


def section(document: str, title: str) -> str:
    """Return what stands under a heading, to the next heading."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", document, re.M | re.S)
    assert match, f"there is no heading {title!r}"
    return match[1]


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of a table, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def options_of(command: str) -> set[str]:
    return {name for p in COMMANDS[command].params for name in p.opts if name.startswith("--")}


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.M | re.S)


def test_every_command_is_documented_and_no_other() -> None:
    documented = re.findall(r"^## sfumato (\w+)$", COMMAND_LINE, re.M)
    assert sorted(documented) == sorted(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_is_documented_and_no_other(command: str) -> None:
    rows = table_rows(section(COMMAND_LINE, f"sfumato {command}"))
    documented = [name for row in rows for name in re.findall(r"`(--[\w-]+)", row[0])]
    assert sorted(documented) == sorted(options_of(command) - {"--help"})


def test_options_before_the_command_are_documented() -> None:
    for parameter in GROUP.params:
        assert f"`{parameter.opts[0]}`" in COMMAND_LINE


def shell_lines() -> Iterator[str]:
    for path in DOCUMENTS:
        for block in blocks(path.read_text(encoding="utf-8"), "(?:sh|console)"):
            yield from (line for line in block.splitlines() if line.startswith("sfumato "))


@pytest.mark.parametrize("line", sorted(set(shell_lines())))
def test_commands_in_examples_exist_with_their_options(line: str) -> None:
    words = shlex.split(line, comments=True)
    command = next(word for word in words[1:] if not word.startswith("--"))
    assert command in COMMANDS
    used = {word for word in words if word.startswith("--")}
    known = options_of(command) | {name for p in GROUP.params for name in p.opts}
    assert used <= known
    for name, value in pairwise(words):
        if name == "--set":
            assert_is_setting(value.partition("=")[0])


def assert_is_setting(name: str) -> None:
    kind: Any = RunConfig
    for part in name.split("."):
        assert part in kind.model_fields, name
        kind = kind.model_fields[part].annotation


def setting_groups(kind: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every group of settings below one, also those that stand in a list."""
    for name, field in kind.model_fields.items():
        for inner in (field.annotation, *leaves(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield f"{place}{name}", inner
                yield from setting_groups(inner, f"{place}{name}.")


def leaves(annotation: Any) -> Iterator[Any]:
    for argument in get_args(annotation):
        yield from leaves(argument) if get_args(argument) else (argument,)


GROUPS = dict(setting_groups(RunConfig))


def test_every_group_of_settings_is_documented_and_no_other() -> None:
    assert sorted(re.findall(r"^#+ `([\w.]+)`$", SETTINGS, re.M)) == sorted(GROUPS)


@pytest.mark.parametrize("place", sorted(GROUPS))
def test_every_setting_is_documented_with_its_default_and_no_other(place: str) -> None:
    rows = table_rows(section(SETTINGS, f"`{place}`"))
    documented = {row[0].strip("`"): row[1] for row in rows}
    fields = GROUPS[place].model_fields
    assert list(documented) == list(fields)
    for name, field in fields.items():
        assert_says_default(documented[name], field.default, f"{place}.{name}")
    assert all(len(row) == 3 and row[2] for row in rows)


def assert_says_default(cell: str, default: Any, name: str) -> None:
    """Check a cell: a value as TOML writes it, or words where nothing is set."""
    if default is None:
        assert not cell.startswith("`"), name
        return
    value = tomllib.loads(f"value = {cell.strip('`')}")["value"]
    assert value == (list(default) if isinstance(default, tuple) else default), name


@pytest.mark.parametrize("method", sorted(SOFTENERS))
def test_every_softening_method_is_explained(method: str) -> None:
    method_document = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    assert f"| `{method}` |" in method_document


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_point_to_files(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:|#", t)]
    missing = [t for t in targets if not (path.parent / t.partition("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_settings_files_in_examples_are_valid(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8"), "toml"):
        RunConfig.model_validate(tomllib.loads(block))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_in_examples_uses_names_that_exist(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "sfumato" or node.attr in sfumato.__all__


def test_the_readme_names_every_public_name_it_shows_by_its_package() -> None:
    assert "import sfumato" in blocks(README, "python")[0]


def test_the_readme_names_the_patent_and_who_must_clear_it() -> None:
    sentence = next(s for s in README.split("\n\n") if "CN111369576B" in s)
    assert re.search(r"commercial users must\s+clear it themselves", sentence)


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_dataset(tmp_path / "my_data")
    Picture.fromarray(disc(20, 20)[0]).save(tmp_path / "new.png")
    monkeypatch.chdir(tmp_path)
    code = blocks(README, "python")[0].replace(".nii.gz", ".png")
    assert '"minutes": 20' in code
    exec(code.replace('"minutes": 20', '"steps": 2'), {})
    with Picture.open(tmp_path / "segmentation.png") as picture:
        values = np.asarray(picture)
    assert values.shape == (32, 32)
    assert set(np.unique(values)) <= {0, 255}


def write_small_dataset(folder: Path) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(6):
        image, label = disc(10 + 2 * i, 16)
        Picture.fromarray(image).save(folder / "images" / f"case{i}.png")
        Picture.fromarray(label).save(folder / "labels" / f"case{i}.png")


def disc(row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a picture of a bright disc, and its label."""
    rows, columns = np.mgrid[:32, :32]
    is_inside = (rows - row) ** 2 + (columns - column) ** 2 < 36
    noise = np.random.default_rng(row).integers(0, 40, (32, 32))
    return (100 * is_inside + noise).astype(np.uint8), (255 * is_inside).astype(np.uint8)
