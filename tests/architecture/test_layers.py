"""The shape of the package: the direction of imports, the names of folders, the sizes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "sfumato"
LAYERS = [
    "errors", "_kernel", "arrays", "settings", "storage", "image", "labels", "metrics", "cases",
    "model", "inference", "training", "evaluation", "report", "config", "workflow", "service",
    "cli", "__main__",
]  # fmt: skip
FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")
MEANINGLESS_NAMES = {"utils", "helpers", "common", "core", "base", "manager", "engine"}
MOST_LINES_IN_A_FILE = 400
MOST_LINES_IN_A_FUNCTION = 60

each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[str]:
    """Name what a file imports, within functions too; a relative import keeps its dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@each_file
def test_every_file_belongs_to_a_layer(path: Path) -> None:
    assert layer_of(path) in LAYERS, f"{layer_of(path)!r} is missing in LAYERS"


@each_file
def test_imports_point_towards_the_vocabulary(path: Path) -> None:
    names = [name for name in imported_modules(path) if name.split(".")[0] in ("", "sfumato")]
    assert all(name.startswith("sfumato.") for name in names), (
        "import from the module that defines a name, by its full path"
    )
    earlier = LAYERS[: LAYERS.index(layer_of(path)) + 1]
    later = {name for name in names if name.split(".")[1] not in earlier}
    assert not later, f"{path.name} imports {later}, which stand after {layer_of(path)!r}"


def test_scikit_image_is_only_what_tests_compare_with() -> None:
    assert not any(name.split(".")[0] == "skimage" for p in FILES for name in imported_modules(p))


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert not names & MEANINGLESS_NAMES


def test_folders_are_one_level_deep() -> None:
    assert all(len(path.relative_to(SOURCE).parts) <= 2 for path in FILES)


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function below its signature and docstring."""
    statements = function.body[1:] if ast.get_docstring(function) else function.body
    if not statements:
        return 0
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1


@each_file
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES_IN_A_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_lines(node) <= MOST_LINES_IN_A_FUNCTION, node.name
