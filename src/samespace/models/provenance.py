"""What a model learnt from, written beside its vectors so that a check can say so."""

from __future__ import annotations

from pathlib import Path

from samespace.files import read_json, write_json
from samespace.models.classifier import Classifier


def save_provenance(model: Path, vectors: Path) -> None:
    """Write `provenance.json` into a folder of vectors: on which classes their model was trained, and chosen.

    `model` is a model's folder; the classes are those of its classifier, and what was chosen on validation classes is
    in `training.json` of the training that the folder lies in. A model that says neither leaves no file.

    Raises:
        InputError: the classifier or `training.json` is damaged.
    """
    about: dict[str, object] = {}
    classifier, training = model / "classifier.safetensors", model.parent / "training.json"
    if classifier.is_file():
        about["classes"] = list(Classifier.load(classifier).classes)
    if model.name == "model" and training.is_file():
        about["validation"] = read_json(training, "a finished training").get("validation")
    if any(about.values()):
        write_json(vectors / "provenance.json", {"model": model.resolve().parent.name, **about})
