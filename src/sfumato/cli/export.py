"""`sfumato export`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def export(
    model: Annotated[Path, typer.Argument(help="The folder RUN, RUN/model or RUN/best_model.")],
    out: options.Out,
    to: Annotated[
        str, typer.Option("--to", help="onnx, openvino, torch or monai-bundle.")
    ] = "onnx",
    overwrite: options.Overwrite = False,
) -> None:
    """Write a trained network for other programs.

    The file is compared with the model on windows of two shapes. How images are brought to
    the network stands in its metadata, under "sfumato". A bundle is a folder that MONAI's
    runner segments with.

    [dim]sfumato export run --to onnx --out exported[/]
    """
    from sfumato.cli.console import say
    from sfumato.inference.export import export_model
    from sfumato.model.trained import TrainedModel
    from sfumato.storage import claim_folder

    trained = TrainedModel.load(model)
    claim_folder(out, overwrite=overwrite, inputs=[model])
    path, difference = export_model(trained, to, out)
    say(f"{path}: probabilities differ from the model's by {difference:.1g} at most")
