"""A trained model for other programs: ONNX, OpenVINO, torch's own, or a MONAI bundle."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import ConfigError, InputError, ModelError, unknown_name
from sfumato.inference.bundle import CONFIG, write_bundle
from sfumato.inference.engines import is_installed, to_onnx, to_openvino
from sfumato.model.trained import TrainedModel
from sfumato.storage import atomic_path

METADATA = "sfumato"
"""Name under which a file describes how images are brought to the network."""
LARGEST_DIFFERENCE = 1e-3
"""In probability, between what a file computes and the model."""
_FILES = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "torch": "model.pt2",
    "monai-bundle": CONFIG.as_posix(),
}
_ENGINES = {
    "onnx": "onnxruntime", "openvino": "openvino", "torch": "torch", "monai-bundle": "torch",
}  # fmt: skip


def export_model(model: TrainedModel, kind: str, folder: Path) -> tuple[Path, float]:
    """Write a model's network for other programs, and check it on windows of two shapes.

    The file takes any batch, and any window that the network's strides divide. A description of
    what must be done to an image first, and of the classes, is in its metadata.

    Args:
        model: What was trained.
        kind: "onnx", "openvino", "torch" or "monai-bundle".
        folder: Where to.

    Returns:
        The file (of a bundle the one that MONAI's runner takes), and the largest difference in
        probability from the model.

    Raises:
        ConfigError: If there is no such kind, or what it needs is not installed.
        ModelError: If the file computes something else than the model.
    """
    if kind not in _FILES:
        raise ConfigError(unknown_name("kind of file", kind, list(_FILES)))
    engine = _ENGINES[kind]
    if not is_installed(engine):
        raise ConfigError(f"--to {kind} needs more packages; pip install 'sfumato[{engine}]'")
    path = folder / _FILES[kind]
    description = json.dumps(describe(model))
    compute = _EXPORTS[kind](model, path, description)
    difference = max(_difference(model, compute, shape) for shape in _two_shapes(model))
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"{path}: gives probabilities that differ by {difference:.2g} from the model's;"
            " do not use it, and try another kind of file"
        )
    return path, difference


def describe(model: TrainedModel) -> dict[str, Any]:
    """Say what another program must know to use the network."""
    return {
        "input": "float32, (batch, channel, *space); space runs to the patient's right, anterior"
        " and superior in volumes, and is (row, column) in flat images",
        "output": "logits, (batch, class, *space); softmax over the classes gives probabilities;"
        " to the power of 1 / temperature and divided by their sum, they are the model's",
        "steps": "normalise each channel as told, resample to spacing_mm over the same field of"
        " view by cubic splines, slide windows over it",
        "preprocessing": model.preprocessing.model_dump(mode="json"),
        "window": model.window,
        "window_divides_by": model.divisors,
        "mirror_axes": model.mirror_axes,
        "temperature": model.temperature,
        "class_names": model.classes.names,
        "class_values": model.classes.values,
        "about": model.about,
    }


def _two_shapes(model: TrainedModel) -> list[tuple[int, ...]]:
    larger = tuple(n + d for n, d in zip(model.window, model.divisors, strict=True))
    return [(1, model.n_channels, *model.window), (2, model.n_channels, *larger)]


def _difference(
    model: TrainedModel, compute: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> float:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.network(images).softmax(dim=1)
        return float((compute(images).softmax(dim=1) - expected).abs().max())


def _export_onnx(model: TrainedModel, path: Path, description: str) -> Any:
    import onnx
    import onnxruntime

    exported = onnx.load_from_string(to_onnx(model.network, (1, model.n_channels, *model.window)))
    onnx.helper.set_model_props(exported, {METADATA: description})
    with atomic_path(path) as temporary:
        temporary.write_bytes(exported.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def _export_openvino(model: TrainedModel, path: Path, description: str) -> Any:
    import openvino

    converted = to_openvino(model.network, (1, model.n_channels, *model.window))
    converted.set_rt_info(description, [METADATA])
    # Both files or none: the small one, which programs open, comes last.
    weights = path.with_suffix(".bin")
    with atomic_path(weights) as large, atomic_path(path) as small:
        openvino.serialize(converted, small, large)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: torch.from_numpy(compiled([images.numpy()])[0].copy())


def _export_torch(model: TrainedModel, path: Path, description: str) -> Any:
    shapes = _two_shapes(model)
    sizes: dict[int, Any] = {0: torch.export.Dim.AUTO}
    sizes |= {2 + axis: torch.export.Dim.AUTO for axis in range(len(model.window))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # With two windows, since a batch of one is taken for a fixed one.
            program = torch.export.export(
                model.network, (torch.zeros(shapes[1]),), dynamic_shapes=(sizes,)
            )
        except (RuntimeError, ValueError) as error:
            raise InputError("this network cannot be written for torch; try --to onnx") from error
        with atomic_path(path) as temporary:
            torch.export.save(program, temporary, extra_files={METADATA: description})
        module = torch.export.load(path).module()
    return module


def _export_bundle(model: TrainedModel, path: Path, description: str) -> Any:
    return write_bundle(model, path.parents[1], json.loads(description))


_EXPORTS = {
    "onnx": _export_onnx,
    "openvino": _export_openvino,
    "torch": _export_torch,
    "monai-bundle": _export_bundle,
}
