"""What vectors say of the model that made them: on which classes it was trained, and what was chosen on which."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from samespace.files import read_json
from samespace.vectors import VectorSet


def provenance_notes(sides: Iterable[tuple[str, Path, VectorSet]]) -> list[str]:
    """Notes for a certificate from `provenance.json` in folders of vectors, where `samespace embed` wrote one.

    `sides` are models, such as `the new model`, with the folder of vectors that each one made and these vectors.

    Raises:
        InputError: the file is damaged.
    """
    notes = []
    for model, folder, vectors in sides:
        file = folder / "provenance.json"
        if vectors.labels is None or not file.is_file():
            continue
        about = read_json(file, "what 'samespace embed' says of a model")
        validation = about.get("validation") or {}
        checked = set(np.unique(vectors.labels).astype(str).tolist())
        for use, classes in (("trained on", about.get("classes")), ("validated on", validation.get("classes"))):
            shared = sorted(checked & set(classes or ()))
            if shared:
                notes.append(
                    f"{len(shared):,} of the {len(checked):,} checked classes have the names of classes that {model} "
                    f"was {use}, such as '{shared[0]}': where they are the same, this check is not of new classes."
                )
        if kept := validation.get("kept"):
            notes.append(
                f"Of {model}'s training, the state that was best by {kept['metric']} {kept['test']} was kept, chosen "
                f"on {len(validation['classes']):,} classes that it was not trained on"
                + ("." if checked & set(validation["classes"]) else ", none of which is checked here.")
            )
    return notes
