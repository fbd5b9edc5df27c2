"""`sfumato segment`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import options
from sfumato.image.names import FileType

if TYPE_CHECKING:
    from sfumato.cases.record import CaseRecord
    from sfumato.workflow.failures import Failure
    from sfumato.workflow.segmenting import SegmentRequest


def segment(
    model: Annotated[Path, typer.Argument(help="The folder RUN, RUN/model or RUN/best_model.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Images, folders of images, DICOM folders or data sets."),
    ],
    out: options.Out,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="MODEL",
            help="One more model, to average probabilities with; may be repeated.",
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Write each case's class probabilities too (NIfTI)."),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Write nested contours, probabilities, and volumes with intervals too.",
        ),
    ] = False,
    level: Annotated[
        float,
        typer.Option("--level", help="How often an interval shall hold the true volume."),
    ] = 0.9,
    no_postprocessing: Annotated[
        bool,
        typer.Option(
            "--no-postprocessing", help="Do not tidy segmentations up as the model asks for."
        ),
    ] = False,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Average over mirrored images: slower, often better."),
    ] = False,
    file_type: Annotated[
        FileType,
        typer.Option("--format", help="What to write: nifti, or the same as the image."),
    ] = "same",
    device: options.Device = "auto",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="torch, openvino, onnxruntime; auto takes the fastest that is installed.",
        ),
    ] = "auto",
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="Let a server do it; MODEL is its name there."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="A file with the server's token.")
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Segment images with a trained model, or with several together.

    A segmentation has its image's name, file type and grid, voxel for voxel, and the label
    values of the data the model was trained on; of a DICOM series it is a DICOM SEG. A bad
    case does not stop the others.

    [dim]sfumato segment run scan.nii.gz more_scans/ --out segmentations --probabilities
    sfumato segment fold_0 scan.nii.gz --with fold_1 --with fold_2 --out segmentations
    sfumato segment run scan.nii.gz --server http://127.0.0.1:8765 --out segmentations[/]
    """
    from sfumato.cli.console import say, track
    from sfumato.errors import ConfigError
    from sfumato.inference.ensemble import Ensemble
    from sfumato.inference.predictor import InferenceSettings, Predictor
    from sfumato.storage import claim_folder
    from sfumato.training.loop import compute_dtype
    from sfumato.workflow.devices import choose_device
    from sfumato.workflow.segmenting import (
        SegmentRequest,
        check_file_type,
        load_models,
        segment_cases,
    )

    request = SegmentRequest(
        has_probabilities=probabilities,
        has_uncertainty=uncertainty,
        level=level,
        has_postprocessing=not no_postprocessing,
        file_type=file_type,
    )
    if server is not None:
        if others or mirror or device != "auto" or engine != "auto":
            raise ConfigError(
                "--with, --mirror, --device and --engine are decided where the server is started;"
                " leave them out with --server"
            )
        _segment_there(str(model), inputs, out, server, token_file, request, overwrite=overwrite)
        return
    places = [model, *(others or [])]
    models, chosen = load_models(places), choose_device(device)
    records = _records(inputs, models[0].n_channels)
    check_file_type(records, file_type)
    settings = InferenceSettings(is_mirrored=mirror)
    dtype = compute_dtype("auto", chosen)
    ensemble = Ensemble([Predictor(m, settings, chosen, dtype, engine) for m in models])
    if uncertainty and (reason := ensemble.missing_interval(level)):
        say(f"Volumes get no interval: {reason}.", style="yellow")
    paths = (path for record in records for path in record.image_paths)
    claim_folder(out, overwrite=overwrite, inputs=[*places, *paths])
    failures = segment_cases(ensemble, records, out, request, track)
    _tell(records, failures, out)


def _segment_there(
    model: str,
    inputs: list[Path],
    out: Path,
    server: str,
    token_file: Path | None,
    request: "SegmentRequest",
    *,
    overwrite: bool,
) -> None:
    """Let a server segment, and write what it sends back."""
    from sfumato.cli.console import track
    from sfumato.service.client import ServiceClient
    from sfumato.service.remote import find_model, segment_on_server
    from sfumato.service.token import read_token
    from sfumato.storage import claim_folder

    client = ServiceClient(server, None if token_file is None else read_token(token_file))
    records = _records(inputs, len(find_model(client, model)["channels"]))
    paths = (path for record in records for path in record.image_paths)
    claim_folder(out, overwrite=overwrite, inputs=paths)
    wanted = {
        "probabilities": request.has_probabilities,
        "uncertainty": request.has_uncertainty,
        "level": request.level,
        "postprocessing": request.has_postprocessing,
        "format": request.file_type,
    }
    failures = segment_on_server(client, model, records, out, wanted, track)
    _tell(records, failures, out)


def _records(inputs: list[Path], n_channels: int) -> "list[CaseRecord]":
    from sfumato.cases.dataset import Dataset
    from sfumato.workflow.segmenting import gather_inputs

    datasets = [Dataset.open(path) for path in inputs]
    if n_channels > 1:
        datasets = [dataset.with_joined_channels(n_channels) for dataset in datasets]
    return gather_inputs(datasets)


def _tell(records: "list[CaseRecord]", failures: "list[Failure]", out: Path) -> None:
    from sfumato.cli.console import end_with, say
    from sfumato.report.metric_words import counted

    if len(failures) < len(records):
        say(f"{counted(len(records) - len(failures), 'segmentation')} in {out}")
    end_with(failures, len(records))
