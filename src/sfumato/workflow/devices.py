"""Which device computes."""

import torch

from sfumato.errors import ConfigError
from sfumato.training.distributed import Place

KINDS = ("cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Find a device by name.

    Args:
        name: "auto" (the fastest there is), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ConfigError: If this machine does not have it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    refusal = f"device {name!r} cannot be used on this machine; try --device cpu"
    if name.partition(":")[0] not in KINDS:
        raise ConfigError(refusal)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(refusal) from error
    return device


def choose_device_of(place: Place, name: str) -> torch.device:
    """Find the device of one of several processes: each GPU serves one of them.

    Args:
        place: Where the process stands among the others.
        name: What `choose_device` takes.

    Raises:
        ConfigError: If this machine does not have such devices enough.
    """
    device = choose_device(name)
    if place.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise ConfigError(
            f"device {name!r} cannot be shared by {place.size} processes; take --device cuda or cpu"
        )
    n_devices = torch.cuda.device_count()
    # A batch system may show each process its own GPU alone.
    index = place.local_rank if n_devices > 1 else 0
    if index >= n_devices:
        raise ConfigError(
            f"this machine has {n_devices} GPUs, but more processes were started on it; start one"
            " for each GPU"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device
