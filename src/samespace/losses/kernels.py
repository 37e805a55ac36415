"""Which kernel computes a head on its device: what was asked for, where it can run and agrees with the exact one."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from samespace.errors import InputError, suggest
from samespace.losses.chunked import computed
from samespace.losses.softmax import Kernel, Softmax

KernelChoice = Literal["auto", "float32", "bf16", "triton"]
KERNELS = get_args(KernelChoice)
"""`auto` is bf16 under autocast on a GPU and float32 otherwise; see `softmax.Kernel` for the others."""

TOLERANCE = 2e-2
"""Largest error of loss and gradients, in proportion, with which a kernel is used; bf16 alone makes about 5e-3."""


def check_kernel(choice: KernelChoice) -> KernelChoice:
    """Return the choice.

    Raises:
        InputError: there is no such kernel.
    """
    if choice not in KERNELS:
        raise InputError(f"unknown kernel {choice!r}; {suggest(str(choice), KERNELS)}")
    return choice


def kernel_for(choice: KernelChoice, embeddings: Tensor) -> Kernel:
    """The kernel for a batch of embeddings; one that was asked for and cannot be used is warned of once."""
    device = embeddings.device
    if choice == "float32" or embeddings.dtype == torch.float64 or torch.compiler.is_compiling():
        return "float32"
    if choice == "auto":
        mixed = device.type == "cuda" and torch.is_autocast_enabled("cuda")
        return "float32" if not mixed or unusable("bf16", device) else "bf16"
    fault = kernel_fault(choice, device)
    if fault is None:
        return choice
    _warn_once(fault)
    return "float32"


def kernel_fault(choice: KernelChoice, device: torch.device) -> str | None:
    """Why a kernel that was asked for is not used on a device, in a line; None where it is, and for `auto`."""
    if choice in ("auto", "float32") or (fault := unusable(choice, device)) is None:
        return None
    return f"head.kernel={choice}: {fault}; many classes are computed in float32"


@cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=4)


@cache
def unusable(kernel: Kernel, device: torch.device) -> str | None:
    """Why a kernel is not used on a device; None where it is. The first call tries it there."""
    stand_in = kernel == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not stand_in:
        return "it needs a GPU"
    if not stand_in and (torch.cuda.get_device_capability(device)[0] < 8 or not hasattr(torch.ops.aten.mm, "dtype")):
        return "it needs a GPU with bf16 (compute capability 8.0) and torch 2.8"
    if kernel == "triton" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        error = largest_error(kernel, device)
    except Exception as failure:  # a compiler of kernels fails in ways of its own
        return f"it failed its trial ({' '.join(str(failure).split())[:120]})"
    return None if error <= TOLERANCE else f"it is off by {error:.1g} of the exact gradients in its trial"


def largest_error(kernel: Kernel, device: torch.device) -> float:
    """Largest error of loss and gradients in proportion to them, of a small made-up batch on a device."""
    generator = torch.Generator().manual_seed(0)
    weight, noise = torch.randn(5000, 64, generator=generator), torch.randn(72, 64, generator=generator)
    targets = torch.randint(1, len(weight), (72,), generator=generator).index_fill_(0, torch.tensor([3]), -1)
    vectors = 64 * functional.normalize(functional.normalize(weight[targets]) + noise / 8)
    offset = torch.zeros(len(weight)).index_fill_(0, torch.tensor([0]), -torch.inf)
    vectors, weight, offset, targets = (tensor.to(device) for tensor in (vectors, weight, offset, targets))
    exact, ours = (
        computed(vectors, weight, offset, targets, Softmax("arcface", 64.0, 0.5, True, None, one), (True, True, False))
        for one in ("float32", kernel)
    )
    pairs = [(exact[0], ours[0]), *zip(exact[1][:2], ours[1][:2], strict=True)]
    errors = torch.stack([(b - a).norm() / a.norm() for a, b in pairs if a is not None and b is not None])
    return float(errors.nan_to_num(nan=torch.inf).max())
