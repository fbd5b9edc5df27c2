"""Every engine computes the same network; the fastest is found by trying."""

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError
from sfumato.inference.engines import Task, compute_with
from sfumato.model.network import NetworkSettings, build_network

SETTINGS = NetworkSettings(
    features=(8, 16, 16), strides=((1,) * 3, (2,) * 3, (2,) * 3), kernels=((3,) * 3,) * 3
)


@pytest.fixture(scope="module")
def task():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(SETTINGS, 2, 3).eval()
    return Task(
        network=network,
        input_shape=(1, 2, 16, 16, 8),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_agree_on_windows_of_any_shape(task, engine):
    name, compute = compute_with(engine, task)
    assert name == engine
    _, reference = compute_with("torch", task)
    generator = torch.Generator().manual_seed(1)
    for shape in ((1, 2, 16, 16, 8), (1, 2, 8, 24, 16), (1, 2, 16, 16, 8)):
        images = torch.randn(shape, generator=generator)
        np.testing.assert_allclose(compute(images), reference(images), atol=2e-3)


def test_auto_takes_an_engine_that_is_installed(task):
    name, compute = compute_with("auto", task)
    assert name in ("torch", "onnxruntime", "openvino")
    assert compute(torch.zeros(task.input_shape)).shape == (1, 3, 16, 16, 8)


def test_what_an_engine_gave_stays_when_it_computes_again(task):
    for engine in ("torch", "onnxruntime", "openvino"):
        _, compute = compute_with(engine, task)
        first = compute(torch.zeros(task.input_shape))
        before = first.clone()
        compute(torch.ones(task.input_shape))
        np.testing.assert_array_equal(first, before)


def test_an_unknown_engine_is_refused(task):
    with pytest.raises(ConfigError, match="did you mean 'openvino'"):
        compute_with("opnvino", task)


def test_an_engine_that_is_not_installed_says_how_to_get_it(task, monkeypatch):
    monkeypatch.setattr("sfumato.inference.engines.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        compute_with("openvino", task)
    assert str(caught.value) == (
        "engine 'openvino' is not installed; pip install 'sfumato[openvino]'"
    )
