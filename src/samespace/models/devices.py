"""Where to compute, from what a user writes."""

from __future__ import annotations

import torch

from samespace.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device a user named: `auto` takes a GPU where there is one.

    Raises:
        InputError: the device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise InputError(
            f"the device '{name}' cannot be used ({count} GPUs are at hand); legal: auto, cpu, cuda, cuda:N"
        ) from error
    return device
