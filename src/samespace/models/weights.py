"""Weights that were trained elsewhere, from a file: safetensors, or a torch state dict; nothing is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.files import require_file
from samespace.models.tensors import load_tensors

_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema")
_PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    `path`: `.safetensors`, a file that `torch.save` wrote of a state dict (bare, or under `state_dict` or `model`), or
    a model folder of ours. What data-parallel training and `torch.compile` put before names is taken off.

    Raises:
        InputError: no such file, no weights in it, or a torch file that holds more than tensors and plain values.
    """
    path, what = Path(path), "weights: .safetensors, or a state dict written by torch.save"
    if path.is_dir():
        inner = path / "model" / "model.safetensors"
        path = path / "model.safetensors" if not inner.exists() else inner
    if path.suffix == ".safetensors":
        return load_tensors(path, what)[0]
    require_file(path, what)
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds Python objects besides tensors, which are never run; save model.state_dict() alone"
        ) from None
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read ({line}); expected {what}") from None
    while isinstance(held, dict) and (inside := next((held[key] for key in _WRAPPERS if key in held), None)):
        held = inside
    tensors = (
        {str(key): value for key, value in held.items() if isinstance(value, Tensor)} if isinstance(held, dict) else {}
    )
    if not tensors:
        raise InputError(f"{path} holds no tensors by name; expected {what}")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
