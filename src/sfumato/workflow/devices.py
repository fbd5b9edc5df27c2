"""Which device computes."""

import torch

from sfumato.errors import ConfigError


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
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used on this machine; try --device cpu"
        ) from error
    return device
