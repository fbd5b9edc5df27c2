"""`sfumato info`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.exit_codes import SOME_FAILED

if TYPE_CHECKING:
    from sfumato.workflow.describing import Facts


def info(
    path: Annotated[
        Path,
        typer.Argument(
            help="An image, a DICOM folder, a soft label (.sfsl), a data set, a trained model or a"
            " run."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what an image, a data set or a model is, as sfumato understands it.

    For a data set every file is read and bad cases are listed, so this is the way to check
    data before training.

    [dim]sfumato info my_data[/]
    """
    import json

    from sfumato.cli.console import track
    from sfumato.workflow.describing import describe
    from sfumato.workflow.tracking import silently

    facts = describe(path, silently if as_json else track)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        if facts.get("problems"):
            raise typer.Exit(SOME_FAILED)
    else:
        _print(facts)


def _print(facts: "Facts") -> None:
    from sfumato.cli.console import end_with, print_facts
    from sfumato.workflow.failures import Failure

    problems = facts.pop("problems", {})
    classes = facts.get("classes", {})
    texts = {_words(name): _text(value) for name, value in facts.items()}
    if classes:
        texts["classes"] = ", ".join(f"{value} {name}" for name, value in classes.items())
    print_facts(texts)
    failures = [Failure(case_id=case_id, reason=reason) for case_id, reason in problems.items()]
    end_with(failures, facts.get("cases", 0))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_words(name)} {_text(v)}" for name, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n".join("  ".join(_text(v) for v in row) for row in value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(_text(v) for v in value)
    if isinstance(value, list):
        return " × ".join(_text(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    """Turn a name such as percentile_99_5 into words."""
    return re.sub(r"(\d)_(\d)", r"\1.\2", name).replace("_", " ")
