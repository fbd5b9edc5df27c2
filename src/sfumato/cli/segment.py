"""`sfumato segment`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def segment(
    model: Annotated[Path, typer.Argument(help="The folder RUN, RUN/model or RUN/best_model.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Images, folders of images, DICOM folders or data sets."),
    ],
    out: options.Out,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Write each case's class probabilities too (NIfTI)."),
    ] = False,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Average over mirrored images: slower, often better."),
    ] = False,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
) -> None:
    """Segment images with a trained model.

    A segmentation has its image's name, file type and grid, voxel for voxel, and the label
    values of the data the model was trained on. A bad case does not stop the others.

    [dim]sfumato segment run scan.nii.gz more_scans/ --out segmentations --probabilities[/]
    """
    from sfumato.cases.dataset import Dataset
    from sfumato.cli.console import console, print_failures, track
    from sfumato.inference.predictor import InferenceSettings, Predictor
    from sfumato.model.trained import TrainedModel
    from sfumato.storage import claim_folder
    from sfumato.training.loop import compute_dtype
    from sfumato.workflow.devices import choose_device
    from sfumato.workflow.segmenting import segment_cases

    trained, chosen = TrainedModel.load(model), choose_device(device)
    datasets = [Dataset.open(path) for path in inputs]
    settings = InferenceSettings(is_mirrored=mirror)
    predictor = Predictor(trained, settings, chosen, compute_dtype("auto", chosen))
    claim_folder(out, overwrite=overwrite)
    failures = segment_cases(predictor, datasets, out, has_probabilities=probabilities, track=track)
    total = sum(len(dataset) for dataset in datasets)
    if len(failures) < total:
        console.print(f"{total - len(failures)} segmentations in {out}")
    if failures:
        print_failures([(f.case_id, f.reason) for f in failures], total)
        raise typer.Exit(1)
