"""Prototypes: one centre per class in the old space, made from old features.

`mean` (the paper's "vanilla average"), `trimmed` (its "drop average") and `refined` (its structural refinement) take
features (N, D) and labels (N,) and return (num_classes, D) float32, not re-normalised: the heads normalise. A class
without samples is a row of NaN. `refined_weights` and `effective_sample_size` show how refinement weighs each sample;
`extend_classifier` appends synthesised rows for new classes to an old classifier. `distance_to_centre` and
`turn_in_class` are orders in which to re-embed a gallery.

Features may be tensors or numpy arrays of any floating type, memory-mapped ones too; they are read in blocks and
normalised on the fly, so no second copy of them is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samespace.prototypes.centres import extend_classifier, mean, trimmed
    from samespace.prototypes.outliers import distance_to_centre, turn_in_class
    from samespace.prototypes.refinement import effective_sample_size, refined, refined_weights, weighted

__all__ = [
    "distance_to_centre",
    "effective_sample_size",
    "extend_classifier",
    "mean",
    "refined",
    "refined_weights",
    "trimmed",
    "turn_in_class",
    "weighted",
]

_HOME = {
    "distance_to_centre": "outliers",
    "effective_sample_size": "refinement",
    "extend_classifier": "centres",
    "mean": "centres",
    "refined": "refinement",
    "refined_weights": "refinement",
    "trimmed": "centres",
    "turn_in_class": "outliers",
    "weighted": "refinement",
}


def __getattr__(name: str) -> Any:
    # the orders of a backfill need no torch, the prototypes do: each name is loaded when first used
    if name in _HOME:
        return getattr(importlib.import_module(f"samespace.prototypes.{_HOME[name]}"), name)
    raise AttributeError(f"module 'samespace.prototypes' has no attribute '{name}'")
