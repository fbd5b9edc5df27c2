"""An exported network computes what the model does, in programs that know no sfumato."""

import json

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError
from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.inference.export import METADATA, export_model
from sfumato.labels.classes import ClassList
from sfumato.model.network import NetworkSettings, build_network
from sfumato.model.trained import TrainedModel

SETTINGS = NetworkSettings(
    features=(8, 16, 16), strides=((1,) * 3, (2,) * 3, (2,) * 3), kernels=((3,) * 3,) * 3
)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(SETTINGS, 1, 3).eval()
    return TrainedModel(
        network=network,
        network_settings=SETTINGS,
        n_channels=1,
        window=(16, 16, 8),
        mirror_axes=(0,),
        classes=ClassList(names=("background", "one", "two"), values=(0, 1, 5)),
        preprocessing=PreprocessingSettings(
            spacing_mm=(1.0, 1.0, 2.0), channels=(ChannelSettings(),)
        ),
    )


def logits_of(path, kind, images):
    """Compute as another program would, and read what the file says about itself."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map[METADATA]
        return session.run(None, {"image": images.numpy()})[0], text
    if kind == "openvino":
        import openvino

        read = openvino.Core().read_model(path)
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(read, "CPU", settings)
        return compiled([images.numpy()])[0], read.get_rt_info([METADATA]).astype(str)
    extra = {METADATA: ""}
    module = torch.export.load(path, extra_files=extra).module()
    return module(images).detach().numpy(), extra[METADATA]


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch"])
def test_an_exported_network_computes_windows_of_any_shape_and_describes_itself(
    model, kind, tmp_path
):
    path, difference = export_model(model, kind, tmp_path)
    assert difference < 1e-3
    for shape in ((1, 1, 16, 16, 8), (3, 1, 8, 24, 32)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        logits, text = logits_of(path, kind, images)
        with torch.inference_mode():
            np.testing.assert_allclose(logits, model.network(images), atol=2e-3)
    description = json.loads(text)
    assert description["class_values"] == [0, 1, 5]
    assert description["preprocessing"]["spacing_mm"] == [1.0, 1.0, 2.0]
    assert description["window_divides_by"] == [4, 4, 4]


def test_an_unknown_kind_of_file_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        export_model(model, "onx", tmp_path)
