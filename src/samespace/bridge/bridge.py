"""`Bridge`: a map from one space to another, as a value and as a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from samespace.bridge.linear import LinearMap
from samespace.bridge.residual import ResidualMap
from samespace.bridge.support import Support
from samespace.errors import InputError, SpaceError
from samespace.files import read_json, replacing_folder, write_json
from samespace.fusion import unit
from samespace.models.tensors import hash_tensors, load_tensors, save_tensors
from samespace.progress import Advance, silent
from samespace.space import Space
from samespace.vectors import VectorSet

Method = Literal["mean-shift", "procrustes", "affine", "residual"]
Direction = Literal["gallery", "query"]

_FORMAT = "samespace.bridge/1"
_ROWS = 8192
_UNDECLARED = "undeclared"


@dataclass(frozen=True, eq=False)
class Bridge:
    """A map that was learnt from the vectors of the same items in two spaces.

    Attributes:
        map: unit vectors of the source in, unit vectors of the target out; on the CPU.
        method: how it was learnt.
        direction: `gallery` maps old vectors to the new space, `query` new vectors to the old space.
        source: the space of what it takes; None where the vectors it was learnt from declared none.
        target: the space it imitates; None likewise.
        support: what held-out classes said; None where none were held out.
    """

    map: LinearMap | ResidualMap
    method: Method
    direction: Direction
    source: Space | None
    target: Space | None
    support: Support | None = None

    @property
    def dims(self) -> tuple[int, int]:
        """Dimensions of what comes in and of what goes out."""
        if isinstance(self.map, LinearMap):
            return self.map.weight.shape[0], self.map.weight.shape[1]
        return self.map.linear.in_features, self.map.linear.out_features

    @cached_property
    def space(self) -> Space:
        """The space of mapped vectors: an identity of its own, from the map's weights and both spaces.

        It is not the target: a certificate has to link the two before vectors are compared.
        """
        ends = [_UNDECLARED if end is None else end.id for end in (self.source, self.target)]
        names = [end.name or end.id if end else _UNDECLARED for end in (self.source, self.target)]
        return Space(
            weights=hash_tensors(json.dumps([_FORMAT, type(self.map).__name__, *ends]), self.map.state_dict()),
            preprocessing=self.source.preprocessing if self.source else _UNDECLARED,
            dim=self.dims[1],
            normalized=True,
            name=f"{names[0]} bridged to {names[1]}",
        )

    def apply(self, vectors: VectorSet, *, device: torch.device | str = "cpu", advance: Advance = silent) -> VectorSet:
        """Map a set in memory; ids, labels and templates stay, float16 stays float16.

        Raises:
            SpaceError: the vectors are not of the space this bridge takes.
            InputError: they have another dimension, or one is zero.
        """
        mapped = np.empty((len(vectors), self.dims[1]), vectors.vectors.dtype)
        self._fill(mapped, vectors, device, advance)
        return replace(vectors, vectors=mapped, space=self.space, name=f"{vectors.name}, bridged")

    def apply_to(
        self,
        vectors: VectorSet,
        folder: str | Path,
        *,
        device: torch.device | str = "cpu",
        made_from: Mapping[str, Any] | None = None,
        advance: Advance = silent,
    ) -> VectorSet:
        """Map a set into a folder, block by block, so that neither side has to fit in memory; whole or not at all.

        Args:
            vectors: of the space this bridge takes.
            folder: of the vector set to write; another vector set there is replaced.
            device: to compute on.
            made_from: noted in `space.json`, for telling later whether the same would come again.
            advance: called with the vectors just mapped.

        Raises:
            SpaceError: the vectors are not of the space this bridge takes.
            InputError: they have another dimension, one is zero, or `folder` holds them or is no vector set.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / "vectors.npy").exists():
            raise InputError(f"{folder} exists and is not a vector set; choose another place")
        if folder.exists() and Path(vectors.name).exists() and folder.samefile(vectors.name):
            raise InputError(f"{folder} holds the vectors to map, which a rollback needs; choose another place")
        self._require_source(vectors)
        with replacing_folder(folder) as temporary:
            shape = (len(vectors), self.dims[1])
            place = temporary / "vectors.npy"
            mapped = np.lib.format.open_memmap(place, mode="w+", dtype=vectors.vectors.dtype, shape=shape)
            self._fill(mapped, vectors, device, advance)
            mapped.flush()
            replace(vectors, vectors=mapped, space=self.space).save_items(temporary, made_from)
        return VectorSet.load(folder)

    def save(self, folder: str | Path, *, made_from: Mapping[str, Any] | None = None) -> None:
        """Write `config.json` and `model.safetensors`, whole or not at all; another bridge there is replaced.

        `made_from` is noted in `config.json`, for telling later whether the same would come again.

        Raises:
            InputError: `folder` exists and is not a bridge.
        """
        folder = Path(folder)
        if folder.exists():
            read_config(folder)
        config = {
            "format": _FORMAT,
            "method": self.method,
            "direction": self.direction,
            "dims": list(self.dims),
            "hidden": self.map.network[0].out_features if isinstance(self.map, ResidualMap) else None,
            "space": self.space.to_dict(),
            "source": self.source.to_dict() if self.source else None,
            "target": self.target.to_dict() if self.target else None,
            "support": self.support.to_dict() if self.support else None,
            "made_from": made_from,
        }
        with replacing_folder(folder) as temporary:
            save_tensors(self.map.state_dict(), temporary / "model.safetensors")
            write_json(temporary / "config.json", config)

    @classmethod
    def load(cls, folder: str | Path) -> Bridge:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing, damaged or does not fit the other.
        """
        folder = Path(folder)
        config = read_config(folder)
        tensors, _ = load_tensors(folder / "model.safetensors", "the weights of a bridge")
        where = f"{folder}/config.json"
        try:
            (into, out), hidden = config["dims"], config["hidden"]
            mapping = LinearMap(into, out) if hidden is None else ResidualMap(into, out, int(hidden))
            mapping.load_state_dict(tensors)
            source, target = (
                Space.from_dict(config[end], where) if config[end] else None for end in ("source", "target")
            )
            support = Support.from_dict(config["support"]) if config["support"] else None
            made = cls(mapping.eval(), config["method"], config["direction"], source, target, support)
            if made.method not in get_args(Method) or made.direction not in get_args(Direction):
                raise ValueError(f"method {made.method!r}, direction {made.direction!r}")
            recorded = Space.from_dict(config["space"], where)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise InputError(
                f"{folder} is not a whole bridge: config.json and model.safetensors do not fit each other; make it "
                "with 'samespace bridge'"
            ) from error
        if recorded != made.space:
            raise InputError(f"{folder}: the weights are not those the configuration was written for; copy both again")
        return made

    def _fill(self, mapped: npt.NDArray[Any], vectors: VectorSet, device: torch.device | str, advance: Advance) -> None:
        self._require_source(vectors)
        for start, block in self._blocks(vectors, device):
            mapped[start : start + len(block)] = block
            advance(len(block))

    @torch.inference_mode()
    def _blocks(self, vectors: VectorSet, device: torch.device | str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        self.map.to(device)
        try:
            for start, block in vectors.blocks(_ROWS):
                prepared = torch.from_numpy(unit(block, vectors.name, start)).to(device)
                yield start, self.map(prepared).cpu().numpy()
        finally:
            self.map.cpu()

    def _require_source(self, vectors: VectorSet) -> None:
        if vectors.space != self.source:
            wanted, given = (f"space {end}" if end else "no declared space" for end in (self.source, vectors.space))
            raise SpaceError(f"this bridge takes vectors of {wanted}, but {vectors.name} has {given}")
        if vectors.dim != self.dims[0]:
            raise InputError(f"this bridge takes {self.dims[0]} dimensions, but {vectors.name} has {vectors.dim}")


def read_config(folder: Path) -> dict[str, Any]:
    """What `Bridge.save` wrote to `config.json`; an InputError where the folder is no bridge."""
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a bridge; expected config.json and model.safetensors in it")
    config = read_json(folder / "config.json", "the configuration of a bridge")
    if config.get("format") != _FORMAT:
        raise InputError(f"{folder}/config.json has format {config.get('format')!r}; expected '{_FORMAT}', a bridge")
    return config
