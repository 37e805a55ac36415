"""What requests and answers are made of: JSON checked on its way in, dataclasses on their way out."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from fastapi import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictFloat, StrictInt

from samespace.errors import InputError, SpaceError
from samespace.gallery.ledger.filters import Condition, Operator, conditions
from samespace.gallery.ledger.state import State, StoredSpace
from samespace.metrics.calibration import Scale
from samespace.names import fault
from samespace.serve.limits import Limits
from samespace.space import Precision, Score, Space
from samespace.vectors import VectorSet


def _kept(text: str) -> str:
    if (why := fault(text)) is not None:
        raise ValueError(f"text that cannot be kept: {why}")
    return text


Text = Annotated[str, AfterValidator(_kept)]
Whole = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Scalar = StrictBool | Whole | Annotated[StrictFloat, Field(allow_inf_nan=False)] | Text
OrderName = Literal["random", "centre", "distance", "traffic", "both"]


class Body(BaseModel):
    """Part of a request; a key that it does not know is refused, and so is `true` or `"1"` where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Vectors(Body):
    """Vectors of one space, as lists of numbers or, shorter and faster, as the base64 of their bytes."""

    space: Text = Field(description="Id of the space, as `status` tells it.")
    vectors: list[list[FiniteFloat]] | None = Field(None, description="One list of numbers for each vector.")
    base64: str | None = Field(None, description="Instead: all vectors in a row, float32, little-endian.")
    ids: list[Text] | None = None
    labels: list[Text] | None = None
    precision: Precision | None = Field(None, description="Of the arithmetic that made them, where it is told.")

    def numbers(self) -> int:
        """About how many numbers the vectors have."""
        return len(self.base64) * 3 // 16 if self.base64 is not None else sum(map(len, self.vectors or ()))

    def vector_set(self, state: State, name: str) -> VectorSet:
        """The vectors as a set; `name` stands for them in messages."""
        space = known_space(state, self.space).space
        if self.precision is not None:
            space = replace(space, precision=self.precision)
        if (self.vectors is None) == (self.base64 is None):
            raise InputError(f"{name}: give 'vectors' or 'base64', one of the two")
        values: Any = self.vectors
        if self.base64 is not None:
            held = decoded(self.base64, name)
            if not held or len(held) % (4 * space.dim):
                raise InputError(f"{name}: {len(held):,} bytes are no float32 vectors of {space.dim} dimensions")
            values = np.frombuffer(held, dtype="<f4").reshape(-1, space.dim)
        elif any(len(row) != space.dim for row in self.vectors or ()):
            raise InputError(f"{name}: every vector of space {space} has {space.dim} numbers")
        with np.errstate(over="ignore"):  # numbers too large for float32 are refused as infinite
            vectors = np.asarray(values, dtype=np.float32)
        return VectorSet.from_arrays(vectors, ids=self.ids, labels=self.labels, space=space, name=name)


class ConditionBody(Body):
    """One condition on items: `{"key": "year", "op": ">=", "value": 2020}`."""

    key: Text
    op: Operator = "="
    value: Scalar | list[Scalar]


class SearchBody(Body):
    """Queries, as vectors, images or texts, and what to find."""

    queries: Vectors | None = None
    images: list[str] | None = Field(None, description="Image files in base64, embedded by the model at hand.")
    texts: list[Text] | None = Field(None, description="Texts, embedded by the model at hand.")
    space: Text | None = Field(None, description="Of images and texts: id of the space; the query space by default.")
    k: int = Field(10, ge=1)
    where: list[Text | ConditionBody] = Field([], description="Conditions that all hold, such as `shop=berlin`.")
    min_score: FiniteFloat | None = None
    max_fmr: FiniteFloat | None = None
    merge: Literal["calibrated", "raw"] = "calibrated"
    scale: Scale | None = None
    exact: bool = False
    count: bool = Field(True, description="Count the hits as traffic.")
    fuse: FiniteFloat | None = Field(None, ge=0, le=1)
    old_queries: Vectors | None = Field(None, description="For `fuse`: the same queries by the older model.")


class ImageItem(Body):
    """An item to add by its image."""

    id: Text
    image: str = Field(description="The file in base64.")
    label: Text | None = None


class AddBody(Body):
    """Items to add: by their vectors, or by images that the models at hand embed."""

    vectors: Vectors | None = None
    also: list[Vectors] = Field([], description="Vectors of the same items in other spaces.", max_length=16)
    images: list[ImageItem] | None = None
    metadata: dict[Text, dict[Text, Scalar]] | None = None
    update: bool = False


class RemoveBody(Body):
    """Items to remove."""

    ids: list[Text] = Field(min_length=1)


class SpaceBody(Body):
    """An embedding space, as `samespace.Space.to_dict` writes it."""

    weights: Text
    preprocessing: Text
    dim: int = Field(ge=1, le=65_536)
    normalized: bool
    name: Text = ""
    precision: Precision = "fp32"
    id: Text | None = None


class StepBody(Body):
    """A step of an upgrade; one with `expect` may be sent again when its answer was lost."""

    expect: Annotated[
        int | None, Field(ge=0, description="`steps_taken` of `status`: refused once another was taken.")
    ] = None


class UpgradeBody(StepBody):
    """A new model and what allows it; nothing at all stands for the planned upgrade."""

    model: Text | None = Field(None, description="Name of a model that the service was started with.")
    space: SpaceBody | None = Field(None, description="Instead of a model: the space of its vectors.")
    certificates: list[dict[str, Any]] = Field([], max_length=64)
    order: OrderName | None = None
    accept_uncertified: bool = False
    behind: bool = False
    grace: bool = False
    score: Score | None = None


class CalibrateBody(Body):
    """Labelled vectors that no model was trained on."""

    queries: Vectors
    gallery: Vectors
    certificate: dict[str, Any] | None = None
    fuse: FiniteFloat | None = Field(None, ge=0, le=1)
    old_queries: Vectors | None = None


class SwitchBody(StepBody):
    """How to switch to the space that a behind upgrade has filled."""

    share: FiniteFloat | None = None
    accept_worse: bool = False
    grace: bool = False


class SealBody(StepBody):
    """How to seal."""

    partial: bool = False
    unused_for: FiniteFloat | None = Field(None, ge=0)
    end_grace: bool = False


class JobBody(Body):
    """A backfill, by a model and the remembered images or by the vectors given."""

    vectors: Vectors | None = None
    model: Text | None = Field(
        None, description="Name of a model that the service was started with; by default the remembered one."
    )
    order: OrderName | None = None
    batch_size: int | None = Field(None, ge=1, le=65_536)
    items: int | None = Field(None, ge=1, lt=2**63)
    seconds: FiniteFloat | None = None
    rate: FiniteFloat | None = None
    p95: FiniteFloat | None = None
    epsilon: FiniteFloat | None = None
    retry: bool = False


def parsed(body: bytes) -> Any:
    """The value of a JSON text, in which no key comes twice: whoever stands in front may have read the other one.

    Raises:
        json.JSONDecodeError: it is no JSON.
        InputError: it is, but means nothing certain.
    """
    try:
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise InputError("parsing the body: it is nested too deep") from None
    except (json.JSONDecodeError, InputError):
        raise
    except UnicodeDecodeError:
        raise InputError("parsing the body: it is not UTF-8") from None
    except ValueError:
        raise InputError("parsing the body: a number has too many digits") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InputError(f"the body names the key '{twice[:40]}' twice")
    return found


def _no_number(text: str) -> Any:
    raise InputError(f"the body holds {text}, which is not a finite number")


def known_space(state: State, space: str) -> StoredSpace:
    """The space of an id. Raises SpaceError: the gallery has none such."""
    for kept in state.spaces.values():
        if kept.space.id == space:
            return kept
    known = ", ".join(str(kept.space) for kept in state.spaces.values() if not kept.retired)
    raise SpaceError(f"the gallery has no space '{space}'; it has {known}")


def decoded(text: str, what: str) -> bytes:
    """Bytes from base64. Raises InputError: it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{what} should be base64") from None


def filter_of(where: list[Any], limits: Limits) -> list[Condition]:
    """The conditions of a request."""
    found: list[Condition] = []
    for one in where:
        if isinstance(one, str):
            found.extend(conditions([one]))
        elif one.op == "in" or isinstance(one.value, list):
            if one.op not in ("=", "in") or not isinstance(one.value, list):
                raise InputError(f"the filter on '{one.key}': a list of values goes with 'in'")
            found.extend(conditions({one.key: one.value}))
        else:
            found.extend(conditions({one.key: (one.op, one.value)}))
    values = sum(len(one.value) if isinstance(one.value, tuple) else 1 for one in found)
    limits.require("conditions", values, "the filter's conditions and values")
    return found


def metadata_of(given: Mapping[str, Mapping[str, Any]] | None, limits: Limits) -> Mapping[str, Mapping[str, Any]]:
    """The metadata of a request, none of it too long."""
    for name, values in (given or {}).items():
        limits.require("metadata", len(json.dumps(values)), f"characters of the metadata of '{name}'")
    return given or {}


def reply(value: Any, status: int = 200) -> Response:
    """An answer as JSON."""
    return Response(msgspec.json.encode(_shown(value)), status, media_type="application/json")


def _shown(value: Any) -> Any:
    """JSON-ready values, spaces with their ids; what holds no space is left to msgspec."""
    if isinstance(value, Space):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _shown(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _shown(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(part) for part in value]
    return value
