"""`Space`: the identity of an embedding space, and the rule about which spaces may be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

from samespace.errors import InputError, SpaceError

Precision = Literal["fp32", "bf16"]
"""The arithmetic that made vectors: float32 throughout, or products of bfloat16 where they agree with it."""
Score = Literal["cosine", "ip", "l2"]
"""How a search compares two vectors, higher is nearer: cosine, inner product, or minus the squared L2 distance."""


@dataclass(frozen=True)
class Space:
    """The identity of an embedding space.

    Two vectors may be compared only if their spaces are the same, or a certificate links them. The identity is
    what decides a vector's value: the model's weights, the preprocessing of images, the dimension and whether
    vectors are L2-normalised. The name is for people and is no part of it, nor is the precision.

    Attributes:
        weights: sha256 (hex) over the model's architecture and parameters.
        preprocessing: canonical text of what happens to an image before the model sees it.
        dim: dimensions of a vector.
        normalized: whether vectors have unit length.
        name: what people call the model.
        precision: the arithmetic that made the vectors.

    Example:
        >>> a = Space(weights="00" * 32, preprocessing="resize 32", dim=64, normalized=True, name="v1")
        >>> b = Space(weights="00" * 32, preprocessing="resize 32", dim=64, normalized=True, name="renamed")
        >>> c = Space(weights="00" * 32, preprocessing="resize 48", dim=64, normalized=True, name="v1")
        >>> a == b, a == c
        (True, False)
    """

    weights: str
    preprocessing: str
    dim: int
    normalized: bool
    name: str = field(default="", compare=False)
    precision: Precision = field(default="fp32", compare=False)

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InputError(f"a space needs at least one dimension, got dim={self.dim}")

    @classmethod
    def declared(cls, name: str, dim: int, revision: str = "", *, normalized: bool) -> Space:
        """The space of a model that is not at hand, by what people call it: its name, revision and dimension.

        Example:
            >>> Space.declared("clip", 512, "v1", normalized=True) == Space.declared("clip", 512, "v2", normalized=True)
            False
        """
        if not name.strip():
            raise InputError("a declared space needs the name of its model")
        weights = f"declared: {json.dumps([name, revision])}"
        shown = f"{name}@{revision}" if revision else name
        return cls(weights=weights, preprocessing="declared with the name", dim=dim, normalized=normalized, name=shown)

    def truncated(self, dim: int) -> Space:
        """The space of the leading `dim` values of its vectors, scaled to length one again where they have that."""
        return self if dim == self.dim else replace(self, dim=dim, name=f"{self.name or 'unnamed'}[:{dim}]")

    @cached_property
    def id(self) -> str:
        """Twelve hex digits that stand for this identity."""
        identity = [self.weights, self.preprocessing, self.dim, self.normalized]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.id} ({self.name or 'unnamed'}, {self.dim}-d)"

    def to_dict(self) -> dict[str, Any]:
        """The space as JSON-ready values, its id included; the precision only where it is not fp32."""
        values = {"id": self.id, **asdict(self)}
        return values if self.precision != "fp32" else {key: values[key] for key in values if key != "precision"}

    @classmethod
    def from_dict(cls, value: dict[str, Any], where: str = "space") -> Space:
        """Rebuild a space from `to_dict`; `where` names the source in errors.

        Raises:
            InputError: it is no mapping, a field is missing or of the wrong type, or the recorded id does not fit the
                fields.
        """
        if not isinstance(value, dict):
            raise InputError(f"{where}: a space should be a JSON object, got {value!r}")
        kinds = {"weights": str, "preprocessing": str, "dim": int, "normalized": bool}
        for key, kind in kinds.items():
            if not isinstance(value.get(key), kind):
                raise InputError(f"{where}: '{key}' should be a {kind.__name__}, got {value.get(key)!r}")
        precision = value.get("precision", "fp32")
        if precision not in get_args(Precision):
            raise InputError(f"{where}: 'precision' is {precision!r}; legal: {', '.join(get_args(Precision))}")
        space = cls(**{key: value[key] for key in kinds}, name=str(value.get("name", "")), precision=precision)
        if value.get("id", space.id) != space.id:
            raise InputError(
                f"{where}: the id {value['id']} does not fit its fields ({space.id}); the file was altered"
            )
        return space


def lengths_differ(space: Space, known: Iterable[Space]) -> str:
    """For messages: a clause where a known space is another only because of its vectors' lengths."""
    if replace(space, normalized=not space.normalized) not in known:
        return ""
    return "; the two differ only in whether all vectors have unit length"


class Links(Protocol):
    """What allows comparing vectors of one space with those of another, such as a certificate."""

    def links(self, old: Space, new: Space) -> bool:
        """Whether new vectors may be compared with old ones."""
        ...


def undeclared(name: str) -> SpaceError:
    """The refusal of vectors called `name` that declare no space, where one is needed."""
    return SpaceError(
        f"{name} declares no space; embed with 'samespace embed', which records it, or say after the path which model "
        "made them: ',space=NAME,revision=R'"
    )


def require_comparable(query: Space | None, gallery: Space | None, certificate: Links | None = None) -> None:
    """Refuse to compare vectors of unlike spaces unless a certificate links them.

    Raises:
        SpaceError: a space is undeclared, or the two differ and no certificate vouches for the pair.
    """
    if query is None or gallery is None:
        side = "query" if query is None else "gallery"
        raise SpaceError(f"the {side} vectors declare no space; embed them with 'samespace embed', which records it")
    if query == gallery:
        return
    if certificate is None:
        raise SpaceError(
            f"expected query vectors of space {gallery}, got {query}; run 'samespace check' to link the two"
        )
    if not certificate.links(gallery, query):
        raise SpaceError(f"the certificate does not allow queries of space {query} on a gallery of {gallery}")
