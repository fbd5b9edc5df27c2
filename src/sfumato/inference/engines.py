"""What computes a network: torch, ONNX Runtime or OpenVINO."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from sfumato.errors import ConfigError, unknown_name
from sfumato.inference.averaging import Compute
from sfumato.model.tensors import Images, Logits

_KEPT_SHAPES = 4
"""Shapes of windows that OpenVINO stays prepared for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A network and how it is to be computed.

    Attributes:
        network: On the device, ready for use.
        input_shape: Of a batch of one window: (1, channels, *window).
        device: Where torch computes; the other engines are for the processor only.
        dtype: The number type of convolutions; ONNX Runtime takes float32 whatever it is.
    """

    network: nn.Module
    input_shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype


def compute_with(engine: str, task: Task) -> tuple[str, Compute]:
    """Prepare a network for an engine.

    Args:
        engine: "torch", "onnxruntime", "openvino", or "auto" for the fastest of those that are
            installed, which a few windows tell.
        task: What to compute.

    Returns:
        The engine that was taken, and the network in it.

    Raises:
        ConfigError: If there is no such engine, it is not installed or does not do the device.
    """
    if engine == "auto":
        return _fastest(task)
    if engine not in _ENGINES:
        raise ConfigError(unknown_name("engine", engine, ["auto", *_ENGINES]))
    if engine != "torch" and task.device.type != "cpu":
        raise ConfigError(
            f"engine {engine!r} computes on the processor only, got device {task.device.type!r};"
            " add --device cpu or take --engine torch"
        )
    if not is_installed(engine):
        raise ConfigError(f"engine {engine!r} is not installed; pip install 'sfumato[{engine}]'")
    return engine, _ENGINES[engine](task)


def _fastest(task: Task) -> tuple[str, Compute]:
    usable = [e for e in _ENGINES if is_installed(e)] if task.device.type == "cpu" else ["torch"]
    if len(usable) == 1:
        return compute_with(usable[0], task)
    computes = {engine: _ENGINES[engine](task) for engine in usable}
    fastest = min(usable, key=lambda engine: _seconds(computes[engine], task.input_shape))
    return fastest, computes[fastest]


def _seconds(compute: Compute, shape: tuple[int, ...]) -> float:
    """Return the shorter time of two windows, after one that takes longer than all others."""
    images, seconds = torch.zeros(shape), []
    for _ in range(3):
        started = time.perf_counter()
        compute(images)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def is_installed(engine: str) -> bool:
    """Tell whether an engine can be used here."""
    # The exporter that ONNX Runtime's networks come from needs onnx.
    needed = {"onnxruntime": ["onnxruntime", "onnx"]}.get(engine, [engine])
    return all(find_spec(name) is not None for name in needed)


def network_on(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Compute:
    """Wrap a network so that torch computes it on a device in a number type, without gradients."""

    def compute(images: Images) -> Logits:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            logits: Logits = network(images.to(device))
        return logits

    return compute


def _onnxruntime_compute(task: Task) -> Compute:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        to_onnx(task.network, task.input_shape), options, providers=["CPUExecutionProvider"]
    )

    def compute(images: Images) -> Logits:
        (logits,) = session.run(None, {"image": images.contiguous().numpy()})
        return torch.from_numpy(logits)

    return compute


def _openvino_compute(task: Task) -> Compute:
    import openvino

    precision = "bf16" if task.dtype == torch.bfloat16 else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    converted = to_openvino(task.network, task.input_shape)
    prepared: dict[tuple[int, ...], Any] = {}

    def compute(images: Images) -> Logits:
        shape = tuple(images.shape)
        if shape not in prepared:
            if len(prepared) == _KEPT_SHAPES:
                del prepared[next(iter(prepared))]
            # Of a known shape, it plans memory and loops better.
            converted.reshape(list(shape))
            compiled = openvino.Core().compile_model(converted, "CPU", settings)
            prepared[shape] = compiled.create_infer_request()
        outputs = prepared[shape].infer([images.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(outputs[0])

    return compute


def to_onnx(network: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """Convert a network to ONNX with any batch and any window that its strides divide."""
    names = {0: "batch", **{2 + a: f"axis_{a}" for a in range(len(input_shape) - 2)}}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "network.onnx"
        # The newer exporter takes many times longer for the same file.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(input_shape),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": names, "logits": names},
        )
        return path.read_bytes()


def to_openvino(network: nn.Module, input_shape: tuple[int, ...]) -> Any:
    """Convert a network to OpenVINO with any batch and any window that its strides divide."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return openvino.convert_model(network, example_input=torch.zeros(input_shape))


_ENGINES: dict[str, Callable[[Task], Compute]] = {
    "torch": lambda task: network_on(task.network, task.device, task.dtype),
    "openvino": _openvino_compute,
    "onnxruntime": _onnxruntime_compute,
}
