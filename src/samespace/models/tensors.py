"""Tensors on disk: safetensors only, with errors a user can act on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.files import require_file


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors to `path` as safetensors; the caller makes the write atomic."""
    dense = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(dense, path, metadata=metadata)
    # safetensors makes files that only their owner may read, unlike every other file of a model
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def load_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata; `what` names the file's role in the error.

    Raises:
        InputError: the file is missing, truncated or not safetensors.
    """
    require_file(path, what)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is damaged or not safetensors; expected {what}") from error


def misfit(module: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """How tensors differ from those that a module holds, by the first."""
    held = module.state_dict()
    for name, value in held.items():
        if name not in tensors:
            return f"'{name}' is missing"
        if value.shape != tensors[name].shape:
            return f"size mismatch, '{name}' has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
    foreign = [name for name in tensors if name not in held]
    return f"'{foreign[0]}' is no part of it" if foreign else "a tensor is of another kind"


def hash_tensors(architecture: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over an architecture and its parameters and buffers.

    Counters of batch norm are left out: they change no output.
    """
    digest = hashlib.sha256(architecture.encode())
    for key in sorted(tensors):
        if key.endswith("num_batches_tracked"):
            continue
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
