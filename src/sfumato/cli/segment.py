"""`sfumato segment`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import options
from sfumato.cli.interruption import resumable
from sfumato.errors import ConfigError
from sfumato.image.names import FileType, Overlay
from sfumato.settings import Precision

if TYPE_CHECKING:
    from sfumato.workflow.segmented_case import Computation, SegmentRequest
    from sfumato.workflow.segmenting import Workplace


def segment(
    model: Annotated[Path, typer.Argument(help="The folder RUN, RUN/model or RUN/best_model.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders of images, DICOM folders, data sets, tables (cases.csv), or"
            " patterns of such names."
        ),
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
        typer.Option(
            "--format",
            help="What to write: the same as the image, nifti, or seg.nrrd for 3D Slicer.",
        ),
    ] = "same",
    overlay: Annotated[
        Overlay | None,
        typer.Option("--overlay", help="Write a preview of each case too: png or html."),
    ] = None,
    device: options.Device = "auto",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="torch, openvino, onnxruntime; auto takes the fastest that is installed.",
        ),
    ] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="Of convolutions: float32, bfloat16; auto takes what is fast on the device.",
        ),
    ] = "auto",
    ray: options.Ray = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Leave what is done; do what is missing or changed."),
    ] = False,
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
    from sfumato.inference.predictor import InferenceSettings
    from sfumato.workflow.segmented_case import Computation, SegmentRequest
    from sfumato.workflow.segmenting import Workplace

    if resume and overwrite:
        raise ConfigError("--resume keeps what is done, --overwrite removes it; give one of them")
    request = SegmentRequest(
        has_probabilities=probabilities,
        has_uncertainty=uncertainty,
        level=level,
        has_postprocessing=not no_postprocessing,
        file_type=file_type,
        overlay=overlay,
    )
    places = (model, *(others or []))
    computation = Computation(
        places=places,
        settings=InferenceSettings(is_mirrored=mirror),
        device=device,
        precision=precision,
        engines=(engine,) * len(places),
    )
    workplace = Workplace(ray=ray, is_resumed=resume, is_overwritten=overwrite)
    if server is not None:
        if computation != _left_open(places[0]) or ray or resume or overlay:
            raise ConfigError(
                "--with, --mirror, --device, --engine, --precision, --ray, --resume and --overlay"
                " are not for a server; leave them out with --server"
            )
        _segment_there(inputs, out, (server, token_file), str(model), request, workplace)
        return
    with resumable(out):
        _segment(inputs, out, computation, request, workplace)


def _segment(
    inputs: list[Path],
    out: Path,
    computation: "Computation",
    request: "SegmentRequest",
    workplace: "Workplace",
) -> None:
    from sfumato.cli.console import end_with, say, track
    from sfumato.report.metric_words import counted
    from sfumato.workflow.segmented_case import SegmentJob, choose_all, load_models, make_ensemble
    from sfumato.workflow.segmenting import (
        check_file_type,
        check_kind,
        claim_output,
        known_engines,
        open_inputs,
        segment_cases,
    )

    models = load_models(computation.places)
    records = open_inputs(inputs, models[0].n_channels)
    check_file_type(records, request.file_type)
    ensemble = make_ensemble(models, known_engines(out, computation))
    check_kind(records, ensemble)
    if request.has_uncertainty and (reason := ensemble.missing_interval(request.level)):
        say(f"Volumes get no interval: {reason}.", style="yellow")
    claim_output(out, computation.places, records, workplace)
    job = SegmentJob(
        out=out.absolute(), computation=choose_all(computation, ensemble), request=request
    )
    outcome = segment_cases(ensemble, records, job, workplace.ray, track)
    n_done = len(records) - len(outcome.failures)
    if n_done:
        say(f"{counted(n_done, 'segmentation')} in {out}")
    for case_id, warning in outcome.warnings.items():
        say(f"{case_id}: {warning}", style="yellow")
    end_with(outcome.failures, len(records))


def _left_open(place: Path) -> "Computation":
    """Return how one model computes where nothing was said."""
    from sfumato.inference.predictor import InferenceSettings
    from sfumato.workflow.segmented_case import Computation

    return Computation(
        places=(place,),
        settings=InferenceSettings(),
        device="auto",
        precision="auto",
        engines=("auto",),
    )


def _segment_there(
    inputs: list[Path],
    out: Path,
    server: tuple[str, Path | None],
    model: str,
    request: "SegmentRequest",
    workplace: "Workplace",
) -> None:
    """Let a server, which may want a token, segment; write what it sends back."""
    from sfumato.cli.console import end_with, say, track
    from sfumato.report.metric_words import counted
    from sfumato.service.client import ServiceClient
    from sfumato.service.remote import find_model, segment_on_server
    from sfumato.service.token import read_token
    from sfumato.workflow.segmenting import claim_output, open_inputs

    url, token_file = server
    client = ServiceClient(url, None if token_file is None else read_token(token_file))
    records = open_inputs(inputs, len(find_model(client, model)["channels"]))
    claim_output(out, [], records, workplace)
    wanted = {
        "probabilities": request.has_probabilities,
        "uncertainty": request.has_uncertainty,
        "level": request.level,
        "postprocessing": request.has_postprocessing,
        "format": request.file_type,
    }
    failures = segment_on_server(client, model, records, out, wanted, track)
    if len(failures) < len(records):
        say(f"{counted(len(records) - len(failures), 'segmentation')} in {out}")
    end_with(failures, len(records))
