"""A plain `pip install sfumato` brings all that the package asks for."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "src" / "sfumato").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = packages_distributions()


def normal(requirement: str) -> str:
    """Return the name of a distribution as indexes compare them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~\[]", requirement)[0]).lower()


# pydantic-core is a part of pydantic that is published apart.
ALWAYS = {normal(requirement) for requirement in PROJECT["dependencies"]}
ALWAYS |= {"sfumato", "pydantic-core"}
# All of the package `service` is for those who asked for it; Starlette is a part of FastAPI.
SERVER = {normal(r) for r in PROJECT["optional-dependencies"]["server"]} | {"starlette"}
EXTRAS = {normal(r) for extra in PROJECT["optional-dependencies"].values() for r in extra}


def imported(nodes: list[ast.stmt]) -> Iterator[str]:
    """Name the packages that statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def foreign(packages: Iterator[str]) -> set[str]:
    """Return the distributions that packages come from; those that are not installed by name."""
    names = {p for p in packages if p not in sys.stdlib_module_names}
    return {normal(d) for name in names for d in DISTRIBUTIONS.get(name, [name])[:1]}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_only_what_is_declared_is_imported(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    anywhere = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    always = ALWAYS | SERVER if path.parent.name == "service" else ALWAYS
    assert foreign(imported(tree.body)) <= always
    assert foreign(imported(anywhere)) <= always | EXTRAS


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_versions_are_asked_only_of_what_is_always_there(path: Path) -> None:
    asked = set(re.findall(r'\bversion\("([^"]+)"\)', path.read_text(encoding="utf-8")))
    assert {normal(name) for name in asked} <= ALWAYS
