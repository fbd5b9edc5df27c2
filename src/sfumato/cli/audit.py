"""`sfumato audit`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def audit(
    dataset: Annotated[
        Path,
        typer.Argument(help="A folder with images/ and labels/, a dataset.json or a cases.csv."),
    ],
    out: options.Out,
    pictures: Annotated[
        int, typer.Option("--pictures", min=0, help="How many cases are shown, the worst first.")
    ] = 20,
    config: options.Config = None,
    settings: options.Settings = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Rank annotations by how little their images support them: a work list for annotators.

    A boundary that was shifted, grown or shrunk cuts through homogeneous superpixels that one in
    the right place follows. Writes report.html with pictures of the worst cases at their worst
    places, audit.csv and audit.json. A high score is a reason to look, not proof of an error.

    [dim]sfumato audit my_data --out audit[/]
    """
    from sfumato.cases.dataset import Dataset
    from sfumato.cli.console import end_with, say, track
    from sfumato.config import load_config
    from sfumato.report.metric_words import counted
    from sfumato.storage import check_output, claim_folder
    from sfumato.workflow.auditing import AuditConfig, audit_cases, plan_audit, write_audit

    wishes = load_config(AuditConfig, config, settings or [])
    data = Dataset.open(dataset)
    check_output(out, overwrite=overwrite, inputs=data.paths)
    chosen = plan_audit(data, wishes, track)
    if chosen.superpixels.size_mm is not None:
        say(f"Superpixels of {chosen.superpixels.size_mm:g} mm")
    audited = audit_cases(data, chosen, track)
    if not audited.audits:
        end_with(audited.failures, len(data))
    claim_folder(out, overwrite=overwrite, inputs=data.paths)
    page = write_audit(data, audited, chosen, out, n_pictures=pictures, track=track)
    say(f"{counted(len(audited.audits), 'case')}, worst first, in {page}")
    end_with(audited.failures, len(data))
