"""Weights that were trained elsewhere, from a file: safetensors, or a torch state dict; nothing is unpickled."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.files import require_file
from samespace.models.tensors import load_tensors

_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema")
_PREFIXES = ("module.", "_orig_mod.")
_NAMED = 5


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


@dataclass(frozen=True)
class Fitted:
    """Which tensors of a file a model took.

    Attributes:
        taken: names of the model's tensors that were set.
        absent: names of the model's tensors that the file lacks.
        unlike: names of those that have another shape in the file.
        unused: names of the file's tensors that the model has no place for.
    """

    taken: tuple[str, ...]
    absent: tuple[str, ...]
    unlike: tuple[str, ...]
    unused: tuple[str, ...]

    def describe(self) -> str:
        """What was taken and what did not fit, by name, on one line."""
        parts = [f"{len(self.taken)} tensors taken"]
        kinds = {"not in the file": self.absent, "of another shape": self.unlike, "without a place": self.unused}
        for words, names in kinds.items():
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                parts.append(f"{len(names)} {words}: {', '.join(names[:_NAMED])}{more}")
        return "; ".join(parts)


def start_from(embedder: nn.Module, path: str | Path) -> Fitted:
    """Set what fits of an embedder to the weights of a file, see `read_weights`; the rest stays as it was drawn.

    Names are those of the embedder (`backbone.…`, `projection.…`) or, where the file has none of these, those of the
    backbone alone, as timm and torchvision write them.

    Raises:
        InputError: the file cannot be read, or no weight of the backbone fits.
    """
    given = read_weights(path)
    if not any(name.startswith("backbone.") for name in given):
        given = {f"backbone.{name}": value for name, value in given.items()}
    own = embedder.state_dict()
    unlike = tuple(name for name in own if name in given and given[name].shape != own[name].shape)
    taken = tuple(name for name in own if name in given and name not in unlike)
    absent = tuple(name for name in own if name not in given)
    fitted = Fitted(taken, absent, unlike, tuple(name for name in given if name not in own))
    if not any(name.startswith("backbone.") and own[name].is_floating_point() for name in taken):
        raise InputError(f"no weight in {path} fits this backbone ({fitted.describe()}); choose the network it is of")
    embedder.load_state_dict({name: given[name] for name in taken}, strict=False)
    return fitted
