"""Values as a request has them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError
from samespace.gallery.ledger.filters import Where, conditions
from samespace.space import Space, undeclared
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate


def sent_vectors(vectors: VectorSet) -> dict[str, Any]:
    """Vectors as a request has them."""
    if not isinstance(vectors, VectorSet):
        raise InputError(f"vectors go to the service as a VectorSet, got {type(vectors).__name__}")
    if vectors.space is None:
        raise undeclared(vectors.name)
    held = np.ascontiguousarray(vectors.vectors, dtype="<f4")
    return {
        "space": vectors.space.id,
        "precision": vectors.space.precision,
        "base64": base64.b64encode(held.data).decode(),
        "ids": vectors.ids.tolist() if vectors.has_ids else None,
        "labels": None if vectors.labels is None else vectors.labels.astype(str).tolist(),
    }


def sent_where(where: Where) -> list[dict[str, Any]]:
    """Conditions as a request has them."""
    return [{"key": one.key, "op": one.operator, "value": one.value} for one in conditions(where)]


def sent_file(image: Path | bytes) -> str:
    """An image file as a request has it."""
    held = image if isinstance(image, bytes) else Path(image).read_bytes()
    return base64.b64encode(held).decode()


def sent_upgrade(model: str | Space | None, certificates: Sequence[Certificate]) -> dict[str, Any]:
    """The model or space of an upgrade, and its certificates, as a request has them."""
    body: dict[str, Any] = {"certificates": [certificate.to_dict() for certificate in certificates]}
    if isinstance(model, Space):
        body["space"] = model.to_dict()
    elif model is not None:
        body["model"] = model
    return body
