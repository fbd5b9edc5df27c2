"""Which device computes, and which process gets which GPU."""

from collections.abc import Callable

import pytest
import torch

from sfumato.errors import ConfigError
from sfumato.training.distributed import Place
from sfumato.workflow import devices
from sfumato.workflow.devices import choose_device, choose_device_of


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_one_plain_error(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    expected = f"device {name!r} cannot be used on this machine; try --device cpu"
    assert str(caught.value) == expected


def test_processes_on_the_cpu_share_it() -> None:
    assert choose_device_of(Place(rank=1, size=2, local_rank=1), "cpu") == torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Act as if this machine had GPUs."""

    def give(count: int) -> None:
        monkeypatch.setattr(devices, "choose_device", torch.device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)

    return give


def process(local_rank: int) -> Place:
    return Place(rank=4 + local_rank, size=8, local_rank=local_rank)


def test_each_process_has_a_gpu_of_its_own(gpus: Callable) -> None:
    gpus(4)
    assert choose_device_of(process(3), "cuda") == torch.device("cuda:3")
    gpus(1)  # Of four, but this process sees its own alone.
    assert choose_device_of(process(3), "cuda") == torch.device("cuda:0")
    gpus(2)
    with pytest.raises(ConfigError, match="this machine has 2 GPUs, but more processes"):
        choose_device_of(process(3), "cuda")


@pytest.mark.parametrize("name", ["mps", "cuda:1"])
def test_processes_cannot_share_one_gpu(gpus: Callable, name: str) -> None:
    gpus(2)
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be shared by 8 processes"):
        choose_device_of(process(0), name)
    assert choose_device_of(Place(), name) == torch.device(name)
